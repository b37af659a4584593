"""Applies a directory of manifests to a new cluster: the operator and its kinds, whatever kinds they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import CRD, DEPLOYMENT, NAMESPACE, Kind
from harness.cluster.transport import Invalid, NotFound, Object, Objects
from harness.run.progress import Progress
from harness.run.waiting import wait_for

_SERVED_SECONDS = 60.0  # a kind is served moments after its definition
_AVAILABLE_SECONDS = 600.0  # images are pulled into a new node
_FIRST = (NAMESPACE.kind, CRD.kind)


class BadManifests(Exception):
    """A directory of manifests cannot be used; the message names the file."""


def read_manifests(directory: Path) -> Objects:
    """Every object of the YAML files of a directory, by file name; namespaces and definitions come first.

    Raises BadManifests.
    """
    found: Objects = []
    for path in sorted(directory.glob("*.y*ml")):
        try:
            documents = list(yaml.safe_load_all(path.read_text()))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BadManifests(f"{path}: not readable as YAML: {error}") from error
        for obj in _flattened(documents):
            if not isinstance(obj, dict) or not obj.get("kind") or not (obj.get("metadata") or {}).get("name"):
                raise BadManifests(f"{path}: holds something that is no Kubernetes object with kind and name")
            found.append(obj)
    return sorted(found, key=lambda obj: _FIRST.index(obj["kind"]) if obj["kind"] in _FIRST else len(_FIRST))


def _flattened(documents: list) -> Iterator[Object]:
    for document in documents:
        if isinstance(document, dict) and document.get("kind") == "List":
            yield from document.get("items") or []
        elif document is not None:
            yield document


def apply_manifests(cluster: Cluster, objects: Objects, progress: Progress) -> None:
    """Applies objects in order and waits until all Deployments among them are Available.

    Raises WaitTimeout, ClusterError, and Cancelled when the cluster is interrupted.
    """
    deployments = []
    for obj in objects:
        with progress.waiting(cluster.name, f"{obj.get('apiVersion')} {obj['kind']} to be served"):
            kind = _kind(cluster, obj)
        namespace = obj["metadata"].setdefault("namespace", "default") if kind.namespaced else None
        cluster.apply(obj, kind=kind)
        if (kind.api_version, kind.kind) == (DEPLOYMENT.api_version, DEPLOYMENT.kind):
            deployments.append((namespace, obj["metadata"]["name"]))
    for namespace, name in deployments:
        what = f"Deployment {namespace}/{name} to be Available"
        with progress.waiting(cluster.name, what) as seen:
            cluster.wait(what, DEPLOYMENT, namespace, name, until=_any_available, timeout=_AVAILABLE_SECONDS, seen=seen)


def _kind(cluster: Cluster, obj: Object) -> Kind:
    api_version, kind = obj.get("apiVersion", ""), obj["kind"]

    def look() -> tuple[Kind | None, str]:
        try:
            return cluster.kind(api_version, kind), ""
        except (NotFound, Invalid) as error:
            return None, str(error)

    return wait_for(
        f"{api_version} {kind} to be served", look, _SERVED_SECONDS, cluster.name, cancelled=cluster.cancelled
    )


def _any_available(found: Objects) -> bool:
    return any(_available(obj) for obj in found)


def _available(obj: Object) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or []
    return any(entry["type"] == "Available" and entry["status"] == "True" for entry in conditions)
