"""The proxies on the path of a ratings call, asked once, and what they logged of a few requests sent for this."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from concurrent.futures import Executor, Future
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from harness.cluster.transport import ClusterError, NotFound, Object, Objects
from harness.diagnosis.mesh_facts import Facts, MeshFacts
from harness.product.discovery import SERVICES_PATH, WATCH_PATH, DiscoveryAnswer, ask_through
from harness.product.envoy import AccessLine, Endpoint, Json, Proxy, access_log_paths, parse_access_line
from harness.product.names import CLUSTER_DOMAIN, has_sidecar, is_imported
from harness.product.status import condition_true
from harness.run.waiting import WaitTimeout, wait_for
from harness.scenario.entry import productpage_entry
from harness.split.probe import Page, Probe, ProbeClient

T = TypeVar("T")
REQUESTS = 24
_CONCURRENCY = 8
_REQUEST_SECONDS = 4.0
_LOG_SECONDS = 2.0  # for a line that was written to get to where logs are read
_BEFORE = timedelta(minutes=3)  # a failing watch is retried within 60 s
STDOUT = "/dev/stdout"
_RATINGS_PORT, MONGODB_PORT = 9080, 27017
_HEARING_SECONDS = 10.0  # for istiod to tell a proxy of a pod that is ready


class PathLook:
    """Begins at once, in `pool`; every method waits for what it needs and may raise ClusterError."""

    def __init__(self, facts: Facts, pool: Executor) -> None:
        self.facts, self._pool = facts, pool
        self.run = f"diagnosis-{secrets.token_hex(3)}"
        self.begin = datetime.now(UTC)
        mesh2 = facts.mesh2
        self._clocks = {mesh.names.name: pool.submit(mesh.cluster.compare_clocks) for mesh in facts.meshes}
        self._routes = pool.submit(self._of_reviews, lambda proxy: proxy.config_dump("dynamic_route_configs"))
        self._endpoints = pool.submit(self._of_reviews, Proxy.endpoints)
        self._egress = pool.submit(self._of_gateway, mesh2, "egress", Proxy.endpoints)
        self._logging = {
            mesh.names.name: pool.submit(self._logs_of, mesh, app)
            for mesh, app in ((facts.mesh1, "ratings"), (mesh2, "reviews"))
        }
        self._gateway_logging = {
            (mesh.names.name, direction): pool.submit(self._gateway_logs_of, mesh, direction)
            for mesh, direction in ((facts.mesh1, "ingress"), (mesh2, "egress"))
        }
        self._identities = {mesh.names.name: pool.submit(self._identities_of, mesh) for mesh in facts.meshes}
        self._discovery = {mesh.names.name: pool.submit(self._ask_from, mesh) for mesh in facts.meshes}
        self._probes = pool.submit(self._send)
        self._lines: dict[str, Future[list[AccessLine]]] = {
            "reviews": pool.submit(self._read_reviews),
            "mongodb": pool.submit(self._read_mongodb),
            **{f"egress {mesh.names.name}": pool.submit(self._read_gateway, mesh, "egress") for mesh in facts.meshes},
            **{f"ingress {mesh.names.name}": pool.submit(self._read_gateway, mesh, "ingress") for mesh in facts.meshes},
        }
        ratings = {f"ratings {mesh.names.name}": pool.submit(self._read_ratings, mesh) for mesh in facts.meshes}
        self._lines |= ratings  # which look at the lines of reviews
        self._open_to_mongodb = pool.submit(self._count_open_to_mongodb)

    # What proxies have

    def reviews_pod(self) -> Object:
        """The pod whose sidecar calls ratings; raises NotFound where none runs with a sidecar."""
        pods = [pod for pod in self.facts.mesh2.app_pods("reviews", "v3") if has_sidecar(pod)]
        if not pods:
            raise NotFound("mesh2", "find the sidecar that calls ratings", "no pod of reviews v3 runs with a sidecar")
        return pods[0]

    def _of_reviews(self, ask: Callable[[Proxy], T]) -> T:
        mesh2 = self.facts.mesh2
        return ask(Proxy(mesh2.cluster, mesh2.app, self.reviews_pod()["metadata"]["name"]))

    def _of_gateway(self, mesh: MeshFacts, direction: str, ask: Callable[[Proxy], T]) -> T:
        pods = mesh.gateway_pods(mesh.gateway(direction))
        if not pods:
            raise NotFound(mesh.names.name, f"ask {mesh.gateway(direction)}", "it has no running pod")
        return ask(Proxy(mesh.cluster, mesh.system, pods[0]["metadata"]["name"]))

    def _identities_of(self, mesh: MeshFacts) -> set[str]:
        return self._of_gateway(mesh, "egress", Proxy.identities)

    def _ask_from(self, mesh: MeshFacts) -> DiscoveryAnswer:
        return self._of_gateway(mesh, "egress", lambda proxy: ask_through(proxy, mesh.names, mesh.gateway("egress")))

    def _gateway_logs_of(self, mesh: MeshFacts, direction: str) -> set[str]:
        return self._of_gateway(mesh, direction, lambda proxy: access_log_paths(proxy.config_dump("dynamic_listeners")))

    def _logs_of(self, mesh: MeshFacts, app: str) -> set[str]:
        pods = [pod for pod in mesh.app_pods(app) if has_sidecar(pod)]
        if not pods:
            raise NotFound(mesh.names.name, f"look at the access log of {app}", "no pod of it runs with a sidecar")
        proxy = Proxy(mesh.cluster, mesh.app, pods[0]["metadata"]["name"])
        return access_log_paths(proxy.config_dump("dynamic_listeners"))

    def routes(self) -> Json:
        """Route configurations of reviews-v3's sidecar."""
        return self._routes.result()

    def endpoints(self) -> dict[str, tuple[Endpoint, ...]]:
        """Endpoints per cluster of reviews-v3's sidecar."""
        return self._endpoints.result()

    def egress_endpoints(self) -> dict[str, tuple[Endpoint, ...]]:
        """Endpoints per cluster of mesh2's federation egress gateway."""
        return self._egress.result()

    def logging(self, mesh: MeshFacts) -> set[str]:
        """Where the sidecars of a mesh's application write their access logs."""
        return self._logging[mesh.names.name].result()

    def unlogged(self, mesh: MeshFacts) -> str:
        """Why the sidecars of a mesh's application tell nothing, '' where they write their access logs."""
        return "" if STDOUT in self.logging(mesh) else f"the sidecars of {mesh.names.name} write no access log"

    def gateway_logging(self, mesh: MeshFacts, direction: str) -> set[str]:
        """Where mesh2's `egress` or mesh1's `ingress` gateway writes its access log."""
        return self._gateway_logging[mesh.names.name, direction].result()

    def egress_identities(self, mesh: MeshFacts) -> set[str]:
        """Who the egress gateway of a mesh can prove to be, by the certificates it holds."""
        return self._identities[mesh.names.name].result()

    def discovery_answer(self, mesh: MeshFacts) -> DiscoveryAnswer:
        """What a mesh answers when its peer asks for its services, by the peer's egress gateway."""
        return self._discovery[self.facts.other(mesh).names.name].result()

    # What was sent, and logged

    def probes(self) -> list[Probe]:
        """The requests of this diagnosis and their answers; raises ClusterError where there is no way in."""
        return self._probes.result()

    def _send(self) -> list[Probe]:
        if not self.facts.mesh2.names.is_scenario:
            raise NotFound("mesh2", "ask for productpage", "nobody's application but bookinfo is asked")
        # Proxies hear of a pod after it is ready: right after an installation that is no fault yet.
        with contextlib.suppress(ClusterError, WaitTimeout):
            patience = min(_HEARING_SECONDS, self.facts.mesh2.bounds().programmed)
            wait_for("proxies to know the pods that are ready", self._hearing, patience)
        mesh2, found = self.facts.mesh2, list[Probe]()
        with contextlib.ExitStack() as stack:
            entry = productpage_entry(mesh2.cluster, mesh2.names, stack)
            url, seconds = entry.productpage_url, _REQUEST_SECONDS
            with ProbeClient(url, self.run, found.append, REQUESTS, _CONCURRENCY, seconds) as client:
                client.wait()
        return found

    def _hearing(self) -> tuple[bool | None, str]:
        """Whether who calls ratings and mongodb in their own mesh has an endpoint of them, where they are ready."""
        mesh1, mesh2 = self.facts.mesh1, self.facts.mesh2
        ingress, reviews = self._of_gateway(mesh1, "ingress", Proxy.endpoints), self._of_reviews(Proxy.endpoints)
        calls = [(mesh1, "ratings", _RATINGS_PORT, ingress), (mesh2, "ratings", _RATINGS_PORT, reviews)]
        for pod in filter(has_sidecar, mesh1.app_pods("ratings")):
            known = Proxy(mesh1.cluster, mesh1.app, pod["metadata"]["name"]).endpoints()
            calls.append((mesh1, "mongodb", MONGODB_PORT, known))
        calls.append((mesh1, "mongodb", MONGODB_PORT, ingress))
        deaf = []
        for mesh, service, port, known in calls:
            ends = known.get(f"outbound|{port}||{service}.{mesh.app}.svc.{CLUSTER_DOMAIN}", ())
            ready = any(condition_true(pod, "Ready") for pod in mesh.app_pods(service))
            if ready and not any(end.healthy for end in ends):
                deaf.append(f"{service} of {mesh.names.name}")
        return not deaf or None, ", ".join(deaf)

    def calls(self) -> list[AccessLine]:
        """Ratings calls of this diagnosis' requests, as reviews-v3's sidecar logged them."""
        return [line for line in self._own("reviews") if not _inbound(line)]

    def served(self, mesh: MeshFacts) -> list[AccessLine]:
        """Requests of this diagnosis, as the ratings sidecars of a mesh logged them on their way in."""
        own = self._own(f"ratings {mesh.names.name}")
        return [line for line in own if _inbound(line) or not line.upstream_cluster]

    def _own(self, who: str) -> list[AccessLine]:
        return [line for line in self._lines[who].result() if f"/{self.run}/" in line.user_agent]

    def mongodb_calls(self, mesh: MeshFacts) -> list[AccessLine]:
        """Connections to mongodb that ended since this began, as the ratings sidecars of a mesh logged them."""
        return self._to_mongodb(mesh, f"ratings {mesh.names.name}")

    def mongodb_served(self) -> list[AccessLine]:
        """The same as the sidecar of mesh1's mongodb logged them on their way in."""
        return self._to_mongodb(self.facts.mesh1, "mongodb")

    def _to_mongodb(self, mesh: MeshFacts, who: str) -> list[AccessLine]:
        lines = [line for line in self._since_begin(mesh, who) if not line.is_http]
        return [line for line in lines if line.downstream_local_address.endswith(f":{MONGODB_PORT}")]

    def _since_begin(self, mesh: MeshFacts, who: str) -> list[AccessLine]:
        with contextlib.suppress(ClusterError):
            self._clocks[mesh.names.name].result()
        begin = mesh.cluster.its_time(self.begin)
        return [line for line in self._lines[who].result() if line.start_time >= begin]

    def open_to_mongodb(self) -> int:
        """Connections to mongodb that mesh1's ingress gateway and ratings still had open when all was answered."""
        return self._open_to_mongodb.result()

    def _count_open_to_mongodb(self) -> int:
        self._after_sending()
        mesh1 = self.facts.mesh1
        pods = [*mesh1.gateway_pods(mesh1.gateway("ingress")), *filter(has_sidecar, mesh1.app_pods("ratings"))]
        cluster = f"outbound|{MONGODB_PORT}||mongodb.{mesh1.app}.svc.{CLUSTER_DOMAIN}"
        proxies = [Proxy(mesh1.cluster, pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in pods]
        return sum(found.get(cluster, 0) for found in self._pool.map(Proxy.connections, proxies))

    def gateway_lines(self, mesh: MeshFacts, direction: str) -> list[AccessLine]:
        """Lines of a federation gateway since this diagnosis began: connections by TCP, discovery by HTTP."""
        return self._since_begin(mesh, f"{direction} {mesh.names.name}")

    def discovery_lines(self, mesh: MeshFacts, direction: str = "egress") -> list[AccessLine]:
        """Discovery requests that left a mesh in the last minutes, or came in by its `ingress`, oldest first."""
        read = self._lines[f"{direction} {mesh.names.name}"].result()
        lines = [line for line in read if line.path.startswith((SERVICES_PATH, WATCH_PATH))]
        return sorted(lines, key=lambda line: line.start_time)

    def _after_sending(self) -> int:
        """Waits for the answers; the number of pages that must have left a ratings call."""
        with contextlib.suppress(ClusterError, OSError, ValueError):
            return sum(probe.status == 200 and probe.page is not Page.NO_RATINGS for probe in self.probes())
        return 0

    def _read_gateway(self, mesh: MeshFacts, direction: str) -> list[AccessLine]:
        self._after_sending()
        return self._read(mesh, mesh.gateway_pods(mesh.gateway(direction)), direction)

    def _read_reviews(self) -> list[AccessLine]:
        sent, mesh2 = self._after_sending(), self.facts.mesh2
        return self._read(mesh2, mesh2.app_pods("reviews", "v3"), "reviews", sent)

    def _read_ratings(self, mesh: MeshFacts) -> list[AccessLine]:
        # The caller logs that it gave up before the sidecar it called does.
        self._after_sending()
        called = 0
        with contextlib.suppress(ClusterError):
            abroad = [is_imported(line.upstream_cluster) for line in self.calls() if line.upstream_host]
            called = abroad.count(mesh is self.facts.mesh1)
        return self._read(mesh, mesh.app_pods("ratings"), "ratings", called)

    def _read_mongodb(self) -> list[AccessLine]:
        self._after_sending()
        return self._read(self.facts.mesh1, self.facts.mesh1.app_pods("mongodb"), "mongodb")

    def _read(self, mesh: MeshFacts, pods: Objects, what: str, wanted: int = 0) -> list[AccessLine]:
        """Lines of all these pods' proxies, waiting for `wanted` ones of this diagnosis' requests."""
        proxies = [
            Proxy(mesh.cluster, pod["metadata"]["namespace"], pod["metadata"]["name"])
            for pod in pods
            if has_sidecar(pod)
        ]
        if not proxies:
            raise NotFound(mesh.names.name, f"read the access log of {what}", "no proxy of it runs")
        last: list[AccessLine] = []

        def look() -> tuple[bool | None, str]:
            nonlocal last
            last = [line for lines in self._pool.map(self._read_one, proxies) for line in lines]
            own = sum(f"/{self.run}/" in line.user_agent for line in last)
            return own >= wanted or None, f"{own} lines"

        with contextlib.suppress(WaitTimeout):
            wait_for("access-log lines", look, _LOG_SECONDS, mesh.cluster.name)
        return last

    def _read_one(self, proxy: Proxy) -> list[AccessLine]:
        proxy.write_logs()
        since = proxy.cluster.its_time(self.begin) - _BEFORE
        with proxy.cluster.logs(proxy.namespace, proxy.pod, proxy.container, since=since) as stream:
            return [line for text in stream if (line := parse_access_line(text))]


def _inbound(line: AccessLine) -> bool:
    return line.upstream_cluster.startswith("inbound|")
