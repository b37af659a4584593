"""Follows the access logs of both meshes and keeps the lines that tell of a failure: they name the hop and the flag."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import SERVICE
from harness.diagnosis.envoy_failures import flags
from harness.product.envoy import AccessLine, parse_access_line
from harness.product.mesh import ENTRY_GATEWAY, MESH1, MESH2
from harness.run.redact import redacted_text
from harness.split.ledger import Role, Source
from harness.split.log_following import LogFollower, Workload

_LONGEST = 600  # characters of a line that are kept
_SERVER_ERROR = 500


def workloads(clusters: Mapping[str, Cluster]) -> list[Workload]:
    """Whose proxies see what crosses the federation, from mesh2's entry to mesh1's ratings. Raises ClusterError."""
    mesh1, mesh2 = clusters["mesh1"], clusters["mesh2"]
    gateways = [
        (mesh2, MESH2, ENTRY_GATEWAY),
        (mesh2, MESH2, MESH2.egress_gateway),
        (mesh1, MESH1, MESH1.ingress_gateway),
    ]
    found = []
    for cluster, names, gateway in gateways:
        selector = cluster.get(SERVICE, gateway, names.system_namespace)["spec"]["selector"]
        labels = ",".join(f"{key}={value}" for key, value in selector.items())
        found.append(Workload(cluster, names.name, names.system_namespace, labels, gateway, Role.GATEWAY))
    apps = [(mesh2, MESH2, app) for app in ("productpage", "reviews", "ratings")] + [(mesh1, MESH1, "ratings")]
    found += [
        Workload(cluster, names.name, names.app_namespace, f"app={app}", app, Role.CALLER)
        for cluster, names, app in apps
    ]
    return found


def is_failure(line: AccessLine) -> bool:
    """Whether a line tells that something stopped there; what strangers meet, the watch's own among them, does not."""
    stranger = not line.is_http and not line.requested_server_name and not line.upstream_host
    return not stranger and (bool(flags(line)) or line.response_code >= _SERVER_ERROR)


class FailedLines:
    """Follows the logs until it is stopped. `write` takes each line that tells of a failure, with its time by our
    clock, from threads of its own; `told` sentences of what cannot be read. Use as a context manager; entering raises
    ClusterError where pods cannot be listed."""

    def __init__(
        self,
        clusters: Mapping[str, Cluster],
        write: Callable[[Mapping[str, Any]], None],
        told: Callable[[str], None],
    ) -> None:
        self._write = write
        self._ahead = {mesh: cluster.clock_offset() for mesh, cluster in clusters.items()}
        self._begin: float | None = None
        self._follower = LogFollower(workloads(clusters), self._deliver, trouble=told)

    def __enter__(self) -> FailedLines:
        self._follower.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.stop()

    def _deliver(self, source: Source, text: str) -> None:
        line = parse_access_line(text)
        if line is None or not is_failure(line):
            return
        at = line.start_time.timestamp() - self._ahead[source.mesh]
        facts = {"flags": line.response_flags or str(line.response_code), "upstream": line.upstream_host}
        shown = redacted_text(text[:_LONGEST])
        self._write(
            {"t": at, "mesh": source.mesh, "workload": source.workload, "pod": source.pod, **facts, "text": shown}
        )
