"""How the catalogue says what it changes: merges into objects, and the scenario's objects by mesh."""

from __future__ import annotations

import copy

from lab import resources
from lab.client import Object
from lab.faults.changes import Change, Edit, Target
from lab.faults.fault import APP, CONTROL_PLANE, PEER, SYSTEM
from lab.istiod.knobs import CONFIG_MAP_NAME


def merging(patch: Object) -> Edit:
    """An edit by the rules of a JSON merge patch: None removes, lists are replaced whole."""

    def edit(obj: Object) -> None:
        _merge(obj, patch)

    return edit


def _merge(obj: Object, patch: Object) -> None:
    for key, value in patch.items():
        if value is None:
            obj.pop(key, None)
        elif isinstance(value, dict):
            child = obj.get(key)
            if not isinstance(child, dict):
                child = obj[key] = {}
            _merge(child, value)
        else:
            obj[key] = copy.deepcopy(value)


def peer(mesh: str, spec: Object, recreate: bool = False) -> Change:
    """Merges into the ServiceMeshPeer that a mesh has for the other one."""
    return Change(_peer(mesh), merging({"spec": spec}), recreate=recreate)


def anew(mesh: str, missed_by: str = "") -> Change:
    """The ServiceMeshPeer of a mesh deleted and created again as it is: its istiod meets it for the first time."""
    return Change(_peer(mesh), merging({}), recreate=True, missed_by=missed_by)


def _peer(mesh: str) -> Target:
    return Target(mesh, resources.PEER, PEER[mesh], SYSTEM[mesh])


def root(mesh: str, pem: str | None) -> Change:
    """Replaces the other mesh's root certificate in a mesh; None deletes the ConfigMap."""
    target = Target(mesh, resources.CONFIG_MAP, f"{PEER[mesh]}-ca-root-cert", SYSTEM[mesh])
    return Change(target) if pem is None else Change(target, merging({"data": {"root-cert.pem": pem}}))


def exports(edit: Edit | None) -> Change:
    """Edits mesh1's ExportedServiceSet; None deletes it."""
    return Change(Target("mesh1", resources.EXPORTS, "mesh2", SYSTEM["mesh1"]), edit)


def imports(edit: Edit | None) -> Change:
    """Edits mesh2's ImportedServiceSet; None deletes it."""
    return Change(Target("mesh2", resources.IMPORTS, "mesh1", SYSTEM["mesh2"]), edit)


def members(mesh: str, names: list[str]) -> Change:
    """Sets the members of a mesh."""
    target = Target(mesh, resources.SMMR, "default", SYSTEM[mesh])
    return Change(target, merging({"spec": {"members": names}}))


def control_plane(mesh: str, spec: Object) -> Change:
    """Merges into a ServiceMeshControlPlane; its operator then changes what follows from it."""
    return Change(Target(mesh, resources.SMCP, CONTROL_PLANE[mesh], SYSTEM[mesh]), merging({"spec": spec}))


def down(mesh: str, deployment: str, app: bool = False) -> Change:
    """Scales a Deployment of the control plane's namespace, or of the application's, to 0."""
    return _deployment(mesh, deployment, app, {"replicas": 0})


def template(mesh: str, deployment: str, pod: Object) -> Change:
    """Merges into the pod template of one of the application's Deployments."""
    return _deployment(mesh, deployment, True, {"template": pod})


def _deployment(mesh: str, name: str, app: bool, spec: Object) -> Change:
    namespace = (APP if app else SYSTEM)[mesh]
    return Change(Target(mesh, resources.DEPLOYMENT, name, namespace), merging({"spec": spec}))


def environment(mesh: str, deployment: str, container: str, name: str, value: str) -> Change:
    """Sets one environment variable of a container of the application."""

    def edit(obj: Object) -> None:
        containers = obj["spec"]["template"]["spec"]["containers"]
        found = next(item for item in containers if item["name"] == container)
        others = [entry for entry in found.get("env") or [] if entry["name"] != name]
        found["env"] = [*others, {"name": name, "value": value}]

    return Change(Target(mesh, resources.DEPLOYMENT, deployment, APP[mesh]), edit)


def routes(name: str, edit: Edit | None) -> Change:
    """Edits a VirtualService of mesh2's application; None deletes it."""
    return Change(Target("mesh2", resources.VIRTUAL_SERVICE, name, APP["mesh2"]), edit)


def knob(mesh: str, name: str, value: str) -> Change:
    """Turns a knob of a mesh's istiod (lab/istiod/knobs.py): for what no object of the product's can bring about."""
    target = Target(mesh, resources.CONFIG_MAP, CONFIG_MAP_NAME, SYSTEM[mesh])
    metadata = {"name": target.name, "namespace": target.namespace}
    return Change(target, create={"metadata": metadata, "data": {name: value}})


def refusal(mesh: str, name: str, labels: Object, operation: Object) -> Change:
    """Adds an AuthorizationPolicy that denies an operation at the pods with these labels in a mesh's system."""
    target = Target(mesh, resources.AUTHORIZATION_POLICY, name, SYSTEM[mesh])
    spec = {"action": "DENY", "selector": {"matchLabels": labels}, "rules": [{"to": [{"operation": operation}]}]}
    return Change(target, create={"metadata": {"name": name, "namespace": target.namespace}, "spec": spec})
