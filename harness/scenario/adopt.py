"""What is installed already, as the suite sees it; nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.cluster.transport import NotFound
from harness.product.mesh import MESH1, MESH2, Federation, IngressAddress, Mesh, MeshNames
from harness.scenario import manifests
from harness.scenario.entry import NO_WAY_IN, ingress_address, node_port_address


def adopted(clusters: Mapping[str, Cluster]) -> Federation:
    """The federation as it is installed, nothing changed; raises ClusterError where a part is not there."""
    one_cluster = clusters["mesh1"].uid() == clusters["mesh2"].uid()
    meshes = []
    for names in (MESH1, MESH2):
        cluster = clusters[names.name]
        service = cluster.get(kinds.SERVICE, names.ingress_gateway, names.system_namespace)
        found = manifests.cluster_local(names) if one_cluster else ingress_address(service)
        address = found or node_port_address(cluster, service)
        if address is None:
            raise NotFound(names.name, f"find the address of {names.ingress_gateway}", NO_WAY_IN)
        meshes.append(mesh_of(names, cluster, address, reachable=not one_cluster))
    return Federation(meshes[0], meshes[1], one_cluster)


def mesh_of(names: MeshNames, cluster: Cluster, ingress: IngressAddress, reachable: bool) -> Mesh:
    """A mesh as it is installed; raises NotFound where it has no control plane."""
    obj = cluster.get(kinds.CONTROL_PLANE, names.control_plane, names.system_namespace)
    status = obj.get("status") or {}
    release = status.get("chartVersion") or ""
    version = obj["spec"].get("version") or ".".join(f"v{release}".split(".")[:2])
    return Mesh(names.name, names.peer, names.control_plane, cluster, version, release, ingress, reachable)
