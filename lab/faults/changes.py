"""What faults are made of: changes of objects that can be taken back, and pods that are started anew."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import aiohttp

from lab import resources
from lab.client import ApiClient, ApiError, Object
from lab.node.bootstrap import ADMIN_PORT
from lab.processes.supervisor import LabError
from lab.resources import Resource

Edit = Callable[[Object], None]
_FROM_SERVER = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
)
_TRIES = 10
_QUIET_LOOKS = 3  # a tenth of a second apart: istiod gathers changes for that long
_WHEN = re.compile(r'"(last_updated|version_info)": "[^"]*"')


class Target(NamedTuple):
    """One object of one mesh."""

    mesh: str
    kind: Resource
    name: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.namespace}/{self.name} of {self.mesh}"


@dataclass(frozen=True)
class Change:
    """Makes one object other than it is.

    edit: changes the object in place; create: the object to create instead; neither: the object is deleted.
    recreate: after the edit the object is deleted and made anew, so that whoever keeps what it met first meets this.
    missed_by: label `app` of proxies that are to be told that it is gone before it is made anew.
    """

    target: Target
    edit: Edit | None = None
    create: Object | None = None
    recreate: bool = False
    missed_by: str = ""

    async def make(self, api: ApiClient) -> None:
        """LabError where an object that is to be edited is not there."""
        target = self.target
        if self.create is not None:
            await api.create(
                target.kind, {"apiVersion": target.kind.api_version, "kind": target.kind.kind, **self.create}
            )
        elif self.edit is None:
            await _delete(api, target)
        elif self.recreate:
            obj = await _existing(api, target)
            self.edit(obj)
            told = await held_by(api, target.namespace, self.missed_by) if self.missed_by else ""
            await _delete(api, target)
            if self.missed_by:
                await until_told(api, target.namespace, self.missed_by, told)
            await api.create(target.kind, _bare(obj))
        else:
            await _rewrite(api, target, self.edit)


@dataclass(frozen=True)
class Saved:
    """An object as it was before a change; `before` is None where there was none."""

    target: Target
    before: Object | None
    recreate: bool

    async def restore(self, api: ApiClient) -> None:
        """Puts back everything but what the server says of an object (metadata and status)."""
        target, before = self.target, self.before
        if before is None:
            await _delete(api, target)
        elif self.recreate or await api.find(target.kind, target.name, target.namespace) is None:
            await _delete(api, target)
            await api.create(target.kind, _bare(before))
        else:
            wanted = before
            await _rewrite(api, target, lambda obj: _put_back(obj, wanted))


async def save(api: ApiClient, change: Change) -> Saved:
    """What `restore` of the result puts back."""
    target = change.target
    return Saved(target, await api.find(target.kind, target.name, target.namespace), change.recreate)


def _put_back(obj: Object, before: Object) -> None:
    for part in {*obj, *before} - {"metadata", "status"}:
        if part in before:
            obj[part] = copy.deepcopy(before[part])
        else:
            del obj[part]


def _bare(obj: Object) -> Object:
    """The object without what the server writes, fit to be created again."""
    found = {key: value for key, value in obj.items() if key != "status"}
    found["metadata"] = {key: value for key, value in obj["metadata"].items() if key not in _FROM_SERVER}
    return found


async def _existing(api: ApiClient, target: Target) -> Object:
    found = await api.find(target.kind, target.name, target.namespace)
    if found is None:
        raise LabError(f"{target} is not there; faults are for a provisioned federation")
    return found


async def _rewrite(api: ApiClient, target: Target, edit: Edit) -> None:
    for attempt in range(_TRIES):
        obj = await _existing(api, target)
        edit(obj)
        try:
            await api.replace(target.kind, obj)
            return
        except ApiError as error:
            if error.status != 409 or attempt == _TRIES - 1:
                raise


async def _delete(api: ApiClient, target: Target) -> None:
    found = await api.find(target.kind, target.name, target.namespace)
    if found is None:
        return
    await api.delete(target.kind, target.name, target.namespace)
    for _ in range(_TRIES * 10):
        now = await api.find(target.kind, target.name, target.namespace)
        if now is None or now["metadata"]["uid"] != found["metadata"]["uid"]:
            return
        await asyncio.sleep(0.05)
    raise LabError(f"{target} does not go away, its finalizers: {found['metadata'].get('finalizers')}")


async def restart_pods(api: ApiClient, namespace: str, app: str) -> None:
    """Has the pods with this label `app` started anew, which ends all connections to them; returns when new ones are
    Ready, or after half a minute: then something else keeps them from it.
    """
    old = {pod["metadata"]["uid"] for pod in await _pods(api, namespace, app)}
    await api.request("DELETE", resources.POD.path(namespace), labelSelector=f"app={app}")
    for _ in range(300 if old else 0):
        now = await _pods(api, namespace, app)
        if now and all(pod["metadata"]["uid"] not in old and _is_ready(pod) for pod in now):
            return
        await asyncio.sleep(0.1)


async def held_by(api: ApiClient, namespace: str, app: str) -> str:
    """What the proxies of the pods with this label `app` are configured to do, in a form that can be compared."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        found = []
        for pod in await _pods(api, namespace, app):
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, KeyError):
                url = f"http://{pod['status']['podIP']}:{ADMIN_PORT}/config_dump"
                async with session.get(url) as answer:
                    found.append(_WHEN.sub("", json.dumps(await answer.json(content_type=None), sort_keys=True)))
    return "\n".join(sorted(found))


async def until_told(api: ApiClient, namespace: str, app: str, before: str) -> None:
    """Until these proxies hold something else than `before` and nothing more comes for a while; for 10 s at most."""
    last, same = before, 0
    for _ in range(100):
        await asyncio.sleep(0.1)
        now = await held_by(api, namespace, app)
        same = same + 1 if now == last else 0
        if same >= _QUIET_LOOKS and now != before:
            return
        last = now


async def _pods(api: ApiClient, namespace: str, app: str) -> list[Object]:
    found, _ = await api.list_objects(resources.POD, namespace, labelSelector=f"app={app}")
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


class Ledger:
    """The faults that are in force, one file each in the lab's directory, so that any process can take them back."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "faults"

    def _path(self, fault: str) -> Path:
        return self._directory / f"{fault}.json"

    def active(self) -> list[str]:
        """Names of the faults in force."""
        return sorted(path.stem for path in self._directory.glob("*.json"))

    def write(self, fault: str, saved: list[Saved]) -> None:
        """Remembers what was there before a fault; to be called before anything is changed."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        listed = [
            {
                **item.target._asdict(),
                "kind": item.target.kind._asdict(),
                "before": item.before,
                "recreate": item.recreate,
            }
            for item in saved
        ]
        part = self._path(fault).with_suffix(".part")
        part.write_text(json.dumps(listed))
        part.replace(self._path(fault))

    def read(self, fault: str) -> list[Saved]:
        """What was there before; LabError where the fault is not in force."""
        try:
            listed = json.loads(self._path(fault).read_text())
        except FileNotFoundError:
            raise LabError(f"{fault} is not in force; in force: {', '.join(self.active()) or 'none'}") from None
        return [
            Saved(
                Target(item["mesh"], Resource(**item["kind"]), item["name"], item["namespace"]),
                item["before"],
                item["recreate"],
            )
            for item in listed
        ]

    def forget(self, fault: str) -> None:
        self._path(fault).unlink(missing_ok=True)

    def holder_of(self, targets: set[Target]) -> str | None:
        """A fault in force that changed one of these objects; taking both back in any order would not be safe."""
        return next(
            (name for name in self.active() if targets & {saved.target for saved in self.read(name)}),
            None,
        )
