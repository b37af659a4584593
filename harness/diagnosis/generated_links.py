"""Link of the routes that istiod makes, in its memory, of what it lists as exported or imported."""

from __future__ import annotations

from collections.abc import Iterable

from harness.cluster import kinds
from harness.cluster.transport import Object
from harness.diagnosis.mesh_facts import MeshFacts
from harness.diagnosis.model import Link, Look
from harness.product.istiod import federation_config
from harness.product.status import exported_services, imported_services
from harness.product.versions import Version

# Without both of them a gateway does not know the service.
_PER_SERVICE = ("Gateway", "VirtualService")


def routes(mesh: MeshFacts) -> Link:
    """Every istiod has made Gateway and VirtualService for every service that the mesh lists."""
    look = Look("generated routes", mesh.names.name, "/debug/configz of every istiod")
    pods = [pod["metadata"]["name"] for pod in mesh.istiod_pods()]
    if not pods:
        return look.unknown(f"no pod of {mesh.names.istiod} runs")
    sets = [found for kind in (kinds.EXPORTS, kinds.IMPORTS) if (found := mesh.find(kind, mesh.names.peer))]
    wanted = object_names(mesh.version(), mesh.names.peer, sets)
    for pod in pods:
        made = {(entry["kind"], entry["name"]) for entry in federation_config(mesh.cluster, mesh.system, pod)}
        for service, name in wanted.items():
            if missing := [kind for kind in _PER_SERVICE if (kind, name) not in made]:
                seen = f"{pod} has no {' and no '.join(missing)} {name}"
                return look.broken("routes-not-generated", seen, service=service, detail=seen)
    return look.ok(", ".join(wanted.values()) or "nothing is listed, so there is nothing to route")


def object_names(version: Version, peer: str, sets: Iterable[Object]) -> dict[str, str]:
    """What istiod has to make for the services that sets list: local host name to object name."""
    found = {}
    for obj in sets:
        for entry in exported_services(obj) or ():
            found[entry.hostname] = version.export_object(peer, *_name_and_namespace(entry.hostname))
        for entry in imported_services(obj) or ():
            found[entry.hostname] = version.import_object(peer, *_name_and_namespace(entry.exported_name))
    return found


def _name_and_namespace(host: str) -> tuple[str, str]:
    name, namespace, *_ = host.split(".")
    return name, namespace
