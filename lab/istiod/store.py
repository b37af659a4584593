"""One consistent view of the mesh, from which proxies are configured: services and Istio objects, with lookups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from lab.client import Object
from lab.istiod.model import Endpoint, FederationOutput, Port, Service
from lab.istiod.registry import CLUSTER_DOMAIN, hostname_of, protocol_of

T = TypeVar("T")
MESH = "mesh"
"""The name that VirtualServices use for all sidecars together."""


@dataclass(frozen=True)
class Config:
    """One Istio object; `created` orders objects that say something about the same host."""

    kind: str
    name: str
    namespace: str
    spec: Mapping[str, Any]
    created: str = ""

    @property
    def path(self) -> str:
        """How Envoy's metadata names it."""
        word = {"DestinationRule": "destination-rule", "VirtualService": "virtual-service"}[self.kind]
        return f"/apis/networking.istio.io/v1alpha3/namespaces/{self.namespace}/{word}/{self.name}"


@dataclass(frozen=True)
class Proxy:
    """One Envoy as it introduced itself; `kind` is `sidecar` or `router`, `workload` mostly the Deployment."""

    node_id: str
    kind: str
    ip: str
    name: str
    namespace: str
    service_account: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)
    network_view: frozenset[str] = frozenset()
    sni_dnat: bool = False
    workload: str = ""
    cluster: str = "Kubernetes"


@dataclass(frozen=True)
class Binding:
    """A service port that a workload serves, and the port the workload listens on for it."""

    service: Service
    port: Port
    target: int


def objects_to_configs(objects: Iterable[Object]) -> list[Config]:
    """Kubernetes objects as `Config`s."""
    return [
        Config(
            kind=item["kind"],
            name=item["metadata"]["name"],
            namespace=item["metadata"].get("namespace", ""),
            spec=item.get("spec") or {},
            created=item["metadata"].get("creationTimestamp") or "",
        )
        for item in objects
    ]


def federated_configs(federation: Mapping[str, FederationOutput]) -> list[Config]:
    """The objects federation made, younger than any object of a user, who therefore wins."""
    return [
        Config(item["kind"], item["name"], item["namespace"], item["spec"], created="9999")
        for output in federation.values()
        for item in output.objects
    ]


def matches_labels(selector: Mapping[str, str] | None, labels: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in (selector or {}).items())


class Mesh:
    """All that proxies are configured from. It never changes, so whatever is derived from it can be kept (`memo`).

    `workload_services` are the Kubernetes Services (for their selectors); `cluster_ips` maps host names of all the
    cluster's Services to addresses, because a peer may be in the same cluster and Envoy has no cluster DNS here.
    `access_log` is the encoding of the access log, TEXT or JSON, or empty where none is kept; `metrics` says whether
    sidecars count requests for Prometheus. `knobs` say what is done wrong on purpose (lab/istiod/knobs.py).
    """

    def __init__(
        self,
        trust_domain: str,
        root_namespace: str,
        version: tuple[int, int],
        services: Iterable[Service],
        configs: Iterable[Config],
        federation: Mapping[str, FederationOutput],
        workload_services: Iterable[Object] = (),
        access_log: str = "TEXT",
        metrics: bool = False,
        cluster_ips: Mapping[str, str] | None = None,
        knobs: Mapping[str, str] | None = None,
    ) -> None:
        self.trust_domain, self.root_namespace, self.version = trust_domain, root_namespace, version
        self.access_log, self.metrics, self.cluster_ips = access_log, metrics, cluster_ips or {}
        self.knobs = knobs or {}
        everything = sorted([*configs, *federated_configs(federation)], key=lambda c: (c.created, c.namespace, c.name))
        self._by_kind: dict[str, list[Config]] = {}
        for config in everything:
            self._by_kind.setdefault(config.kind, []).append(config)
        self._workload_services = list(workload_services)
        self.services = self._merge(services, federation)
        self._by_host = {service.hostname: service for service in self.services}
        self._memo: dict[object, Any] = {}

    def memo(self, key: object, compute: Callable[[], T]) -> T:
        """The value of `compute()`, computed once per mesh and key."""
        if key not in self._memo:
            self._memo[key] = compute()
        return self._memo[key]

    def configs(self, kind: str) -> list[Config]:
        """All objects of a kind, oldest first."""
        return self._by_kind.get(kind, [])

    def service(self, hostname: str) -> Service | None:
        return self._by_host.get(hostname)

    def visible(self, namespace: str) -> list[Service]:
        """The services that proxies of a namespace are told about, sorted by host name.

        Those of the control plane are left to its own gateways: no sidecar of the lab calls one, and each cluster
        costs every Envoy time and memory.
        """
        if namespace == self.root_namespace:
            return list(self.services)
        return [
            service
            for service in self.services
            if not service.private and (service.namespace != self.root_namespace or service.source != "Kubernetes")
        ]

    def destination_rule(self, hostname: str, namespace: str) -> Config | None:
        """The DestinationRule that a proxy of `namespace` uses for a host: its own, the service's, the mesh's."""
        service = self.service(hostname)
        places = [namespace, service.namespace if service else "", self.root_namespace]
        rules = [
            rule
            for rule in self.configs("DestinationRule")
            if resolve(rule.spec.get("host", ""), rule.namespace) == hostname
            and ("." not in rule.spec.get("exportTo", ()) or rule.namespace == namespace)
        ]
        return next((rule for place in places for rule in rules if rule.namespace == place), None)

    def virtual_services(self, gateway: str, namespace: str) -> list[Config]:
        """VirtualServices bound to a gateway (`namespace/name` or `mesh`) that proxies of `namespace` see."""

        def bound(config: Config) -> bool:
            exported = config.spec.get("exportTo") or ["*"]
            if "." in exported and config.namespace != namespace:
                return False
            return gateway in gateways_of(config, config.spec.get("gateways"))

        return [config for config in self.configs("VirtualService") if bound(config)]

    def gateways(self, proxy: Proxy) -> list[Config]:
        """The Gateways whose selector picks a proxy, by name."""
        found = [gateway for gateway in self.configs("Gateway") if gateway.spec.get("selector")]
        chosen = [gateway for gateway in found if matches_labels(gateway.spec["selector"], proxy.labels)]
        return sorted(chosen, key=lambda gateway: (gateway.namespace, gateway.name))

    def policies(self, proxy: Proxy, action: str) -> list[Config]:
        """The AuthorizationPolicies with an action (`DENY`, `ALLOW`) that hold for a proxy, by namespace and name."""
        found = [
            policy
            for policy in self.configs("AuthorizationPolicy")
            if policy.namespace in (self.root_namespace, proxy.namespace)
            and (policy.spec.get("action") or "ALLOW") == action
            and matches_labels((policy.spec.get("selector") or {}).get("matchLabels"), proxy.labels)
        ]
        return sorted(found, key=lambda policy: (policy.namespace, policy.name))

    def mtls_mode(self, namespace: str, labels: Mapping[str, str] | None = None, port: int | None = None) -> str:
        """What servers of a workload accept: STRICT, PERMISSIVE or DISABLE (workload, then namespace, then mesh)."""
        narrowest: dict[int, str] = {}
        for policy in self.configs("PeerAuthentication"):
            selector = (policy.spec.get("selector") or {}).get("matchLabels")
            mode = (policy.spec.get("mtls") or {}).get("mode") or "UNSET"
            if selector and policy.namespace == namespace and labels is not None:
                if matches_labels(selector, labels):
                    by_port = (policy.spec.get("portLevelMtls") or {}).get(str(port)) or {}
                    narrowest.setdefault(0, by_port.get("mode") or mode)
            elif not selector and policy.namespace == namespace:
                narrowest.setdefault(1, mode)
            if not selector and policy.namespace == self.root_namespace:
                narrowest.setdefault(2, mode)
        return next((mode for _, mode in sorted(narrowest.items()) if mode != "UNSET"), "PERMISSIVE")

    def bindings(self, proxy: Proxy) -> list[Binding]:
        """The service ports that a proxy's workload serves, by the Services' selectors."""
        found = []
        for item in self._workload_services:
            meta, spec = item["metadata"], item.get("spec") or {}
            selector = spec.get("selector")
            if meta.get("namespace") != proxy.namespace or not selector or not matches_labels(selector, proxy.labels):
                continue
            service = self.service(hostname_of(meta["name"], meta["namespace"]))
            for port in (spec.get("ports") or ()) if service else ():
                target = port.get("targetPort") or port["port"]
                name = port.get("name") or f"port-{port['port']}"
                number = target if isinstance(target, int) else self._named_target(service, name)
                if service and number:
                    found.append(Binding(service, Port(name, port["port"], protocol_of(port)), number))
        return found

    @staticmethod
    def _named_target(service: Service | None, port_name: str) -> int:
        endpoints = service.endpoints if service else ()
        return next((endpoint.port for endpoint in endpoints if endpoint.port_name == port_name), 0)

    def _merge(self, services: Iterable[Service], federation: Mapping[str, FederationOutput]) -> tuple[Service, ...]:
        merged = {service.hostname: service for service in services}
        for entry in self.configs("ServiceEntry"):
            for service in _entry_services(entry):
                merged.setdefault(service.hostname, service)
        for output in federation.values():
            for service in output.services:
                local = merged.get(service.hostname)
                # importAsLocal: one host name, served by local pods and by the peer
                merged[service.hostname] = _joined(local, service) if local else service
        return tuple(merged[hostname] for hostname in sorted(merged))


def _joined(local: Service, imported: Service) -> Service:
    ports = local.ports or imported.ports
    return replace(
        local,
        ports=ports,
        endpoints=local.endpoints + imported.endpoints,
        identities=tuple(sorted({*local.identities, *imported.identities})),
    )


def _entry_services(entry: Config) -> list[Service]:
    spec = entry.spec
    if (spec.get("resolution") or "NONE") == "NONE":
        return []
    ports = tuple(
        Port(
            port.get("name") or str(port["number"]), port["number"], protocol_of({"appProtocol": port.get("protocol")})
        )
        for port in spec.get("ports") or ()
    )
    found = []
    for host in spec.get("hosts") or ():
        endpoints = tuple(
            Endpoint(
                address=endpoint["address"],
                port=(endpoint.get("ports") or {}).get(port["name"]) or port.get("targetPort") or port["number"],
                port_name=port["name"],
                labels=tuple(sorted((endpoint.get("labels") or {}).items())),
            )
            for endpoint in spec.get("endpoints") or [{"address": host}]
            for port in spec.get("ports") or ()
        )
        found.append(
            Service(
                hostname=host,
                name=host,
                namespace=entry.namespace,
                ports=ports,
                endpoints=endpoints,
                identities=tuple(spec.get("subjectAltNames") or ()),
                source="External",
                private="." in (spec.get("exportTo") or ()),
                resolution="DNS" if spec["resolution"] == "DNS" else "STATIC",
            )
        )
    return found


def gateways_of(config: Config, names: Iterable[str] | None) -> list[str]:
    """Gateway references of a VirtualService as `namespace/name` or `mesh`; none given means mesh."""
    return [name if name == MESH or "/" in name else f"{config.namespace}/{name}" for name in names or [MESH]]


def resolve(host: str, namespace: str) -> str:
    """The full name of a host as an Istio object of a namespace writes it: short names are of that namespace."""
    return host if "." in host or host == "*" else f"{host}.{namespace}.svc.{CLUSTER_DOMAIN}"
