"""The bootstrap of a pod's Envoy: who it is, its admin address and where its configuration comes from."""

from __future__ import annotations

from typing import Any

from lab.client import Object

XDS_CLUSTER = "xds-grpc"
ADMIN_PORT = 15000
METRICS_PORT = 15090
HEALTH_PORT = 15021
_LOCALITY = {"region": "topology.kubernetes.io/region", "zone": "topology.kubernetes.io/zone"}
_HTTP_MANAGER = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_LUA = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
_METRICS_BUFFER = 64 << 20  # bytes; the metrics of a proxy are rewritten as a whole
# Envoy puts its name before those of all its metrics, also before those that the product's filters make.
_PRODUCTS_NAMES = """
function envoy_on_response(handle)
  local body = handle:body()
  if body then
    body:setBytes((body:getBytes(0, body:length()):gsub("envoy_istio_", "istio_")))
    handle:headers():remove("content-length")
  end
end
"""


def _address(ip: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": ip, "port_value": port}}


def _static_cluster(name: str, ip: str, port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(ip, port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _static_listener(ip: str, port: int, path: str, route_to: dict[str, Any], script: str = "") -> dict[str, Any]:
    name = f"static-{port}"
    routes = {
        "name": name,
        "virtual_hosts": [{"name": name, "domains": ["*"], "routes": [{"match": {"path": path}, **route_to}]}],
    }
    router = {"name": "envoy.filters.http.router", "typed_config": {"@type": _ROUTER}}
    lua = {"@type": _LUA, "default_source_code": {"inline_string": script}}
    manager = {
        "@type": _HTTP_MANAGER,
        "stat_prefix": "agent",
        "route_config": routes,
        "http_filters": [*([{"name": "envoy.filters.http.lua", "typed_config": lua}] if script else []), router],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "name": name,
        "address": _address(ip, port),
        "filter_chains": [{"filters": filters}],
        "per_connection_buffer_limit_bytes": _METRICS_BUFFER,
    }


def _config_source() -> dict[str, Any]:
    api = {
        "api_type": "REST",
        "transport_api_version": "V3",
        "cluster_names": [XDS_CLUSTER],
        "refresh_delay": "0.05s",
        "request_timeout": "3600s",
    }
    return {"api_config_source": api, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}


def node(pod: Object, pod_ip: str, role: str, environment: dict[str, str]) -> dict[str, Any]:
    """What the proxy says of itself to istiod; `role` is `sidecar` or `router`."""
    meta, labels = pod["metadata"], pod["metadata"].get("labels", {})
    namespace, name = meta["namespace"], meta["name"]
    metadata = {
        "NAME": name,
        "NAMESPACE": namespace,
        "SERVICE_ACCOUNT": pod["spec"].get("serviceAccountName", "default"),
        "LABELS": labels,
        "CLUSTER_ID": "Kubernetes",
        "INSTANCE_IPS": pod_ip,
    }
    prefix = "ISTIO_META_"
    metadata |= {key.removeprefix(prefix): value for key, value in environment.items() if key.startswith(prefix)}
    return {
        "id": f"{role}~{pod_ip}~{name}.{namespace}~{namespace}.svc.cluster.local",
        "cluster": f"{labels.get('app', name)}.{namespace}",
        "locality": {part: labels[label] for part, label in _LOCALITY.items() if labels.get(label)},
        "metadata": metadata,
    }


def bootstrap(
    pod: Object, pod_ip: str, role: str, environment: dict[str, str], discovery: tuple[str, int]
) -> dict[str, Any]:
    """Envoy's configuration file; `discovery` is where istiod answers long polls.

    Everything the proxy sends leaves from `pod_ip`. Besides the admin interface it serves what the product's agent
    serves: metrics on port 15090 and the health of the proxy on 15021.
    """
    return {
        "node": node(pod, pod_ip, role, environment),
        "admin": {"address": _address(pod_ip, ADMIN_PORT)},
        "cluster_manager": {"upstream_bind_config": {"source_address": {"address": pod_ip, "port_value": 0}}},
        "dynamic_resources": {"lds_config": _config_source(), "cds_config": _config_source()},
        "static_resources": {
            "clusters": [
                _static_cluster(XDS_CLUSTER, *discovery),
                _static_cluster("prometheus_stats", pod_ip, ADMIN_PORT),
            ],
            "listeners": [
                _static_listener(
                    pod_ip,
                    METRICS_PORT,
                    "/stats/prometheus",
                    {"route": {"cluster": "prometheus_stats"}},
                    _PRODUCTS_NAMES,
                ),
                _static_listener(
                    pod_ip,
                    HEALTH_PORT,
                    "/healthz/ready",
                    {"route": {"cluster": "prometheus_stats", "prefix_rewrite": "/ready"}},
                ),
            ],
        },
    }


def role_of(container: Object) -> str:
    """`router` or `sidecar`, as the container's arguments say."""
    arguments = container.get("args") or []
    return arguments[1] if len(arguments) > 1 and arguments[1] in ("router", "sidecar") else "sidecar"


def discovery_service(environment: dict[str, str]) -> tuple[str, str, int]:
    """(namespace, Service, port) of CA_ADDR, e.g. `istiod-fed-export.mesh1-system.svc:15012`; ValueError without it."""
    host, _, port = environment.get("CA_ADDR", "").partition(":")
    name, _, rest = host.partition(".")
    namespace = rest.partition(".")[0]
    if not (name and namespace):
        raise ValueError("CA_ADDR does not name istiod's Service, e.g. istiod-<name>.<namespace>.svc:15012")
    return namespace, name, int(port or 15012)
