"""Two federated meshes of real Envoys with istiod's real configuration server, without a Kubernetes API.

mesh2's reviews calls ratings: its own, or mesh1's through the egress and the ingress gateway. Objects are put where
istiod's informers would put them; what federation would add is the captured one, with the addresses of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from lab.addresses import inside, outbound
from lab.client import ApiClient
from lab.istiod import xds
from lab.istiod.ca import CertificateAuthority
from lab.istiod.model import Endpoint, FederationOutput, Port, Service
from lab.istiod.state import MeshState
from lab.istiod.xds import ConfigServer
from lab.node.bootstrap import bootstrap
from lab.node.images import envoy_path
from lab.node.process import Process
from lab.node.readiness import Readiness
from lab.settings import ClusterSettings
from selftests.support.loopback import loopback_address

T = TypeVar("T")
Load = Callable[[str], Any]
HTTP = Port("http", 9080, "HTTP")
EXPORTED, IMPORTED = "ratings.bookinfo.svc.mesh2-exports.local", "ratings.mesh2-bookinfo.svc.mesh1-imports.local"
INGRESS_ID = "spiffe://mesh1.local/ns/mesh1-system/sa/mesh2-ingress-service-account"
EGRESS_ID = "spiffe://mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account"
_DEADLINE = 20.0


def split(remote: int, local: int) -> dict[str, Any]:
    """The VirtualService that divides calls of ratings between mesh1 and mesh2."""
    routes = [
        {"destination": {"host": host}, "weight": weight}
        for host, weight in ((IMPORTED, remote), ("ratings.mesh2-bookinfo.svc.cluster.local", local))
    ]
    return {"hosts": ["ratings.mesh2-bookinfo.svc.cluster.local"], "http": [{"route": routes}]}


class LiveMesh:
    """One mesh: istiod's state, its configuration server, and the pods' proxies."""

    def __init__(self, name: str, directory: Path, version: str = "2.1.6") -> None:
        self.name, self.system, self.bookinfo = name, f"{name}-system", f"{name}-bookinfo"
        self.directory = directory
        settings = ClusterSettings(name, 16, str(directory), "https://127.0.0.1:1", "", ossm_version=version)
        self.address = loopback_address()
        api = ApiClient(settings, "selftest")
        self.state = MeshState(settings, api, self.system, "basic", "istiod-1", self.address)
        self.authority = CertificateAuthority.self_signed(f"{name}.local")
        self.put("config_maps", self.system, "istio-basic", data={"mesh": f"trustDomain: {name}.local\n"})
        self.put("smmr", self.system, "default", status={"configuredMembers": [self.bookinfo]})
        self.server: ConfigServer | None = None

    def put(self, informer: str, namespace: str, name: str, **fields: Any) -> None:
        """Creates or changes an object."""
        kinds = getattr(self.state.informers, informer)
        labels = fields.pop("labels", {})
        metadata = {"name": name, "namespace": namespace, "labels": labels, "resourceVersion": str(time.monotonic_ns())}
        kinds._set((namespace, name), {"kind": kinds.kind.kind, "metadata": metadata, **fields})

    def remove(self, informer: str, namespace: str, name: str) -> None:
        getattr(self.state.informers, informer)._set((namespace, name), None)

    def service(self, namespace: str, name: str, port: dict[str, Any]) -> None:
        self.put("services", namespace, name, spec={"selector": {"app": name}, "ports": [port]})

    def pod(self, namespace: str, name: str, account: str) -> str:
        """Adds a pod behind the Service of its name, and returns its address."""
        address = loopback_address()
        labels = {"app": name, "service.istio.io/canonical-name": name, "security.istio.io/tlsMode": "istio"}
        self.put("pods", namespace, name, labels=labels, spec={"serviceAccountName": account})
        target = {"ip": address, "targetRef": {"name": name, "namespace": namespace}}
        self.put(
            "endpoints", namespace, name, subsets=[{"addresses": [target], "ports": [{"name": "http", "port": 9080}]}]
        )
        return address

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        self.server = ConfigServer(self.state, self.authority)
        app = web.Application()
        app.add_routes(self.server.routes())
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, self.address, xds.PORT).start()
        try:
            yield
        finally:
            await runner.cleanup()

    @contextlib.asynccontextmanager
    async def proxy(self, role: str, namespace: str, name: str, address: str) -> AsyncIterator[None]:
        """A running Envoy of a pod, ready."""
        pod = self.state.informers.pods.items[namespace, name]
        file = self.directory / f"{self.name}-{name}.json"
        config = bootstrap(pod, address, role, {"ISTIO_META_ROUTER_MODE": "sni-dnat"}, (self.address, xds.PORT))
        file.write_text(json.dumps(config))
        with (self.directory / f"{self.name}-{name}.log").open("wb") as log:
            argv = [str(envoy_path()), "-c", str(file), "--concurrency", "1", "--disable-hot-restart"]
            argv += ["-l", "warning", "--drain-time-s", "1"]
            process = Process.start(argv, {}, self.directory, log)
        try:
            ready = Readiness("proxy", {}, address, address)
            async with asyncio.timeout(_DEADLINE):
                while not await ready.look():
                    await asyncio.sleep(0.02)
            yield
        finally:
            process.kill()
            await process.exited


async def _app(address: str, name: str, stack: contextlib.AsyncExitStack) -> None:
    """A server that answers with its name and the identity its proxy saw."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"served by": name, "xfcc": request.headers.get("x-forwarded-client-cert", "")})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, address, 9080).start()


class LiveFederation:
    """Both meshes, driven from synchronous tests: the event loop runs in a thread of its own."""

    def __init__(self, observed: Load, directory: Path, version: str = "2.1.6") -> None:
        self._observed, self._directory, self._version = observed, directory, version
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = contextlib.AsyncExitStack()

    def __enter__(self) -> LiveFederation:
        self._thread.start()
        try:
            self.run(self._start())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def change(self, change: Callable[[], None]) -> None:
        """Runs `change` in the event loop."""

        async def run() -> None:
            change()

        self.run(run())

    async def _start(self) -> None:
        self.mesh1, self.mesh2 = (LiveMesh(name, self._directory, self._version) for name in ("mesh1", "mesh2"))
        port = {"name": "http", "port": 9080}
        for mesh in (self.mesh1, self.mesh2):
            mesh.service(mesh.bookinfo, "ratings", port)
        self.mesh2.service(self.mesh2.bookinfo, "reviews", port)
        ratings1 = self.mesh1.pod(self.mesh1.bookinfo, "ratings", "bookinfo-ratings")
        self.ingress = self.mesh1.pod(self.mesh1.system, "mesh2-ingress", "mesh2-ingress-service-account")
        self.ratings = ratings2 = self.mesh2.pod(self.mesh2.bookinfo, "ratings", "bookinfo-ratings")
        self.egress = self.mesh2.pod(self.mesh2.system, "mesh1-egress", "mesh1-egress-service-account")
        self.reviews = self.mesh2.pod(self.mesh2.bookinfo, "reviews", "bookinfo-reviews")
        self.federate()
        self.mesh2.put("virtual_services", self.mesh2.bookinfo, "ratings-split", spec=split(50, 50))
        for mesh in (self.mesh1, self.mesh2):
            await self._stack.enter_async_context(mesh.serving())
        await _app(inside(ratings1), "mesh1", self._stack)
        await _app(inside(ratings2), "mesh2", self._stack)
        start = self._stack.enter_async_context
        await start(self.mesh1.proxy("sidecar", self.mesh1.bookinfo, "ratings", ratings1))
        await start(self.mesh1.proxy("router", self.mesh1.system, "mesh2-ingress", self.ingress))
        await start(self.mesh2.proxy("sidecar", self.mesh2.bookinfo, "ratings", ratings2))
        await start(self.mesh2.proxy("router", self.mesh2.system, "mesh1-egress", self.egress))
        await start(self.mesh2.proxy("sidecar", self.mesh2.bookinfo, "reviews", self.reviews))
        # fresh connections, as the probes of the suite
        connector = TCPConnector(force_close=True)
        self._session = await start(ClientSession(connector=connector, timeout=ClientTimeout(total=10)))

    def federate(self, client_id: str = "") -> None:
        """Puts in place what federation adds, with `client_id` as the one mesh1 lets in (default: the right one)."""
        made1, made2 = (
            [item for item in copy.deepcopy(self._observed(f"healthy/discovery/{name}-istiod-configz.json"))
             if item["name"].startswith("federation-") and item["kind"] != "ServiceEntry"]
            for name in ("mesh1", "mesh2")
        )  # fmt: skip
        if client_id:
            for item in made1:
                for rule in item["spec"].get("rules", ()) if item["kind"] == "AuthorizationPolicy" else ():
                    rule["from"][0]["source"]["notPrincipals"] = [client_id]
        behind_egress = (Endpoint(self.egress, 15443, "http", True, EGRESS_ID),)
        behind_peer = (Endpoint(self.ingress, 15443, "http", True, INGRESS_ID),)
        public = Service(
            IMPORTED, "ratings.local", self.mesh2.system, (HTTP,), "", behind_egress, (EGRESS_ID,), "mesh1"
        )
        private = Service(
            EXPORTED,
            "ratings.remote",
            self.mesh2.system,
            (HTTP,),
            "",
            behind_peer,
            (INGRESS_ID,),
            "mesh1",
            private=True,
        )
        roots = {mesh.state.trust_domain: mesh.authority.root for mesh in (self.mesh1, self.mesh2)}
        self.mesh1.state.federation["mesh2"] = FederationOutput((), tuple(made1), {"mesh2.local": roots["mesh2.local"]})
        self.mesh2.state.federation["mesh1"] = FederationOutput(
            (public, private), tuple(made2), {"mesh1.local": roots["mesh1.local"]}
        )
        for mesh in (self.mesh1, self.mesh2):
            mesh.state.changed()

    def ask(self) -> tuple[int, dict[str, str]]:
        """One call of ratings by mesh2's reviews: status, and the answer if it is 200."""

        async def get() -> tuple[int, dict[str, str]]:
            url = f"http://{outbound(self.reviews)}:9080/ratings/0"
            async with self._session.get(url, headers={"Host": "ratings:9080"}) as answer:
                return answer.status, (await answer.json() if answer.status == 200 else {})

        return self.run(get())

    def until(self, what: str, condition: Callable[[], bool]) -> None:
        """Waits for a condition that a change makes true soon."""
        deadline = time.monotonic() + _DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"not seen within {_DEADLINE:.0f} s: {what}"
            threading.Event().wait(0.01)
