"""The kinds the lab's controllers use, with the paths they live under."""

from __future__ import annotations

from typing import NamedTuple


class Resource(NamedTuple):
    """One served kind: `api_version` such as `apps/v1`, plural as in the path, and whether it lives in a namespace."""

    api_version: str
    plural: str
    kind: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None, sub: str | None = None) -> str:
        prefix = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        parts = [prefix]
        if self.namespaced and namespace:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name:
            parts.append(name)
        if sub:
            parts.append(sub)
        return "/".join(parts)


NAMESPACE = Resource("v1", "namespaces", "Namespace", namespaced=False)
NODE = Resource("v1", "nodes", "Node", namespaced=False)
POD = Resource("v1", "pods", "Pod")
SERVICE = Resource("v1", "services", "Service")
ENDPOINTS = Resource("v1", "endpoints", "Endpoints")
CONFIG_MAP = Resource("v1", "configmaps", "ConfigMap")
SECRET = Resource("v1", "secrets", "Secret")
SERVICE_ACCOUNT = Resource("v1", "serviceaccounts", "ServiceAccount")
EVENT = Resource("v1", "events", "Event")
DEPLOYMENT = Resource("apps/v1", "deployments", "Deployment")
REPLICA_SET = Resource("apps/v1", "replicasets", "ReplicaSet")
LEASE = Resource("coordination.k8s.io/v1", "leases", "Lease")
ENDPOINT_SLICE = Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
NETWORK_POLICY = Resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
CRD = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
ROLE_BINDING = Resource("rbac.authorization.k8s.io/v1", "rolebindings", "RoleBinding")
ROUTE = Resource("route.openshift.io/v1", "routes", "Route")

SMCP = Resource("maistra.io/v2", "servicemeshcontrolplanes", "ServiceMeshControlPlane")
SMMR = Resource("maistra.io/v1", "servicemeshmemberrolls", "ServiceMeshMemberRoll")
SMM = Resource("maistra.io/v1", "servicemeshmembers", "ServiceMeshMember")
PEER = Resource("federation.maistra.io/v1", "servicemeshpeers", "ServiceMeshPeer")
EXPORTS = Resource("federation.maistra.io/v1", "exportedservicesets", "ExportedServiceSet")
IMPORTS = Resource("federation.maistra.io/v1", "importedservicesets", "ImportedServiceSet")

VIRTUAL_SERVICE = Resource("networking.istio.io/v1beta1", "virtualservices", "VirtualService")
DESTINATION_RULE = Resource("networking.istio.io/v1beta1", "destinationrules", "DestinationRule")
GATEWAY = Resource("networking.istio.io/v1beta1", "gateways", "Gateway")
SERVICE_ENTRY = Resource("networking.istio.io/v1beta1", "serviceentries", "ServiceEntry")
AUTHORIZATION_POLICY = Resource("security.istio.io/v1beta1", "authorizationpolicies", "AuthorizationPolicy")
PEER_AUTHENTICATION = Resource("security.istio.io/v1beta1", "peerauthentications", "PeerAuthentication")
