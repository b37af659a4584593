"""Two meshes of the captured scenario, joined by the real discovery protocol but without proxies.

Each mesh runs the lab's federation on objects of the capture, kept by a small stand-in for the API. Between the two
stands `_Way`: it does to a discovery request what the two gateways are configured to do by the in-memory objects.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
from aiohttp import web

from lab import resources
from lab.client import ApiError, key_of
from lab.istiod.federation import run_federation
from lab.istiod.state import MeshState
from lab.resources import Resource
from lab.settings import ClusterSettings
from selftests.support.loopback import loopback_address
from selftests.support.stories import told_in

Load = Callable[[str], Any]
Object = dict[str, Any]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
PATIENCE = 15.0
"""Seconds until a test gives up on something that does not come."""
KINDS = {
    "services": resources.SERVICE,
    "endpoints": resources.ENDPOINTS,
    "pods": resources.POD,
    "config_maps": resources.CONFIG_MAP,
    "smmr": resources.SMMR,
    "peers": resources.PEER,
    "exports": resources.EXPORTS,
    "imports": resources.IMPORTS,
}


class MemoryApi:
    """The part of the API that federation uses; every write reaches the mesh's copies at once."""

    def __init__(self) -> None:
        self.states: list[MeshState] = []
        self.version = 0
        self.writes: list[tuple[str, str]] = []
        self.wakers: set[asyncio.Event] = set()

    def items(self, kind: Resource) -> dict[tuple[str, str], Object]:
        return self._informers(kind)[0].items

    def put(self, kind: Resource, obj: Object) -> Object:
        """Creates or replaces an object as a user does."""
        self.version += 1
        stored = copy.deepcopy(obj)
        stored["metadata"]["resourceVersion"] = str(self.version)
        for informer in self._informers(kind):
            informer._set(key_of(stored), stored)
        self.wake()
        return stored

    def remove(self, kind: Resource, key: tuple[str, str]) -> None:
        for informer in self._informers(kind):
            informer._set(key, None)
        self.wake()

    def edit(self, kind: Resource, key: tuple[str, str], **spec: Any) -> None:
        """Merges into the spec and counts the generation up."""
        new = copy.deepcopy(self.items(kind)[key])
        new["spec"] = _merged(new.get("spec") or {}, spec)
        new["metadata"]["generation"] = new["metadata"].get("generation", 1) + 1
        self.put(kind, new)

    def wake(self) -> None:
        for event in self.wakers:
            event.set()

    async def find(self, kind: Resource, name: str, namespace: str | None = None) -> Object | None:
        return copy.deepcopy(self.items(kind).get((namespace or "", name)))

    async def create(self, kind: Resource, obj: Object) -> Object:
        if key_of(obj) in self.items(kind):
            raise ApiError(409, "AlreadyExists", "it is there already")
        return self.put(kind, obj)

    async def merge(
        self, kind: Resource, name: str, namespace: str | None, patch: Object, sub: str | None = None
    ) -> Object:
        current = self.items(kind).get((namespace or "", name))
        if current is None:
            raise ApiError(404, "NotFound", "not there")
        expected = (patch.get("metadata") or {}).get("resourceVersion")
        if expected not in (None, current["metadata"]["resourceVersion"]):
            raise ApiError(409, "Conflict", "it was changed")
        self.writes.append((kind.kind, sub or ""))
        part = {"status": patch.get("status")} if sub == "status" else patch
        return self.put(kind, _merged(current, part))

    def join(self, state: MeshState) -> None:
        """Gives a state the objects there are, and from now on all changes."""
        for field in KINDS if self.states else ():
            getattr(state.informers, field).items.update(getattr(self.states[0].informers, field).items)
        for informer in state.informers.all():
            informer.synced.set()
        state.on_publish(self.wake)
        self.states.append(state)

    def _informers(self, kind: Resource) -> list[Any]:
        field = next(field for field, known in KINDS.items() if known == kind)
        return [getattr(state.informers, field) for state in self.states]


def _merged(target: Any, patch: Any) -> Any:
    """A JSON merge patch, RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


class Mesh:
    """One mesh: its objects, its federation and its way out."""

    def __init__(self, observed: Load, name: str, peer: str, smcp: str, version: str) -> None:
        self.name, self.peer_name, self.namespace = name, peer, f"{name}-system"
        self.key = (self.namespace, peer)
        self.pod_ip, self.egress_ip = loopback_address(), loopback_address()
        self.api = MemoryApi()
        self._settings = ClusterSettings(
            name,
            16,
            "/nowhere",
            "https://nowhere",
            "",
            ossm_version=version,
            blind_seconds=0,
            import_seconds=0,
            stale_seconds=0,
        )
        self._smcp = smcp
        self._tasks: list[asyncio.Task[None]] = []
        self.state = self._join(1, self.pod_ip)
        self._fill(observed, smcp)

    def _join(self, number: int, pod_ip: str) -> MeshState:
        pod = f"istiod-{self._smcp}-{number}"
        state = MeshState(self._settings, self.api, self.namespace, self._smcp, pod, pod_ip)  # type: ignore[arg-type]
        self.api.join(state)
        meta = {"name": pod, "namespace": self.namespace, "labels": {"app": "istiod"}}
        self.api.put(resources.POD, {"metadata": meta, "status": {"podIP": pod_ip}})
        return state

    def add_istiod(self, number: int | None = None) -> MeshState:
        """Starts another istiod of this mesh; the number ends the name of its pod."""
        address = loopback_address()
        state = self._join(len(self.api.states) + 1 if number is None else number, address)
        self._tasks.append(asyncio.create_task(run_federation(state)))
        return state

    def _fill(self, observed: Load, smcp: str) -> None:
        for kind in ("services", "endpoints", "pods"):
            for place in ("system", "bookinfo"):
                content = observed(f"healthy/objects/{self.name}-{place}-{kind}.json")
                for item in content["items"] if isinstance(content, dict) else content:
                    # The captured istiod would be another one beside this mesh's own.
                    if kind != "pods" or item["metadata"]["labels"].get("app") != "istiod":
                        self.api.put(KINDS[kind], item)
        egress = copy.deepcopy(self.api.items(resources.SERVICE)[self.namespace, f"{self.peer_name}-egress"])
        egress["spec"]["clusterIP"] = self.egress_ip
        self.api.put(resources.SERVICE, egress)
        mesh = f"accessLogFile: /dev/stdout\ntrustDomain: {self.name}.local\n"
        self.config_map(f"istio-{smcp}", mesh=mesh)
        self.api.put(resources.SMMR, self.object("default", status={"configuredMembers": [f"{self.name}-bookinfo"]}))

    def object(self, name: str, **parts: Any) -> Object:
        return {"metadata": {"name": name, "namespace": self.namespace}, **parts}

    def config_map(self, name: str, **data: str) -> None:
        self.api.put(resources.CONFIG_MAP, self.object(name, data=data))

    def set_up(self, observed: Load) -> None:
        """Applies peer and set of the capture, without their statuses."""
        self.config_map(f"{self.peer_name}-ca-root-cert", **{"root-cert.pem": f"root of {self.peer_name}"})
        for file, kind in (
            (f"{self.name}-servicemeshpeer-{self.peer_name}", resources.PEER),
            (f"{self.name}-exportedserviceset-{self.peer_name}", resources.EXPORTS),
            (f"{self.name}-importedserviceset-{self.peer_name}", resources.IMPORTS),
        ):
            try:
                found = observed(f"healthy/objects/{file}.json")
            except FileNotFoundError:
                continue
            self.api.put(kind, {part: value for part, value in found.items() if part != "status"})

    def status(self, kind: Resource = resources.PEER) -> Object:
        return self.api.items(kind)[self.key].get("status") or {}

    def entry(self) -> Object:
        """This pod's entry of the peer's status, with the list it stands in as `list`."""
        lists = self.status().get("discoveryStatus") or {}
        return next(({"list": name, **entries[0]} for name, entries in lists.items() if entries), {})

    def objects(self) -> dict[tuple[str, str], Object]:
        output = self.state.federation.get(self.peer_name)
        return {(item["kind"], item["name"]): item for item in (output.objects if output else ())}

    async def start(self) -> None:
        """Starts an istiod, which has looked for peers when this returns."""
        callbacks = self.state.informers.peers._callbacks
        before = len(callbacks)
        task = asyncio.create_task(run_federation(self.state))
        self._tasks.append(task)
        while len(callbacks) == before and not task.done():
            await asyncio.sleep(0)

    async def restart(self, **settings: Any) -> None:
        """Ends all istiods and starts one that knows nothing of before, with some settings changed."""
        await self.stop()
        self._settings = replace(self._settings, **settings)
        for state in self.api.states:
            self.api.remove(resources.POD, (self.namespace, state.pod_name))
        self.state = self._join(len(self.api.states) + 1, self.pod_ip)
        del self.api.states[:-1]
        await self.start()

    async def end_first(self) -> None:
        """Ends the istiod that was there first, and its pod."""
        self._tasks[0].cancel()
        await asyncio.gather(self._tasks.pop(0), return_exceptions=True)
        self.api.remove(resources.POD, (self.namespace, self.state.pod_name))

    def lock_holder(self) -> str:
        """Which istiod writes the statuses, as its record says."""
        found = self.api.items(resources.CONFIG_MAP)[self.namespace, "servicemesh-federation"]
        return str(found["metadata"]["annotations"])

    async def ended(self) -> None:
        """Returns when federation ended by itself."""
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Ends all istiods as SIGTERM does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


async def until(condition: Callable[[], Any], *meshes: Mesh) -> None:
    """Returns when the condition holds; it is looked at after every write and every change of one of the meshes."""
    woken = asyncio.Event()
    for mesh in meshes:
        mesh.api.wakers.add(woken)
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await woken.wait()
                woken.clear()
    finally:
        for mesh in meshes:
            mesh.api.wakers.discard(woken)


class _Way:
    """From one mesh's egress gateway to the other's ingress gateway and its istiod, as their objects say."""

    def __init__(self, near: Mesh, far: Mesh, address: str) -> None:
        self.near, self.far, self.address = near, far, address
        self.broken = False
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._streams: set[asyncio.Transport] = set()

    async def open(self) -> None:
        """Opens both gateways; `broken` makes the far one unreachable."""
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False, limit=0))
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.near.egress_ip, 8188).start()

    async def close(self) -> None:
        """Takes the egress gateway away."""
        if self._runner:
            await self._runner.cleanup()
        if self._session:
            await self._session.close()

    def cut(self) -> None:
        """Breaks the streams that are open, as gateways do whose listeners change."""
        for stream in self._streams:
            stream.abort()

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        """(status, body) of the proxy that does not let a request through."""
        near, far = self.near.objects(), self.far.objects()
        routes = near["VirtualService", f"federation-discovery-{self.near.peer_name}-egress"]["spec"]
        if request.host not in {f"{host}:8188" for host in routes["hosts"]}:
            return 404, ""
        wanted = routes["http"][0]["match"][0]["headers"]
        if any(request.headers.get(name) != match["exact"] for name, match in wanted.items()):
            return 404, ""
        entry = near["ServiceEntry", f"federation-discovery-{self.near.peer_name}"]["spec"]
        ports = {(endpoint["address"], *endpoint["ports"].values()) for endpoint in entry["endpoints"]}
        if self.broken or (self.address, 8188) not in ports or not far:
            return 503, "upstream connect error"
        policy = far["AuthorizationPolicy", f"federation-discovery-{self.far.peer_name}"]["spec"]
        allowed = policy["rules"][0]["from"][0]["source"]["notPrincipals"]
        gateway = near["Gateway", f"federation-discovery-{self.near.peer_name}-egress"]["spec"]["selector"]
        account = f"{gateway['service.istio.io/canonical-name']}-service-account"
        if f"{self.near.state.trust_domain}/ns/{self.near.namespace}/sa/{account}" not in allowed:
            return 403, "RBAC: access denied"
        return None

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        refusal = self._refusal(request)
        if refusal:
            return web.Response(status=refusal[0], text=refusal[1])
        routes = self.far.objects()["VirtualService", f"federation-discovery-{self.far.peer_name}-ingress"]["spec"]
        route = next((each for each in routes["http"] if each["match"][0]["uri"]["exact"] == request.path), None)
        if route is None:
            return web.Response(status=404)
        assert self._session
        url = f"https://{self.far.pod_ip}:8188{route['rewrite']['uri']}"
        try:
            answer = await self._session.get(url, headers={"X-Forwarded-For": f"{request.remote},10.201.0.1"})
        except aiohttp.ClientError:
            return web.Response(status=503, text="upstream connect error")
        async with answer:
            response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
            await response.prepare(request)
            stream = request.transport
            assert stream
            self._streams.add(stream)
            try:
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
            except aiohttp.ClientError:
                stream.abort()
            else:
                await response.write_eof()
            finally:
                self._streams.discard(stream)
            return response


class _WakeUp(logging.Handler):
    """Has conditions looked at after log lines, too."""

    def __init__(self, *meshes: Mesh) -> None:
        super().__init__()
        self._meshes = meshes

    def emit(self, _: logging.LogRecord) -> None:
        for mesh in self._meshes:
            mesh.api.wake()


class Pair:
    """mesh1 (exports) and mesh2 (imports) with the ways between them."""

    def __init__(self, observed: Load, version: str = "2.1.6") -> None:
        self.observed = observed
        self.mesh1 = Mesh(observed, "mesh1", "mesh2", "fed-export", version)
        self.mesh2 = Mesh(observed, "mesh2", "mesh1", "fed-import", version)
        self.way_out = {
            "mesh1": _Way(self.mesh1, self.mesh2, "10.200.0.12"),
            "mesh2": _Way(self.mesh2, self.mesh1, "10.200.0.11"),
        }

    async def until(self, condition: Callable[[], Any]) -> None:
        await until(condition, self.mesh1, self.mesh2)

    def connected(self) -> bool:
        """Whether both watches are connected and what mesh1 exports stands in mesh2's imports."""
        entries = [mesh.entry() for mesh in (self.mesh1, self.mesh2)]
        synced = all(
            entry.get("list") == "active"
            and "lastFullSync" in entry["watch"]
            and any("lastFullSync" in remote and remote["connected"] for remote in entry.get("remotes", ()))
            for entry in entries
        )
        return synced and bool(self.mesh2.status(resources.IMPORTS).get("importedServices"))


@asynccontextmanager
async def pair(observed: Load, version: str = "2.1.6", *, open_ways: bool = True) -> AsyncIterator[Pair]:
    """Two running meshes without peers yet; everything ends with the context."""
    both = Pair(observed, version)
    scope, waker = logging.getLogger("federation"), _WakeUp(both.mesh1, both.mesh2)
    scope.setLevel(logging.INFO)
    scope.addHandler(waker)
    try:
        for mesh in (both.mesh1, both.mesh2):
            await mesh.start()
        if open_ways:
            for way in both.way_out.values():
                await way.open()
        yield both
    finally:
        for mesh in (both.mesh1, both.mesh2):
            await mesh.stop()
        for way in both.way_out.values():
            await way.close()
        scope.removeHandler(waker)


@asynccontextmanager
async def federated(observed: Load, version: str = "2.1.6") -> AsyncIterator[Pair]:
    """Two meshes that are connected and have exchanged their services."""
    async with pair(observed, version) as both:
        for mesh in (both.mesh1, both.mesh2):
            mesh.set_up(observed)
        await both.until(both.connected)
        yield both


in_pair = told_in(pair)
in_federation = told_in(federated)
"""Tests that are told in two meshes, without peers or connected."""


def shape(value: Any) -> Any:
    """A status without what differs from run to run: times, pod names, addresses."""
    if isinstance(value, dict):
        return {key: "..." if key in ("pod", "source") else shape(part) for key, part in value.items()}
    if isinstance(value, list):
        return [shape(part) for part in value]
    return "time" if isinstance(value, str) and TIME.fullmatch(value) else value
