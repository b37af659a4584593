"""`istio_requests_total` as the server's sidecar counts it, made by Envoy itself for every request it has served.

Istio's own filter is not in this Envoy; its access logger for statistics counts the same at the same moment. Envoy
puts `envoy_` before the name, which the pod's agent takes away (lab/node).
"""

from __future__ import annotations

from lab.istiod.config.blocks import Block, typed
from lab.istiod.store import Binding, Mesh, Proxy

_UNKNOWN = "unknown"
"""What the product says of a caller that sends no metadata; nobody exchanges metadata here."""


def requests_total(mesh: Mesh, proxy: Proxy, binding: Binding, mutual_tls: bool) -> list[Block]:
    """The counter of one inbound port; none where the mesh has no Prometheus.

    Labels: reference, product 6.3, without `grpc_response_status`, which is empty for HTTP.
    """
    if not mesh.metrics:
        return []
    labels, service = proxy.labels, binding.service
    values = {
        "reporter": "destination",
        "source_workload": _UNKNOWN,
        "source_workload_namespace": _UNKNOWN,
        "source_principal": "%DOWNSTREAM_PEER_URI_SAN%" if mutual_tls else _UNKNOWN,
        "source_app": _UNKNOWN,
        "source_version": _UNKNOWN,
        "source_cluster": _UNKNOWN,
        "source_canonical_service": _UNKNOWN,
        "source_canonical_revision": "latest",
        "destination_workload": proxy.workload or proxy.name,
        "destination_workload_namespace": proxy.namespace,
        "destination_principal": "%DOWNSTREAM_LOCAL_URI_SAN%" if mutual_tls else _UNKNOWN,
        "destination_app": labels.get("app", _UNKNOWN),
        "destination_version": labels.get("version", _UNKNOWN),
        "destination_service": service.hostname,
        "destination_service_name": service.name,
        "destination_service_namespace": service.namespace,
        "destination_cluster": proxy.cluster,
        "destination_canonical_service": labels.get("service.istio.io/canonical-name", _UNKNOWN),
        "destination_canonical_revision": labels.get("service.istio.io/canonical-revision", "latest"),
        "request_protocol": "grpc" if binding.port.protocol == "GRPC" else "http",
        "response_code": "%RESPONSE_CODE%",
        "response_flags": "%RESPONSE_FLAGS%",
        "connection_security_policy": "mutual_tls" if mutual_tls else "none",
    }
    tags = [{"name": name, "value_format": value} for name, value in values.items()]
    return [
        typed(
            "envoy.access_loggers.stats",
            "extensions.access_loggers.stats.v3.Config",
            stats_scope={"prefix": "istio"},
            counters=[{"stat": {"name": "requests_total", "tags": tags}, "value_fixed": 1}],
        )
    ]
