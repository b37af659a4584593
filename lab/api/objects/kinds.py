"""The built-in kinds: names, merge behaviour of their lists, printer columns."""

from __future__ import annotations

from lab.api.objects.registry import Column, Kind, Registry, Version
from lab.api.objects.store import Collection
from lab.api.schema.schema import hints

_CONTAINER = {
    "ports": "containerPort,protocol",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "resources.claims": "name",
}


def _pod_spec(prefix: str) -> dict[str, str]:
    table = {
        f"{prefix}.volumes": "name",
        f"{prefix}.imagePullSecrets": "name",
        f"{prefix}.hostAliases": "ip",
        f"{prefix}.topologySpreadConstraints": "topologyKey,whenUnsatisfiable",
        f"{prefix}.nodeSelector": "{}",
        f"{prefix}.readinessGates": "conditionType",
    }
    for containers in ("containers", "initContainers", "ephemeralContainers"):
        table[f"{prefix}.{containers}"] = "name"
        table |= {f"{prefix}.{containers}[].{field}": keys for field, keys in _CONTAINER.items()}
    return table


_TEMPLATE = {"spec.selector": "{}", "status.conditions": "type", **_pod_spec("spec.template.spec")}
_AGE = Column("Age", ".metadata.creationTimestamp", "date")

# plural, kind, short names, namespaced, subresources, bumps generation, merge behaviour, columns, categories
_CORE: list[tuple[str, str, str, bool, str, dict[str, str], tuple[Column, ...]]] = [
    ("namespaces", "Namespace", "ns", False, "status finalize", {"status.conditions": "type"}, ()),
    (
        "nodes",
        "Node",
        "no",
        False,
        "status",
        {"status.conditions": "type", "status.addresses": "type"},
        (Column("Version", ".status.nodeInfo.kubeletVersion"),),
    ),
    (
        "pods",
        "Pod",
        "po",
        True,
        "status log exec portforward proxy eviction",
        {
            **_pod_spec("spec"),
            "status.conditions": "type",
            "status.podIPs": "ip",
            "status.hostIPs": "ip",
        },
        (),
    ),
    (
        "services",
        "Service",
        "svc",
        True,
        "status proxy",
        {"spec.ports": "port,protocol", "spec.selector": "{}", "status.conditions": "type"},
        (),
    ),
    ("endpoints", "Endpoints", "ep", True, "", {}, ()),
    ("configmaps", "ConfigMap", "cm", True, "", {}, ()),
    ("secrets", "Secret", "", True, "", {}, (Column("Type", ".type"),)),
    ("serviceaccounts", "ServiceAccount", "sa", True, "token", {"secrets": "name"}, ()),
    (
        "events",
        "Event",
        "ev",
        True,
        "",
        {},
        (
            Column("Type", ".type"),
            Column("Reason", ".reason"),
            Column("Object", ".involvedObject.name"),
            Column("Message", ".message"),
        ),
    ),
]
_DEPLOYMENT = ("deployments", "Deployment", "deploy", True, "status scale", _TEMPLATE, ())
_REPLICA_SET = ("replicasets", "ReplicaSet", "rs", True, "status scale", _TEMPLATE, ())
_GROUPS: list[tuple[str, str, list[tuple[str, str, str, bool, str, dict[str, str], tuple[Column, ...]]]]] = [
    ("", "v1", _CORE),
    ("apps", "v1", [_DEPLOYMENT, _REPLICA_SET]),
    (
        "coordination.k8s.io",
        "v1",
        [("leases", "Lease", "", True, "", {}, (Column("Holder", ".spec.holderIdentity"),))],
    ),
    (
        "discovery.k8s.io",
        "v1",
        [("endpointslices", "EndpointSlice", "", True, "", {}, (Column("AddressType", ".addressType"),))],
    ),
    (
        "networking.k8s.io",
        "v1",
        [("networkpolicies", "NetworkPolicy", "netpol", True, "", {"spec.podSelector": "{}"}, ())],
    ),
    (
        "rbac.authorization.k8s.io",
        "v1",
        [
            ("roles", "Role", "", True, "", {}, ()),
            ("rolebindings", "RoleBinding", "", True, "", {}, (Column("Role", ".roleRef.name"),)),
            ("clusterroles", "ClusterRole", "", False, "", {}, ()),
            ("clusterrolebindings", "ClusterRoleBinding", "", False, "", {}, (Column("Role", ".roleRef.name"),)),
        ],
    ),
    (
        "apiextensions.k8s.io",
        "v1",
        [
            (
                "customresourcedefinitions",
                "CustomResourceDefinition",
                "crd crds",
                False,
                "status",
                {"status.conditions": "type"},
                (),
            )
        ],
    ),
    (
        "admissionregistration.k8s.io",
        "v1",
        [
            ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration", "", False, "", {"webhooks": "name"}, ()),
            (
                "validatingwebhookconfigurations",
                "ValidatingWebhookConfiguration",
                "",
                False,
                "",
                {"webhooks": "name"},
                (),
            ),
        ],
    ),
]
_WITH_GENERATION = {
    "Deployment",
    "ReplicaSet",
    "NetworkPolicy",
    "CustomResourceDefinition",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
}
_IN_ALL = {"Pod", "Service", "Deployment", "ReplicaSet"}


def register(registry: Registry) -> None:
    """Adds all built-in kinds."""
    for group, version, kinds in _GROUPS:
        for plural, kind, short_names, namespaced, subresources, table, columns in kinds:
            served = Version(
                version,
                hints(table),
                status="status" in subresources.split(),
                scale="scale" in subresources.split(),
                columns=(*columns, _AGE),
            )
            registry.add(
                Kind(
                    group,
                    plural,
                    kind,
                    namespaced,
                    {version: served},
                    version,
                    Collection(registry.clock),
                    short_names=tuple(short_names.split()),
                    categories=("all",) if kind in _IN_ALL else (),
                    generation=kind in _WITH_GENERATION,
                    subresources=tuple(subresources.split()),
                )
            )
