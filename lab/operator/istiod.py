"""istiod and what belongs to the mesh as a whole: istio-discovery, mesh-config, telemetry-common, wasm-extensions."""

from __future__ import annotations

import json
from typing import Any

import yaml

from lab.client import Object
from lab.operator import versions
from lab.operator.plane import PILOT_IMAGE, ControlPlane, Rendered, deployment_spec, environment
from lab.resources import (
    CONFIG_MAP,
    DEPLOYMENT,
    DESTINATION_RULE,
    NETWORK_POLICY,
    PEER_AUTHENTICATION,
    ROLE_BINDING,
    SERVICE,
    SERVICE_ACCOUNT,
)

_ISTIOD_PORTS = (
    ("grpc-xds", 15010, 15010),
    ("https-dns", 15012, 15012),
    ("https-webhook", 443, 15017),
    ("http-monitoring", 15014, 15014),
    ("http-discovery", 8188, 8188),
)


def service_port(name: str, port: int, target: int | str) -> dict[str, Any]:
    return {"name": name, "port": port, "protocol": "TCP", "targetPort": target}


def discovery(plane: ControlPlane) -> list[Rendered]:
    """istio-discovery: istiod with its Service and account, the mesh's ConfigMaps, access to its ports."""
    component = "istio-discovery"
    common = {"istio.io/rev": plane.name}
    labels = plane.labels(component, app="istiod", istio="pilot", **common)
    selector = {"app": "istiod", "istio.io/rev": plane.name}
    account = versions.istiod_service_account(plane.version, plane.name)
    mtls_to_discovery = {
        "host": f"{plane.istiod}.{plane.namespace}.svc.cluster.local",
        "trafficPolicy": {"portLevelSettings": [{"port": {"number": 8188}, "tls": {"mode": "SIMPLE"}}]},
    }
    everyone = {"podSelector": {"matchLabels": selector}, "ingress": [{}], "policyTypes": ["Ingress"]}
    service = {
        "type": "ClusterIP",
        "selector": selector,
        "ports": [service_port(*port) for port in _ISTIOD_PORTS],
    }
    made: list[Rendered] = [
        (SERVICE_ACCOUNT, plane.object(account, plane.labels(component, app="istiod"))),
        (CONFIG_MAP, plane.object(f"istio-{plane.name}", plane.labels(component, **common), data=_mesh(plane))),
        (
            CONFIG_MAP,
            plane.object(
                f"istio-sidecar-injector-{plane.name}", plane.labels(component, **common), data=_injection(plane)
            ),
        ),
        (SERVICE, plane.object(plane.istiod, labels, spec=service)),
        (DEPLOYMENT, plane.object(plane.istiod, labels, spec=_istiod(plane, selector, account))),
        (DESTINATION_RULE, plane.object(plane.istiod, labels, spec=mtls_to_discovery)),
        (ROLE_BINDING, _rights(plane, account)),
    ]
    if plane.get("security", "manageNetworkPolicy", default=True):
        made.append((NETWORK_POLICY, plane.object(f"istio-istiod-{plane.name}", labels, spec=everyone)))
    return made


def _rights(plane: ControlPlane, account: str) -> Object:
    """What istiod may do in this namespace; copied into every member."""
    role = {
        "apiGroup": "rbac.authorization.k8s.io",
        "kind": "ClusterRole",
        "name": f"{plane.istiod}-{plane.namespace}",
    }
    who = {"kind": "ServiceAccount", "name": account, "namespace": plane.namespace}
    return plane.object(plane.istiod, plane.labels("istio-discovery", app="istiod"), roleRef=role, subjects=[who])


def _istiod(plane: ControlPlane, selector: dict[str, str], account: str) -> dict[str, Any]:
    runtime = plane.get("runtime", "components", "pilot", default={})
    routes = plane.get("gateways", "openshiftRoute", "enabled", default=versions.makes_routes_by_default(plane.version))
    wanted = {
        "REVISION": plane.name,
        "POD_NAME": "@metadata.name",
        "POD_NAMESPACE": "@metadata.namespace",
        "SERVICE_ACCOUNT": "@spec.serviceAccountName",
        "JWT_POLICY": "third-party-jwt"
        if plane.get("security", "identity", "type") == "ThirdParty"
        else "first-party-jwt",
        "PILOT_CERT_PROVIDER": "istiod",
        "ISTIOD_ADDR": plane.discovery_address,
        "CLUSTER_ID": plane.get("cluster", "name", default="Kubernetes"),
        "PILOT_ENABLE_FEDERATION": "true",
        "ENABLE_IOR": str(bool(routes)).lower(),
        **(runtime.get("container") or {}).get("env", {}),
    }
    container = {
        "name": "discovery",
        "image": f"{PILOT_IMAGE}:{plane.chart}",
        "args": [
            "discovery",
            "--monitoringAddr=:15014",
            "--domain",
            "cluster.local",
            f"--trust-domain={plane.trust_domain}",
            "--memberRollName=default",
        ],
        "ports": [
            {"containerPort": 8080, "protocol": "TCP"},
            {"containerPort": 15010, "protocol": "TCP"},
            {"containerPort": 15017, "name": "webhook", "protocol": "TCP"},
            {"containerPort": 8188, "protocol": "TCP"},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": 8080},
            "initialDelaySeconds": 1,
            "periodSeconds": 3,
            "timeoutSeconds": 5,
        },
        "env": environment(wanted.items()),
    }
    labels = {
        "app": "istiod",
        "istio": "istiod",
        "istio.io/rev": plane.name,
        "maistra-control-plane": plane.namespace,
        "sidecar.istio.io/inject": "false",
    }
    scraped = {"prometheus.io/port": "15014", "prometheus.io/scrape": "true"}
    return deployment_spec(plane, selector, labels, scraped, account, container, runtime)


def _mesh(plane: ControlPlane) -> dict[str, str]:
    logged = plane.get("proxy", "accessLogging", "file", default={})
    measured = plane.get("addons", "prometheus", "enabled", default=True)
    mesh: dict[str, Any] = {
        "accessLogFile": logged.get("name", ""),
        "accessLogEncoding": logged.get("encoding", "TEXT"),
        "accessLogFormat": logged.get("format", ""),
        "defaultConfig": {
            "discoveryAddress": plane.discovery_address,
            "meshId": plane.trust_domain,
            "proxyMetadata": {"ISTIO_META_DNS_AUTO_ALLOCATE": "true", "ISTIO_META_DNS_CAPTURE": "true"},
        },
        "defaultProviders": {"metrics": ["prometheus"] if measured else []},
        "dnsRefreshRate": plane.get("proxy", "networking", "dns", "refreshRate", default="300s"),
        "enableAutoMtls": plane.get("security", "dataPlane", "automtls", default=True),
        "rootNamespace": plane.namespace,
        "trustDomain": plane.trust_domain,
        "trustDomainAliases": plane.get("security", "trust", "additionalDomains", default=[]),
    }
    return {"mesh": yaml.safe_dump(mesh), "meshNetworks": yaml.safe_dump({"networks": {}})}


def _injection(plane: ControlPlane) -> dict[str, str]:
    policy = "enabled" if plane.get("proxy", "injection", "autoInject") else "disabled"
    values = {
        "global": {"trustDomain": plane.trust_domain, "network": plane.get("cluster", "network", default="")},
        "revision": plane.name,
    }
    return {
        "config": yaml.safe_dump({"policy": policy, "defaultTemplates": ["sidecar"]}),
        "values": json.dumps(values, indent=2),
    }


def mesh_config(plane: ControlPlane) -> list[Rendered]:
    """mesh-config: mutual TLS of the mesh and which namespaces may reach its pods."""
    component = "mesh-config"
    labels = plane.labels(component, app="istio")
    strict = bool(plane.get("security", "dataPlane", "mtls", default=False))
    mode = {"mtls": {"mode": "STRICT" if strict else "PERMISSIVE"}}
    made: list[Rendered] = [(PEER_AUTHENTICATION, plane.object("default", labels, spec=mode))]
    if strict:
        to_mesh = {"host": "*.local", "trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}
        to_api = {
            "host": "kubernetes.default.svc.cluster.local",
            "trafficPolicy": {"tls": {"mode": "DISABLE"}},
        }
        made.append((DESTINATION_RULE, plane.object("default", labels, spec=to_mesh)))
        made.append((DESTINATION_RULE, plane.object("api-server", labels, spec=to_api)))
    if plane.get("security", "manageNetworkPolicy", default=True):
        members = {"matchLabels": {"maistra.io/member-of": plane.namespace}}
        routers = {"matchLabels": {"network.openshift.io/policy-group": "ingress"}}
        from_members = {
            "podSelector": {},
            "ingress": [{"from": [{"namespaceSelector": members}]}],
            "policyTypes": ["Ingress"],
        }
        from_routers = {
            "podSelector": {"matchLabels": {"maistra.io/expose-route": "true"}},
            "ingress": [{"from": [{"namespaceSelector": routers}]}],
            "policyTypes": ["Ingress"],
        }
        made.append((NETWORK_POLICY, plane.object(f"istio-mesh-{plane.name}", labels, spec=from_members)))
        made.append((NETWORK_POLICY, plane.object(f"istio-expose-route-{plane.name}", labels, spec=from_routers)))
    return made


def telemetry_common(plane: ControlPlane) -> list[Rendered]:
    labels = plane.labels("telemetry-common", app="istio") | {"config.openshift.io/inject-trusted-cabundle": "true"}
    return [(CONFIG_MAP, plane.object("trusted-ca-bundle", labels))]


def wasm_extensions(plane: ControlPlane) -> list[Rendered]:
    """wasm-extensions of 2.1 and 2.2: a cache of WebAssembly modules beside istiod."""
    component, name = "wasm-extensions", f"wasm-cacher-{plane.name}"
    labels = plane.labels(component, app="wasm-cacher", heritage="Tiller", **{"istio.io/rev": plane.name})
    selector = {"app": "wasm-cacher", "istio.io/rev": plane.name}
    pod = {**selector, "heritage": "Tiller", "maistra-control-plane": plane.namespace, "release": "istio"}
    container = {
        "name": "wasm-cacher",
        "image": f"{PILOT_IMAGE}:{plane.chart}",
        "command": ["/usr/local/bin/wasm-cacher"],
        "ports": [{"containerPort": 8080, "protocol": "TCP"}],
    }
    plain = {
        "host": f"{name}.{plane.namespace}.svc.cluster.local",
        "trafficPolicy": {"tls": {"mode": "DISABLE"}},
    }
    service = {"type": "ClusterIP", "selector": selector, "ports": [service_port("http", 80, 8080)]}
    return [
        (SERVICE_ACCOUNT, plane.object(name, labels)),
        (SERVICE, plane.object(name, labels, spec=service)),
        (DEPLOYMENT, plane.object(name, labels, spec=deployment_spec(plane, selector, pod, {}, name, container, {}))),
        (DESTINATION_RULE, plane.object(name, labels, spec=plain)),
    ]
