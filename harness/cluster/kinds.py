"""The kinds the suite reads and writes, with the paths they live under."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One kind: `api_version` such as `apps/v1`, its plural as in the path, and whether it lives in a namespace."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def __str__(self) -> str:
        return self.kind

    @property
    def group_path(self) -> str:
        """`/api/v1` or `/apis/<group>/<version>`."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
        """Path of a collection, an object or its subresource; without `namespace` the collection of all namespaces."""
        parts = [self.group_path]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        parts += [part for part in (name, sub) if part]
        return "/".join(parts)


NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
NODE = Kind("v1", "Node", "nodes", namespaced=False)
POD = Kind("v1", "Pod", "pods")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
ENDPOINTS = Kind("v1", "Endpoints", "endpoints")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
EVENT = Kind("v1", "Event", "events")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
CRD = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
CLUSTER_VERSION = Kind("config.openshift.io/v1", "ClusterVersion", "clusterversions", namespaced=False)
_ADMISSION = "admissionregistration.k8s.io/v1"
WEBHOOK_KINDS = (
    Kind(_ADMISSION, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", namespaced=False),
    Kind(_ADMISSION, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", namespaced=False),
)
SELF_SUBJECT_REVIEW = Kind("authentication.k8s.io/v1", "SelfSubjectReview", "selfsubjectreviews", namespaced=False)
USER = Kind("user.openshift.io/v1", "User", "users", namespaced=False)
ROUTE = Kind("route.openshift.io/v1", "Route", "routes")

CONTROL_PLANE = Kind("maistra.io/v2", "ServiceMeshControlPlane", "servicemeshcontrolplanes")
MEMBER_ROLL = Kind("maistra.io/v1", "ServiceMeshMemberRoll", "servicemeshmemberrolls")
PEER = Kind("federation.maistra.io/v1", "ServiceMeshPeer", "servicemeshpeers")
EXPORTS = Kind("federation.maistra.io/v1", "ExportedServiceSet", "exportedservicesets")
IMPORTS = Kind("federation.maistra.io/v1", "ImportedServiceSet", "importedservicesets")

VIRTUAL_SERVICE = Kind("networking.istio.io/v1beta1", "VirtualService", "virtualservices")
DESTINATION_RULE = Kind("networking.istio.io/v1beta1", "DestinationRule", "destinationrules")
GATEWAY = Kind("networking.istio.io/v1beta1", "Gateway", "gateways")
ENVOY_FILTER = Kind("networking.istio.io/v1alpha3", "EnvoyFilter", "envoyfilters")
AUTHORIZATION_POLICY = Kind("security.istio.io/v1beta1", "AuthorizationPolicy", "authorizationpolicies")
PEER_AUTHENTICATION = Kind("security.istio.io/v1beta1", "PeerAuthentication", "peerauthentications")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")

KIALI = Kind("kiali.io/v1alpha1", "Kiali", "kialis")
JAEGER = Kind("jaegertracing.io/v1", "Jaeger", "jaegers")

FEDERATION_KINDS = (PEER, EXPORTS, IMPORTS)
# Who may talk to whom: what remedies send people to.
POLICY_KINDS = (NETWORK_POLICY, AUTHORIZATION_POLICY, PEER_AUTHENTICATION, ENVOY_FILTER)

_KNOWN = {(kind.api_version, kind.kind): kind for kind in list(globals().values()) if isinstance(kind, Kind)}


def kind_of(obj: dict) -> Kind:
    """The Kind of an object that says its apiVersion and kind; raises LookupError for one the suite does not know."""
    key = (obj["apiVersion"], obj["kind"])
    if key not in _KNOWN:
        raise LookupError(f"{key[1]} of {key[0]} is not among the kinds in harness/cluster/kinds.py")
    return _KNOWN[key]
