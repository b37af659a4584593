"""The two meshes of the captured federation as istiod's input, and Envoy configuration in one comparable form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.client import key_of
from lab.istiod.model import Endpoint, FederationOutput, Port, Service
from lab.istiod.registry import kubernetes_services
from lab.istiod.store import Config, Mesh, Proxy

Load = Callable[[str], Any]
_FEDERATED = "federation-"
_OUTDATED = {"tracing", "http_protocol_options", "deprecated_v1", "google_re2"}
"""Left out of comparisons: what the lab does not trace, and fields that this Envoy has no more or means by default."""


def captured_mesh(observed: Load, mesh: str, peer: str) -> Mesh:
    """Mesh `mesh` (mesh1 or mesh2) of the captured scenario, federated with `peer`."""
    system, bookinfo = f"{mesh}-system", f"{mesh}-bookinfo"
    trust_domain = f"{mesh}.local"
    services = _objects(observed, mesh, "services")
    pods = {key_of(pod): pod for pod in _objects(observed, mesh, "pods")}
    endpoints = {key_of(item): item for item in _objects(observed, mesh, "endpoints")}
    configz = observed(f"healthy/discovery/{mesh}-istiod-configz.json")
    users = [item for item in configz if not item["name"].startswith(_FEDERATED)]
    made = tuple(item for item in configz if item["name"].startswith(_FEDERATED))
    egress = next(pod for pod in pods.values() if pod["metadata"]["labels"].get("app") == f"{peer}-egress")
    imported: tuple[Service, ...] = ()
    if mesh == "mesh2":
        exchanged = observed("healthy/discovery/mesh1-v1-services-mesh2.json")["services"]
        imported = tuple(
            made for item in exchanged for made in _imported(item, system, bookinfo, peer, egress, observed)
        )
    return Mesh(
        trust_domain=trust_domain,
        root_namespace=system,
        version=(2, 1),
        services=kubernetes_services(services, endpoints, pods, trust_domain),
        configs=[Config(item["kind"], item["name"], item["namespace"], item["spec"]) for item in users],
        federation={peer: FederationOutput(services=imported, objects=made)},
        workload_services=services,
    )


def captured_proxy(observed: Load, mesh: str, app: str, version: str = "") -> Proxy:
    """The proxy of the captured pod with label `app` (and `version`)."""
    for pod in _objects(observed, mesh, "pods"):
        labels = pod["metadata"]["labels"]
        if labels.get("app") == app and version in ("", labels.get("version")):
            namespace, name = key_of(pod)
            kind = "router" if app.endswith(("gateway", "gress")) else "sidecar"
            address = pod["status"]["podIP"]
            return Proxy(
                node_id=f"{kind}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local",
                kind=kind,
                ip=address,
                name=name,
                namespace=namespace,
                service_account=pod["spec"]["serviceAccountName"],
                labels=labels,
                sni_dnat=app.endswith("gress"),
            )
    raise LookupError(f"no pod of {app} {version} was captured in {mesh}")


def comparable(part: Any) -> Any:
    """Envoy configuration without what says the same in two ways: deprecated field names, sources of configuration."""
    if isinstance(part, list):
        return [comparable(item) for item in part]
    if not isinstance(part, dict):
        return part
    if "ads" in part or "api_config_source" in part:
        return "xds"
    found: dict[str, Any] = {}
    for key, value in part.items():
        if key in _OUTDATED:
            continue
        if key == "match_typed_subject_alt_names":
            found["match_subject_alt_names"] = [comparable(entry["matcher"]) for entry in value]
        elif key == "text_format_source":
            found["text_format"] = value["inline_string"]
        elif key == "exact_match":
            found["string_match"] = {"exact": value}
        elif key == "safe_regex_match":
            found["string_match"] = {"safe_regex": comparable(value)}
        else:
            found[key] = comparable(value)
    return found


def _objects(observed: Load, mesh: str, kind: str) -> list[Any]:
    parts = [observed(f"healthy/objects/{mesh}-{place}-{kind}.json") for place in ("system", "bookinfo")]
    return [item for part in parts for item in (part["items"] if isinstance(part, dict) else part)]


def _imported(item: Any, system: str, bookinfo: str, peer: str, egress: Any, observed: Load) -> tuple[Service, Service]:
    """What an exchanged service becomes: the public one behind the egress gateway, the private one behind the peer."""
    spec = observed("healthy/objects/mesh2-servicemeshpeer-mesh1.json")["spec"]["remote"]
    ports = tuple(Port(port["name"], port["port"], port["protocol"]) for port in item["servicePorts"])
    account = f"spiffe://mesh2.local/ns/{system}/sa/{egress['spec']['serviceAccountName']}"

    def behind(address: str, port: int, identity: str) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(address, port, entry.name, tls=True, identity=identity) for entry in ports)

    remote_identities = tuple(item["serviceAccounts"])
    public = Service(
        hostname=f"{item['name']}.{bookinfo}.svc.{peer}-imports.local",
        name=f"{item['name']}.{bookinfo}.{peer}.local",
        namespace=system,
        ports=ports,
        endpoints=behind(egress["status"]["podIP"], 15443, account),
        identities=(account,),
        source=peer,
    )
    private = Service(
        hostname=item["hostname"],
        name=f"{item['name']}.{item['namespace']}.{peer}.remote",
        namespace=system,
        ports=ports,
        endpoints=behind(spec["addresses"][0], spec.get("servicePort") or 15443, remote_identities[0]),
        identities=remote_identities,
        source=peer,
        private=True,
    )
    return public, private
