"""The traffic split of the scenario: sets its weights, waits until the calling proxy has them, measures them."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from harness.cluster.kinds import SERVICE, VIRTUAL_SERVICE
from harness.cluster.transport import ClusterError, Objects
from harness.product.envoy import ClusterName, Proxy, access_log_paths
from harness.product.mesh import Federation, Mesh
from harness.product.names import imports_domain
from harness.run.waiting import WaitTimeout, wait_for
from harness.split.ledger import Ledger, Role, Source
from harness.split.log_following import LogFlusher, LogFollower, Workload
from harness.split.meter import WARM_UP, Measurement, measure, measure_by_counters
from harness.split.probe import ProbeClient
from harness.split.request_counters import CounterBook, Reading, requests_answered
from harness.split.sequential import SplitTest

SPLIT = "ratings-split"
_AUTHORITY = "ratings:9080"
_COUNTER_BATCH = 200  # a look means reading the counters of every ratings sidecar
_STDOUT = "/dev/stdout"
_NO_TRACE = (
    "a sidecar on the way writes no access log to /dev/stdout (SMCP spec.proxy.accessLogging), and the ratings sidecars"
    " have no istio_requests_total to count by (SMCP spec.addons.prometheus)"
)

Weights = tuple[float, float]
# Tells people what is being waited for; gives what takes the last observation, as Progress.waiting.
Waiting = Callable[[str], contextlib.AbstractContextManager[Callable[[str], None]]]


@contextlib.contextmanager
def _silently(_: str) -> Iterator[Callable[[str], None]]:
    yield lambda _: None


@dataclass(frozen=True)
class SplitMeter:
    """Measures how mesh2's ratings calls are split over (mesh1, mesh2), in this order everywhere.

    url: mesh2's productpage; margin, alpha, beta as in SplitTest; concurrency: probes in flight; as_installed: what is
    in force is measured even where the calling proxy has other weights than asked for, and they are in the notes;
    waiting: shows what takes long.
    """

    federation: Federation
    url: str
    margin: float = 0.05
    alpha: float = 1e-4
    beta: float = 1e-3
    concurrency: int = 16
    as_installed: bool = False
    waiting: Waiting = _silently

    @property
    def _mesh2(self) -> Mesh:
        return self.federation.mesh2

    def _routes(self) -> Objects:
        found = self._mesh2.cluster.get(VIRTUAL_SERVICE, SPLIT, self._mesh2.app_namespace)
        return found["spec"]["http"]

    def _backends(self, routes: Objects) -> dict[str, str]:
        """Host of each destination -> mesh behind it, mesh1 first."""
        hosts = [destination["destination"]["host"] for destination in routes[0]["route"]]
        imports = f".{imports_domain(self._mesh2.peer)}"
        found = {host: self._mesh2.peer if host.endswith(imports) else self._mesh2.name for host in hosts}
        return dict(sorted(found.items(), key=lambda item: item[1]))

    @contextlib.contextmanager
    def weights(self, weights: Weights) -> Iterator[None]:
        """Has ratings-split carry these weights, and puts back what it carried."""
        before = self._routes()
        wanted = dict(zip(("mesh1", "mesh2"), weights, strict=True))
        backends = self._backends(before)
        first, *others = before
        route = [{**entry, "weight": wanted[backends[entry["destination"]["host"]]]} for entry in first["route"]]
        self._set([{**first, "route": route}, *others])
        try:
            yield
        finally:
            self._set(before)

    def _set(self, routes: Objects) -> None:
        if routes != self._routes():
            namespace = self._mesh2.app_namespace
            self._mesh2.cluster.patch(VIRTUAL_SERVICE, SPLIT, namespace, {"spec": {"http": routes}})

    def measure(self, weights: Weights) -> Measurement:
        """Measures the weights in force now against the asked ones; raises ClusterError when a cluster fails."""
        notes: tuple[str, ...] = ()
        test = SplitTest(weights, self.margin, alpha=self.alpha, beta=self.beta)
        asked = dict(zip(("mesh1", "mesh2"), weights, strict=True))
        backends = self._backends(self._routes())
        ratings = [self._app(mesh, "ratings") for mesh in self.federation.meshes]
        caller = self._app(self._mesh2, "reviews", "v3")
        try:
            self._wait_programmed(caller, {host: asked[mesh] for host, mesh in backends.items()})
        except WaitTimeout as error:
            notes = (str(error),)
            if not self.as_installed:
                return Measurement(asked, test, problem=notes[0])
        with self.waiting("the verdict") as seen:
            if all(_logs(proxy) for workload in [caller, *ratings] for proxy in workload.proxies()):
                found = self._measure_by_logs(test, asked, backends, caller, ratings, seen)
            else:
                found = self._measure_by_counters(asked, ratings, seen)
        return replace(found, notes=(*notes, *found.notes))

    def _app(self, mesh: Mesh, app: str, version: str = "") -> Workload:
        role = Role.RATINGS if app == "ratings" else Role.CALLER
        selector = f"app={app},version={version}" if version else f"app={app}"
        return Workload(mesh.cluster, mesh.name, mesh.app_namespace, selector, app, role)

    def _gateway(self, mesh: Mesh, gateway: str) -> Workload:
        labels = mesh.cluster.get(SERVICE, gateway, mesh.system_namespace)["spec"]["selector"]
        selector = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        return Workload(mesh.cluster, mesh.name, mesh.system_namespace, selector, gateway, Role.GATEWAY)

    def _wait_programmed(self, caller: Workload, wanted: Mapping[str, float]) -> None:
        expected = _normal(wanted)

        def look() -> tuple[bool | None, str]:
            try:
                proxies = caller.proxies()
                found = {proxy.pod: _hosts(proxy.route_weights(_AUTHORITY)) for proxy in proxies}
            except ClusterError as error:
                return None, str(error)
            seen = "; ".join(f"{pod} routes {_text(shares)}" for pod, shares in found.items()) or "no pod of reviews-v3"
            return (all(_normal(shares) == expected for shares in found.values()) and bool(found)) or None, seen

        what = f"reviews-v3's own route for {_AUTHORITY} to carry {_text(wanted)}"
        hint = f"See VirtualService {SPLIT} in {self._mesh2.app_namespace} and istiod's log"
        with self.waiting(what) as seen:
            wait_for(what, look, self._mesh2.bounds.programmed, self._mesh2.name, hint=hint, seen=seen)

    def _measure_by_logs(
        self,
        test: SplitTest,
        asked: Mapping[str, float],
        backends: Mapping[str, str],
        caller: Workload,
        ratings: list[Workload],
        seen: Callable[[str], None],
    ) -> Measurement:
        run = secrets.token_hex(4)
        ledger = Ledger(run, backends)
        mesh1, mesh2 = self.federation.meshes
        gateways = [self._gateway(mesh2, mesh2.egress_gateway), self._gateway(mesh1, mesh1.ingress_gateway)]
        client = ProbeClient(self.url, run, ledger.add_probe, WARM_UP + test.cap, self.concurrency)
        with LogFlusher(ledger.add_trouble) as flusher:

            def found(source: Source, proxy: Proxy) -> None:
                ledger.add_source(source)
                if source.role is not Role.GATEWAY:
                    flusher.add(proxy)

            with LogFollower([caller, *ratings, *gateways], ledger.add_line, found, ledger.add_trouble):
                return measure(test, asked, ledger, client, hurry=flusher.hurry, seen=seen)

    def _measure_by_counters(
        self, asked: Mapping[str, float], ratings: list[Workload], seen: Callable[[str], None]
    ) -> Measurement:
        test = SplitTest(tuple(asked.values()), self.margin, alpha=self.alpha, beta=self.beta, batch=_COUNTER_BATCH)
        self._send(WARM_UP)
        first = _reading(ratings)
        if first.silent >= {mesh for mesh, weight in asked.items() if weight} or not first.requests:
            refused = "".join(f"; {pod}: {why}" for (_, pod), why in first.unread.items())
            return Measurement(asked, test, problem=f"{_NO_TRACE}{refused}", untraceable=True)
        return measure_by_counters(test, asked, CounterBook(lambda: _reading(ratings)), self._send, seen)

    def _send(self, count: int) -> float:
        with ProbeClient(self.url, secrets.token_hex(4), lambda _: None, count, self.concurrency) as client:
            client.wait()
        return client.elapsed


def _reading(ratings: list[Workload]) -> Reading:
    answered: dict[tuple[str, str], float | None] = {}
    unread: dict[tuple[str, str], str] = {}
    for workload in ratings:
        for proxy in workload.proxies():
            try:
                answered[workload.mesh, proxy.pod] = requests_answered(proxy.statistics())
            except ClusterError as error:
                unread[workload.mesh, proxy.pod] = str(error)
    return Reading.of(answered, unread)


def _logs(proxy: Proxy) -> bool:
    """Whether the proxy keeps an access log; where it cannot be asked, its log is what can be tried."""
    try:
        return _STDOUT in access_log_paths(proxy.config_dump("dynamic_listeners"))
    except ClusterError:
        return True


def _hosts(weights: Mapping[str, float] | None) -> dict[str, float]:
    """Weights by host instead of by Envoy's cluster."""
    found: dict[str, float] = {}
    for name, weight in (weights or {}).items():
        parsed = ClusterName.parse(name)
        host = parsed.host if parsed else name
        found[host] = found.get(host, 0) + weight
    return found


def _normal(weights: Mapping[str, float]) -> dict[str, float]:
    """As shares, without zeros, so that 1/1 and 50/50 are the same."""
    total = sum(weights.values())
    return {host: round(weight / total, 6) for host, weight in weights.items() if weight}


def _text(weights: Mapping[str, float]) -> str:
    return ", ".join(f"{weight:g} to {host}" for host, weight in sorted(weights.items())) or "nothing"
