"""What is read of both meshes, at the same time; whatever may not be read is a line of the index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import Kind
from harness.cluster.transport import ClusterError, NotFound, Object
from harness.product.envoy import Proxy
from harness.product.istiod import federation_config
from harness.product.mesh import ENTRY_GATEWAY, MESH1, MESH2, MeshNames
from harness.product.names import ROOT_CONFIG_MAP, has_sidecar
from harness.product.status import parse_time
from harness.report.evidence.evidence_files import Index, Store, as_yaml, discard
from harness.report.evidence.evidence_logs import newest
from harness.report.evidence.evidence_proxies import slices
from harness.run.interrupts import until_one_fails
from harness.run.redact import redacted
from harness.split.ledger import Fate, Record
from harness.split.meter import Measurement

LIMIT_BYTES = 20 << 20
_LOG_BYTES = 1 << 20  # of one log, so that none leaves no room for the others: about 2,000 lines of an access log
_PATIENCE = 3.0
_RECORDS = 200
# What a reader looks for first comes first: a full directory cuts what comes last.
_SYSTEM = (
    kinds.CONTROL_PLANE,
    kinds.MEMBER_ROLL,
    kinds.PEER,
    kinds.EXPORTS,
    kinds.IMPORTS,
    kinds.SERVICE,
    kinds.ENDPOINTS,
    kinds.DEPLOYMENT,
    kinds.POD,
    *kinds.POLICY_KINDS,
)
_APP = (
    kinds.VIRTUAL_SERVICE,
    kinds.DESTINATION_RULE,
    kinds.GATEWAY,
    kinds.SERVICE,
    kinds.ENDPOINTS,
    kinds.DEPLOYMENT,
    kinds.POD,
    *kinds.POLICY_KINDS,
)
_ROOTS = (ROOT_CONFIG_MAP,)


class Explained(Protocol):
    """What is known of the cause: a Diagnosis, or the Explanation of a run."""

    def to_dict(self) -> Mapping[str, Any] | None: ...


def collect(
    clusters: Mapping[str, Cluster],
    since: datetime,
    directory: Path,
    explained: Explained | None = None,
    measured: Sequence[Measurement] = (),
    limit_bytes: int = LIMIT_BYTES,
) -> Index:
    """Gathers what happened in both clusters from `since` (aware) until now into `directory`, at most `limit_bytes`.

    Evidence of an earlier run there is removed first. What may not or cannot be read is named in the index instead;
    raises only OSError, where the directory cannot be written or holds something else.
    """
    discard(directory)
    store = Store(directory, limit_bytes)
    # From here on it is known for what it is, even if this is cut short.
    store.write_index(Index(directory, since, datetime.now(UTC), limit_bytes))
    return _gathered(clusters, since, since, store, explained, measured, "")


def extend(
    clusters: Mapping[str, Cluster],
    index: Index,
    since: datetime,
    name: str,
    explained: Explained | None = None,
    measured: Sequence[Measurement] = (),
) -> Index:
    """Adds to what `collect` gave what a later failure brings, within the same limit; raises only OSError.

    Diagnosis and ledger are written anew; the access logs from `since` on go into `<mesh>/logs/<name>/`.
    """
    store = Store(index.directory, index.limit_bytes, list(index.files), list(index.missing))
    store.write_index(replace(index, complete=False))
    return _gathered(clusters, index.since, since, store, explained, measured, name)


def _gathered(
    clusters: Mapping[str, Cluster],
    begin: datetime,
    since: datetime,
    store: Store,
    explained: Explained | None,
    measured: Sequence[Measurement],
    name: str,
) -> Index:
    """The index of all there is in the store then, from `begin` on; without a name all that can be gathered goes in."""
    if explained and (found := explained.to_dict()):
        store.write("diagnosis.yaml", "the chain of links", "both", as_yaml(found))
    if measured:
        store.write("ledger.yaml", "probes: accounts, and those that failed", "both", as_yaml(ledger_of(measured)))
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(32, thread_name_prefix="evidence"))
        # Before the pool waits for its threads: at Ctrl-C what they ask is ended, and what they have not begun is not.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        tasks = []
        for names in (MESH1, MESH2):
            if cluster := clusters.get(names.name):
                own = Cluster(names.name, cluster.kubeconfig, cluster.context, _PATIENCE)
                stack.callback(own.close)
                gatherer = _Gatherer(names, own, cluster.its_time(since), store, pool, name)
                tasks.append(pool.submit(gatherer.run))
        until_one_fails(tasks)
        for task in tasks:
            task.result()
    index = store.index(begin, datetime.now(UTC))
    store.write_index(index)
    return index


def ledger_of(measured: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Every measurement's account, and the probes that were not served, with their lines."""
    return [
        {
            "asked": dict(found.asked),
            "outcome": found.outcome,
            "account": str(found.account or found.problem),
            "not_served": [_record(record) for record in found.records if record.settlement.fate is not Fate.SERVED][
                :_RECORDS
            ],
        }
        for found in measured
    ]


def _record(record: Record) -> dict[str, Any]:
    return {
        "user_agent": record.probe.user_agent,
        "sent_at": datetime.fromtimestamp(record.probe.sent_at, UTC).isoformat(timespec="milliseconds"),
        "status": record.probe.status,
        "page": str(record.probe.page),
        "fate": str(record.settlement.fate),
        "why": record.settlement.why,
        "path": list(record.path),
        "lines": [f"{logged.source}: {logged.text}" for logged in record.lines],
    }


@dataclass
class _Gatherer:
    """One mesh; after: the failed test whose access logs are all that is wanted, '' for everything."""

    names: MeshNames
    cluster: Cluster
    since: datetime
    store: Store
    pool: ThreadPoolExecutor
    after: str = ""

    def run(self) -> None:
        try:
            tasks = [] if self.after else self._begin_all()
            for proxy in self._proxies():
                tasks.append(self.pool.submit(self._try, self._access_log, proxy))
                if not self.after:
                    tasks.append(self.pool.submit(self._try, self._config, proxy))
            for task in tasks:
                task.result()
        except ClusterError as error:
            self.store.miss(str(error))

    def _begin_all(self) -> list[Future[None]]:
        """Everything but what the proxies have to say."""
        system, app = self.names.system_namespace, self.names.app_namespace
        tasks = [self.pool.submit(self._try, self._objects, kind, system) for kind in _SYSTEM]
        tasks += [self.pool.submit(self._try, self._objects, kind, app) for kind in _APP]
        tasks += [self.pool.submit(self._try, self._config_map, key) for key in (*_ROOTS, self.names.root_config_map)]
        tasks.append(self.pool.submit(self._try, self._events, (system, app)))
        for pod in self._pods(system, {"app": "istiod"}):
            tasks.append(self.pool.submit(self._try, self._istiod, pod["metadata"]["name"]))
            tasks.append(self.pool.submit(self._try, self._memory, pod["metadata"]["name"]))
        return tasks

    def _try(self, gather: Callable[..., None], *arguments: Any) -> None:
        try:
            gather(*arguments)
        except NotFound:
            return
        except (ClusterError, ValueError) as error:
            self.store.miss(str(error))

    def _write(self, file: str, what: str, text: str) -> None:
        self.store.write(f"{self.names.name}/{file}", what, self.names.name, text)

    def _objects(self, kind: Kind, namespace: str) -> None:
        found = [_bare(obj) for obj in self.cluster.list(kind, namespace)]
        if found:
            self._write(f"objects/{namespace}-{kind.plural}.yaml", f"{kind} objects of {namespace}", as_yaml(found))

    def _config_map(self, name: str) -> None:
        namespace = self.names.system_namespace
        found = _bare(self.cluster.get(kinds.CONFIG_MAP, name, namespace))
        self._write(f"objects/{namespace}-configmap-{name}.yaml", f"root certificate {name}", as_yaml(found))

    def _events(self, namespaces: Iterable[str]) -> None:
        found = [event for namespace in namespaces for event in self.cluster.list(kinds.EVENT, namespace)]
        recent = [event for event in found if (when := _time_of(event)) is None or when >= self.since]
        lines = [_event(event) for event in sorted(recent, key=lambda event: str(_time_of(event)))]
        self._write("events.yaml", "events of both namespaces", as_yaml(lines))

    def _istiod(self, pod: str) -> None:
        what = "istiod's lines of scope federation"
        self._log(self.names.system_namespace, pod, "discovery", what, lambda line: "federation" in line)

    def _memory(self, pod: str) -> None:
        namespace = self.names.system_namespace
        found = redacted(federation_config(self.cluster, namespace, pod))
        what = "federation objects in istiod's memory"
        self._write(f"objects/{namespace}-configz-{pod}.yaml", what, as_yaml(found))

    def _access_log(self, proxy: Proxy) -> None:
        try:
            proxy.write_logs()
        except ClusterError as error:
            self.store.miss(str(error))
        during = f" from {self.after} on" if self.after else ""
        self._log(proxy.namespace, proxy.pod, proxy.container, f"access log{during}")

    def _log(
        self, namespace: str, pod: str, container: str, what: str, wanted: Callable[[str], bool] = lambda _: True
    ) -> None:
        with self.cluster.logs(namespace, pod, container, since=self.since) as stream:
            lines, cut = newest(filter(wanted, stream), _LOG_BYTES)
        place = f"{self.names.name}/logs/{self.after}" if self.after else f"{self.names.name}/logs"
        self.store.write_log(f"{place}/{pod}.log", what, self.names.name, lines, cut)

    def _config(self, proxy: Proxy) -> None:
        what = "endpoints, routes, listeners, TLS, certificates"
        self._write(f"proxies/{proxy.pod}.json", what, json.dumps(redacted(slices(proxy)), indent=1))

    def _pods(self, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        pods = self.cluster.list(kinds.POD, namespace, selector)
        return [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]

    def _proxies(self) -> list[Proxy]:
        """Those on the path of a request for productpage, and of discovery."""
        system, app = self.names.system_namespace, self.names.app_namespace
        entry = () if self.names.exports else (ENTRY_GATEWAY,)
        gateways = (*entry, self.names.ingress_gateway, self.names.egress_gateway)
        workloads = ("ratings", "mongodb") if self.names.exports else ("reviews", "ratings", "productpage")
        found = [(system, pod) for name in gateways for pod in self._pods(system, {"app": name})]
        found += [(app, pod) for name in workloads for pod in self._pods(app, {"app": name})]
        return [Proxy(self.cluster, namespace, pod["metadata"]["name"]) for namespace, pod in found if has_sidecar(pod)]


def _bare(obj: Object) -> Object:
    """Without what only servers read."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    annotations = metadata.get("annotations") or {}
    if annotations:
        metadata["annotations"] = {k: v for k, v in annotations.items() if not k.endswith("last-applied-configuration")}
    return redacted({**obj, "metadata": metadata})


def _time_of(event: Object) -> datetime | None:
    return parse_time(
        event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp")
    )


def _event(event: Object) -> dict[str, Any]:
    about = event.get("involvedObject") or {}
    return {
        "time": str(_time_of(event)),
        "type": event.get("type", ""),
        "object": f"{about.get('kind', '')} {about.get('namespace', '')}/{about.get('name', '')}",
        "reason": event.get("reason", ""),
        "message": event.get("message", ""),
        "count": event.get("count", 1),
    }
