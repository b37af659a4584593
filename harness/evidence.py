"""What both clusters have to say of one window of time, gathered into one directory; nothing secret, nothing changed.

    DIRECTORY/index.yaml            every file: what it is, mesh, bytes, whether it was cut, what could not be read
    DIRECTORY/diagnosis.yaml        the chain of links
    DIRECTORY/ledger.yaml           where probes went, and lines of those that failed
    DIRECTORY/<mesh>/objects/*.yaml specs and statuses
    DIRECTORY/<mesh>/events.yaml    events of both namespaces
    DIRECTORY/<mesh>/logs/*.log     istiod's lines of scope federation, access-log lines of the proxies on the path
    DIRECTORY/<mesh>/proxies/*.json clusters, routes and listeners of those proxies

Secrets are never read, and all text goes through harness.redact.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from harness import kinds
from harness.cluster import Cluster
from harness.diagnosis import Diagnosis
from harness.envoy import Proxy
from harness.kinds import Kind
from harness.ledger import Fate, Record
from harness.measure import Measurement
from harness.mesh import MESH1, MESH2, MeshNames
from harness.redact import redacted, redacted_text
from harness.status import parse_time
from harness.transport import ClusterError, NotFound, Object

LIMIT_BYTES = 20 << 20
INDEX = "index.yaml"
_PATIENCE = 3.0
_LINES = 3000  # of one log
_RECORDS = 200
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
)
_APP = (
    kinds.VIRTUAL_SERVICE,
    kinds.DESTINATION_RULE,
    kinds.GATEWAY,
    kinds.SERVICE,
    kinds.ENDPOINTS,
    kinds.DEPLOYMENT,
    kinds.POD,
)
# What a reader looks for first comes first: a full directory cuts what comes last.
_ROOTS = ("istio-ca-root-cert",)
_ROUTES = ("ratings", "mongodb", "discovery", "reviews")


@dataclass(frozen=True)
class Entry:
    """One file of the directory; `cut`: it was shortened to keep within the limit."""

    file: str
    what: str
    mesh: str
    bytes: int
    cut: bool = False


@dataclass(frozen=True)
class Index:
    """What was gathered: files in the order of writing, and what could not be read, a sentence each."""

    directory: Path
    since: datetime
    until: datetime
    limit_bytes: int
    files: tuple[Entry, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        size = sum(entry.bytes for entry in self.files)
        cut = sum(entry.cut for entry in self.files)
        notes = f", {cut} cut" if cut else ""
        notes += f", {len(self.missing)} could not be read" if self.missing else ""
        return f"{self.directory} ({len(self.files)} files, {size / 1024:.0f} KiB{notes})"

    def to_dict(self) -> dict[str, Any]:
        return {
            "since": self.since.isoformat(timespec="seconds"),
            "until": self.until.isoformat(timespec="seconds"),
            "limit_bytes": self.limit_bytes,
            "files": [asdict(entry) for entry in self.files],
            "missing": list(self.missing),
        }


def collect(
    clusters: Mapping[str, Cluster],
    since: datetime,
    directory: Path,
    diagnosis: Diagnosis | None = None,
    measured: Sequence[Measurement] = (),
    limit_bytes: int = LIMIT_BYTES,
) -> Index:
    """Gathers what happened in both clusters from `since` (aware) until now into `directory`, at most `limit_bytes`.

    What may not or cannot be read is named in the index instead; raises only OSError, where the directory cannot be
    written.
    """
    if (directory / INDEX).exists():
        shutil.rmtree(directory)  # of an earlier run
    store = _Store(directory, limit_bytes)
    if diagnosis:
        store.write("diagnosis.yaml", "the chain of links", "both", _yaml(diagnosis.to_dict()))
    if measured:
        store.write("ledger.yaml", "probes: accounts, and those that failed", "both", _yaml(ledger_of(measured)))
    with ThreadPoolExecutor(32, thread_name_prefix="evidence") as pool:
        tasks = [
            pool.submit(_Gatherer(names, clusters[names.name], since, store, pool).run)
            for names in (MESH1, MESH2)
            if names.name in clusters
        ]
        for task in tasks:
            task.result()
    index = Index(directory, since, datetime.now(UTC), limit_bytes, tuple(store.files), tuple(store.missing))
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
class _Store:
    """Writes files within the limit; the index has a reserve of its own."""

    directory: Path
    limit: int
    files: list[Entry] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._left = self.limit - min(self.limit // 10, 256 << 10)

    def write(self, file: str, what: str, mesh: str, text: str, newest: bool = False) -> None:
        """`newest`: of what has to be cut the end is kept."""
        data = redacted_text(text).encode()
        with self._lock:
            size = len(data)
            kept = max(0, min(size, self._left))
            if kept < size:
                data = data[size - kept :] if newest else data[:kept]
            self._left -= kept
            self.files.append(Entry(file, what, mesh, kept, kept < size))
        if kept:
            path = self.directory / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def miss(self, sentence: str) -> None:
        with self._lock:
            self.missing.append(redacted_text(" ".join(sentence.split()))[:500])

    def write_index(self, index: Index) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / INDEX).write_text(_yaml(index.to_dict()))


@dataclass
class _Gatherer:
    """One mesh."""

    names: MeshNames
    cluster: Cluster
    since: datetime
    store: _Store
    pool: ThreadPoolExecutor

    def run(self) -> None:
        system, app, name = self.names.system_namespace, self.names.app_namespace, self.names.name
        self.cluster = Cluster(name, self.cluster.kubeconfig, self.cluster.context, _PATIENCE)
        try:
            tasks = [self.pool.submit(self._try, self._objects, kind, system) for kind in _SYSTEM]
            tasks += [self.pool.submit(self._try, self._objects, kind, app) for kind in _APP]
            tasks += [
                self.pool.submit(self._try, self._config_map, key) for key in (*_ROOTS, self.names.root_config_map)
            ]
            tasks.append(self.pool.submit(self._try, self._events, (system, app)))
            tasks += [self.pool.submit(self._try, self._istiod, pod) for pod in self._pods(system, {"app": "istiod"})]
            for proxy in self._proxies():
                tasks.append(self.pool.submit(self._try, self._access_log, proxy))
                tasks.append(self.pool.submit(self._try, self._config, proxy))
            for task in tasks:
                task.result()
        except ClusterError as error:
            self.store.miss(str(error))
        finally:
            self.cluster.close()

    def _try(self, gather: Callable[..., None], *arguments: Any) -> None:
        try:
            gather(*arguments)
        except NotFound:
            return
        except (ClusterError, ValueError) as error:
            self.store.miss(str(error))

    def _write(self, file: str, what: str, text: str, newest: bool = False) -> None:
        self.store.write(f"{self.names.name}/{file}", what, self.names.name, text, newest)

    def _objects(self, kind: Kind, namespace: str) -> None:
        found = [_bare(obj) for obj in self.cluster.list(kind, namespace)]
        if found:
            self._write(f"objects/{namespace}-{kind.plural}.yaml", f"{kind} objects of {namespace}", _yaml(found))

    def _config_map(self, name: str) -> None:
        namespace = self.names.system_namespace
        found = _bare(self.cluster.get(kinds.CONFIG_MAP, name, namespace))
        self._write(f"objects/{namespace}-configmap-{name}.yaml", f"root certificate {name}", _yaml(found))

    def _events(self, namespaces: Iterable[str]) -> None:
        found = [event for namespace in namespaces for event in self.cluster.list(kinds.EVENT, namespace)]
        recent = [event for event in found if (when := _time_of(event)) is None or when >= self.since]
        lines = [_event(event) for event in sorted(recent, key=lambda event: str(_time_of(event)))]
        self._write("events.yaml", "events of both namespaces", _yaml(lines))

    def _istiod(self, pod: Object) -> None:
        name = pod["metadata"]["name"]
        lines = self._log(self.names.system_namespace, name, "discovery")
        kept = [line for line in lines if "federation" in line]
        self._write(f"logs/{name}.log", "istiod's lines of scope federation", _text(kept), newest=True)

    def _access_log(self, proxy: Proxy) -> None:
        try:
            proxy.write_logs()
        except ClusterError as error:
            self.store.miss(str(error))
        lines = self._log(proxy.namespace, proxy.pod, proxy.container)
        self._write(f"logs/{proxy.pod}.log", "access log", _text(lines), newest=True)

    def _log(self, namespace: str, pod: str, container: str) -> list[str]:
        with self.cluster.logs(namespace, pod, container, since=self.since, tail=_LINES) as stream:
            return list(stream)

    def _config(self, proxy: Proxy) -> None:
        dump = proxy.config_dump("dynamic_route_configs")
        routes = [entry.get("route_config", {}) for entry in dump.get("configs", [])]
        slices = {
            "endpoints": {name: [str(end) for end in ends] for name, ends in sorted(proxy.endpoints().items())},
            "routes": {route.get("name", ""): _relevant(route) for route in routes},
            "listeners": proxy.request("GET", "listeners").splitlines(),
        }
        self._write(f"proxies/{proxy.pod}.json", "clusters, routes, listeners", json.dumps(redacted(slices), indent=1))

    def _pods(self, namespace: str, labels: Mapping[str, str]) -> list[Object]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        pods = self.cluster.list(kinds.POD, namespace, selector)
        return [pod for pod in pods if (pod.get("status") or {}).get("phase") == "Running"]

    def _proxies(self) -> list[Proxy]:
        """Those on the path of a ratings call, and of discovery."""
        system, app = self.names.system_namespace, self.names.app_namespace
        gateways = (self.names.ingress_gateway, self.names.egress_gateway)
        workloads = ("ratings", "mongodb") if self.names.exports else ("reviews", "ratings", "productpage")
        found = [(system, pod) for name in gateways for pod in self._pods(system, {"app": name})]
        found += [(app, pod) for name in workloads for pod in self._pods(app, {"app": name})]
        return [Proxy(self.cluster, namespace, pod["metadata"]["name"]) for namespace, pod in found if _has_proxy(pod)]


def _has_proxy(pod: Object) -> bool:
    containers = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or [])]
    return any(container["name"] == "istio-proxy" for container in containers)


def _bare(obj: Object) -> Object:
    """Without what only servers read."""
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    annotations = metadata.get("annotations") or {}
    if annotations:
        metadata["annotations"] = {k: v for k, v in annotations.items() if not k.endswith("last-applied-configuration")}
    return redacted({**obj, "metadata": metadata})


def _relevant(route: Mapping[str, Any]) -> list[Any]:
    """The virtual hosts of a route configuration that the scenario is about."""
    return [
        host
        for host in route.get("virtual_hosts", [])
        if any(word in domain for domain in host.get("domains", []) for word in _ROUTES)
    ]


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


def _text(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(redacted(value), sort_keys=False, allow_unicode=True, width=120)
