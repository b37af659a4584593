"""One cluster behind one object. Objects are plain dicts; every error names the mesh, the server and what was asked."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from typing import TypeVar

import urllib3

from harness.cluster import streams
from harness.cluster.kinds import CRD, NAMESPACE, Kind, kind_of
from harness.cluster.streams import LogStream
from harness.cluster.transport import (
    RETRY_SECONDS,
    ClusterError,
    Forbidden,
    Gone,
    Invalid,
    KubeconfigError,
    NotFound,
    Object,
    Objects,
    Told,
    Transport,
    Unauthorized,
)
from harness.run.waiting import Deadline, Pauses, WaitTimeout, pause

T = TypeVar("T")
FIELD_MANAGER = "ossm-federation-conformance"
_WATCH_SECONDS = 60.0  # how long one watch is asked to live; it is renewed from where it ended
_AGAIN_SECONDS = 0.2  # between two lists
_STALE = 1.0  # seconds: the Date of an answer may have been kept for as long on its way
_EXACT, _EXACT_PAUSE = 0.2, 0.05  # seconds: answers spread over a second tell its fraction


class Cluster:
    """One cluster. Thread-safe; `close` ends everything that is open.

    name: the mesh it carries, used in every error; patience: for how many seconds safe requests are repeated.
    Nothing is sent before the first call; an unusable kubeconfig or context raises KubeconfigError here.
    """

    def __init__(
        self, name: str, kubeconfig: Path, context: str | None = None, patience: float = RETRY_SECONDS
    ) -> None:
        self.name, self.kubeconfig, self.context = name, Path(kubeconfig), context
        self._followers: list[Cluster] = []
        self._transport = Transport(name, self.kubeconfig, context, patience)

    def __repr__(self) -> str:
        return f"Cluster({self.name}, {self.server})"

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._transport.server

    def interrupt(self, writes: bool = False) -> None:
        """Ends every wait, stream and request that is going on, in whatever thread; what comes later works as before.

        A write in flight is let be, but with `writes`: whether it was done is not known then.
        """
        self._transport.interrupt(writes)

    @property
    def cancelled(self) -> Event:
        """Set by the next `interrupt`: for waits on other things than the API server."""
        return self._transport.cancelled

    def close(self) -> None:
        """Like interrupt, and gives back the connections; asked anything later, it raises Cancelled."""
        self._transport.close()
        for other in list(self._followers):
            other.close()

    @property
    def unanswered(self) -> bool:
        """Whether something was asked for until the patience was over, and has not been answered since."""
        return bool(self._transport.gone)

    def with_patience(self, seconds: float) -> Cluster:
        """The same for somebody with another patience; closed with this one, if not before."""
        found = Cluster(self.name, self.kubeconfig, self.context, seconds)
        self._followers.append(found)
        if self._transport.closed:
            found.close()
        return found

    # Objects

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """Raises NotFound."""
        return self._transport.request("GET", kind.path(namespace, name))

    def find(self, kind: Kind, name: str, namespace: str | None = None) -> Object | None:
        """Like get, but None where the object (or its kind) is not there."""
        with contextlib.suppress(NotFound):
            return self.get(kind, name, namespace)
        return None

    def list(self, kind: Kind, namespace: str | None = None, label_selector: str | None = None) -> Objects:
        """All objects, of all namespaces without `namespace`; raises NotFound where the kind is not served."""
        return self._list(kind, namespace, {"labelSelector": label_selector} if label_selector else {})[0]

    def _list(
        self,
        kind: Kind,
        namespace: str | None,
        params: dict[str, str],
        within: float | None = None,
        cancelled: Event | None = None,
        told: Told = lambda _: None,
    ) -> tuple[Objects, str]:
        path = kind.path(namespace)
        answer = self._transport.request("GET", path, params, within=within, cancelled=cancelled, told=told)
        items = answer.get("items") or []
        for item in items:
            item.setdefault("apiVersion", kind.api_version)
            item.setdefault("kind", kind.kind)
        return items, answer["metadata"].get("resourceVersion", "")

    def apply(self, obj: Object, force: bool = True, kind: Kind | None = None, told: Told = lambda _: None) -> Object:
        """Server-side apply under our field manager; what is the same already is not changed. Raises ClusterError.

        `kind` is needed for a kind that harness/cluster/kinds.py does not name; `told` hears of what stands in its way
        while it is tried again.
        """
        kind, meta = kind or kind_of(obj), obj["metadata"]
        params = {"fieldManager": FIELD_MANAGER, "force": str(force).lower(), "fieldValidation": "Strict"}
        path = kind.path(meta.get("namespace"), meta["name"])
        content_type = "application/apply-patch+yaml"
        return self._transport.request("PATCH", path, params, obj, content_type, races=force, told=told)

    def create(self, obj: Object, dry_run: bool = False) -> Object:
        """Raises Conflict where the object exists already; with `dry_run` it is only checked, by webhooks too."""
        path = kind_of(obj).path(obj["metadata"].get("namespace"))
        params = {"fieldManager": FIELD_MANAGER} | ({"dryRun": "All"} if dry_run else {})
        return self._transport.request("POST", path, params, obj, repeat=dry_run)

    def patch(
        self, kind: Kind, name: str, namespace: str | None, change: Object, subresource: str | None = None
    ) -> Object:
        """JSON merge patch; raises NotFound, and Conflict where `change` carries an old resourceVersion."""
        path = kind.path(namespace, name, subresource)
        params = {"fieldManager": FIELD_MANAGER}
        races = "resourceVersion" not in (change.get("metadata") or {})
        return self._transport.request("PATCH", path, params, change, "application/merge-patch+json", races=races)

    def delete(self, kind: Kind, name: str, namespace: str | None = None) -> None:
        """Asks for deletion (dependents in the background); an object that is not there is deleted already."""
        with contextlib.suppress(NotFound):
            body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
            self._transport.request("DELETE", kind.path(namespace, name), body=body, races=True)

    # Waiting

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        version: str,
        params: dict[str, str],
        seconds: float,
        cancelled: Event | None = None,
        within: float | None = None,
        told: Told = lambda _: None,
    ) -> Iterator[tuple[str, Object]]:
        """Events after resource version `version` as (type, object), BOOKMARK included, for about `seconds`.

        Ends when the server or the connection ends it; raises Gone when the version is too old. `within`: for how
        many seconds its opening is tried again, if less than the patience; `told`: of what stands in its way meanwhile.
        """
        asked = {
            **params,
            "watch": "true",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(max(1, round(seconds))),
        }
        response = self._transport.open(kind.path(namespace), asked, seconds + 1, cancelled, within, told)
        try:
            for line in streams.lines_of(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    error = Gone if status.get("code") == 410 else ClusterError
                    raise error(self.name, f"watch {kind.plural}", status.get("message", ""), status.get("code", 0))
                yield event["type"], event["object"]
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return
        finally:
            self._transport.release(response)

    def wait(
        self,
        what: str,
        kind: Kind,
        namespace: str | None = None,
        name: str | None = None,
        label_selector: str | None = None,
        *,
        until: Callable[[Objects], T | None],
        timeout: float,
        describe: Callable[[Objects], str] | None = None,
        seen: Callable[[str], None] = lambda _: None,
        cancelled: Event | None = None,
        served: bool = False,
    ) -> T:
        """Waits until `until(objects)` gives something other than None or False, and returns that.

        Driven by a watch that is renewed when it ends, is cut or grows too old; a kind that is not served yet has no
        objects, but with `served` that raises NotFound at once. `describe` puts the last objects into words for the
        WaitTimeout raised after `timeout` seconds, and for `seen`, which is told of every change, and of the API
        server's trouble as long as it lasts. What was asked for in vain before is not waited for: WaitTimeout at once.
        `cancelled`: as `Cluster.cancelled` was when the decision to wait was made.
        """
        deadline, cancelled = Deadline(timeout), cancelled or self._transport.cancelled
        params = {"labelSelector": label_selector} if label_selector else {}
        if name:
            params["fieldSelector"] = f"metadata.name={name}"
        objects: dict[str, Object] = {}
        trouble, pauses = "", Pauses()

        def words() -> str:
            return (describe or describe_objects)(list(objects.values()))

        def look() -> T | None:
            answer = until(list(objects.values()))
            seen(words())
            return None if answer is False else answer

        def told(error: ClusterError | None) -> None:
            seen(_in_trouble(error) if error else words())

        while True:
            again = _AGAIN_SECONDS
            try:
                listed, version = self._list(kind, namespace, params, deadline.left, cancelled, told)
                objects = {_key(obj): obj for obj in listed}
                trouble = ""
                if (answer := look()) is not None:
                    return answer
                while not deadline.passed:
                    news = False
                    seconds = min(deadline.left, _WATCH_SECONDS)
                    watch = self.watch(kind, namespace, version, params, seconds, cancelled, deadline.left, told)
                    for event, obj in watch:
                        version = obj["metadata"]["resourceVersion"]
                        news = news or (event != "BOOKMARK" and objects.get(_key(obj)) != obj)
                        if event == "DELETED":
                            objects.pop(_key(obj), None)
                        elif event != "BOOKMARK":
                            objects[_key(obj)] = obj
                        if (answer := look()) is not None:
                            return answer
                        if deadline.passed:
                            break
                    seen(words())  # which may change with time alone
                    pause(min(pauses.next(news), deadline.left), cancelled)
            except NotFound:
                if served:
                    raise
                objects, trouble = {}, f"{kind.api_version} {kind} is not served"
                seen(trouble)
            except (Forbidden, Unauthorized, Invalid, KubeconfigError):
                raise
            except ClusterError as error:
                if error.lasting:
                    raise WaitTimeout(self.name, what, deadline.waited, str(error)) from error
                trouble = "" if isinstance(error, Gone) else str(error)
                if trouble:
                    told(error)
                again = max(again, pauses.next(False))
            if deadline.passed:
                raise WaitTimeout(self.name, what, deadline.waited, trouble or words())
            pause(min(again, deadline.left), cancelled)

    def wait_served(self, kind: Kind, timeout: float) -> None:
        """Waits until the API server serves a kind, by its CRD."""
        name = f"{kind.plural}.{kind.api_version.split('/')[0]}"
        self.wait(
            f"{kind.api_version} {kind} to be served",
            CRD,
            name=name,
            until=lambda _: self.served(kind) or None,
            timeout=timeout,
            describe=lambda found: f"CustomResourceDefinition {name} {'there' if found else 'missing'}",
        )

    # The cluster

    def served(self, kind: Kind) -> bool:
        """Whether the API server serves this kind in this version."""
        with contextlib.suppress(NotFound):
            resources = self._transport.request("GET", kind.group_path).get("resources", [])
            return any(resource["name"] == kind.plural for resource in resources)
        return False

    def kind(self, api_version: str, name: str) -> Kind:
        """The kind as the API server describes it; raises NotFound where it is not served."""
        wanted = Kind(api_version, name, "")
        for resource in self._transport.request("GET", wanted.group_path).get("resources", []):
            if resource["kind"] == name and "/" not in resource["name"]:
                return Kind(api_version, name, resource["name"], resource["namespaced"])
        raise NotFound(self.name, f"find {api_version} {name}", "the API server does not serve this kind", 404)

    def groups(self) -> set[str]:
        """Names of the API groups that are served, the core group left out."""
        return {group["name"] for group in self._transport.request("GET", "/apis").get("groups") or []}

    def uid(self) -> str:
        """What tells two clusters apart: the uid of namespace kube-system."""
        return self.get(NAMESPACE, "kube-system")["metadata"]["uid"]

    def version(self) -> str:
        """Version of Kubernetes, such as `v1.27.3`."""
        return self._transport.request("GET", "/version")["gitVersion"]

    def knock(self) -> None:
        """Whether the API server answers and knows this user; what the user may see is another question.

        Raises ClusterError, at the latest when the patience is over twice: no answer is waited for longer.
        """
        self._transport.request("GET", "/version", prompt=True)
        # /version is answered to anybody, and what is served without a look at what is stored.
        with contextlib.suppress(Forbidden, NotFound):
            self._transport.request("GET", NAMESPACE.path(None, "kube-system"), prompt=True)

    def clock_offset(self) -> float:
        """Seconds the API server's clock is ahead of ours: to half a second, better after some answers."""
        self.version()
        return self._transport.clock.offset

    def its_time(self, moment: datetime) -> datetime:
        """A moment by this machine's clock, as the cluster's has it: the same where they differ by no more than 1 s."""
        offset = self._transport.clock.offset
        return moment + timedelta(seconds=offset) if abs(offset) > _STALE else moment

    def compare_clocks(self, within: float = 3.0) -> None:
        """Asks until `its_time` is right to a tenth of a second, where the clocks differ; for `within` seconds at most.

        Raises ClusterError.
        """
        deadline, clock = Deadline(within), self._transport.clock
        while not deadline.passed:
            self._transport.request("GET", "/version", prompt=True)
            if abs(clock.offset) < _STALE / 2 or clock.width < _EXACT:
                break
            pause(_EXACT_PAUSE, self.cancelled)

    def now(self) -> datetime:
        """The time of the API server, by its answers; UTC."""
        return datetime.now(UTC) + timedelta(seconds=self._transport.clock.offset)

    def allowed(self, verb: str, kind: Kind, subresource: str = "", namespace: str = "") -> bool:
        """Whether this user may do something, by SelfSubjectAccessReview; everywhere without `namespace`."""
        asked = {"verb": verb, "resource": kind.plural, "subresource": subresource, "namespace": namespace}
        asked["group"] = kind.api_version.partition("/")[0] if "/" in kind.api_version else ""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {key: value for key, value in asked.items() if value}},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return self._transport.request("POST", path, body=review, repeat=True)["status"]["allowed"]

    # Pods

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        follow: bool = False,
        since: datetime | None = None,
        tail: int | None = None,
        previous: bool = False,
    ) -> LogStream:
        """Lines of a container's log, without line ends; `previous` is the log its last restart left behind.

        `close` may be called from another thread.
        """
        asked = streams.LogQuery(container, follow, since, tail, previous)
        return streams.open_log(self._transport, namespace, pod, asked)

    def exec(self, namespace: str, pod: str, container: str, argv: Sequence[str], timeout: float = 30) -> str:
        """Runs a command in a container and returns what it wrote to stdout; raises ClusterError on another exit."""
        return streams.run_command(self._transport, namespace, pod, container, argv, timeout)

    def port_forward(self, namespace: str, pod: str, port: int) -> streams.ForwardedSocket:
        """A connected socket to a port of a pod, through the API server; close it when done."""
        return streams.forward(self._transport, namespace, pod, port)


def _in_trouble(error: ClusterError) -> str:
    """What an API server does instead of answering, for people who wait."""
    return f"the API of {error.mesh} {'answers' if error.status else 'gives'} {error.detail}"


def _key(obj: Object) -> str:
    return f"{obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"


def describe_objects(objects: Objects) -> str:
    """Names and status conditions in one line: what a WaitTimeout shows unless told better."""
    if not objects:
        return "no such object"
    return "; ".join(f"{obj['metadata']['name']} {_conditions(obj)}".strip() for obj in objects[:10])


def _conditions(obj: Object) -> str:
    found = (obj.get("status") or {}).get("conditions") or []
    shown = []
    for condition in found:
        text = f"{condition['type']}={condition['status']}"
        detail = " ".join(part for part in (condition.get("reason"), condition.get("message")) if part)
        shown.append(f"{text} ({detail})" if detail and condition["status"] != "True" else text)
    return ", ".join(shown) or "without status"
