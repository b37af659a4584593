"""Which meshes there are, which of them are federated with which, and what their objects disagree about."""

from harness.product.topology.findings import findings
from harness.product.topology.links import topology
from harness.product.topology.model import ClusterObjects, Finding, InstalledMesh, Link, Topology, Vote

__all__ = ["ClusterObjects", "Finding", "InstalledMesh", "Link", "Topology", "Vote", "findings", "topology"]
