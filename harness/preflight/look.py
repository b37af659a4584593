"""Both clusters at once: every look is taken, and a failed one is a finding too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from harness.cluster import Cluster
from harness.lease import held_by, last_holder
from harness.mesh import MESH1, MESH2, MeshNames
from harness.preflight.findings import Finding
from harness.preflight.permissions import permission_findings
from harness.preflight.product import product_findings
from harness.preflight.surroundings import (
    address_findings,
    name_findings,
    namespaces_there,
    plane_findings,
)
from harness.remains import by_run, existing, were_kept
from harness.transport import ClusterError, Forbidden, Objects, Unauthorized, Unreachable

# A certificate is valid from 2 min before istiod signs it: further apart, one mesh's are not valid yet in the other.
_SKEW_BREAKS = 120.0
_SKEW_SHOWN = 5.0


@dataclass(frozen=True)
class Asked:
    """What the run is asked to do: `spec.version`, None for the operator's newest, and whether it installs anything."""

    version: str | None = None
    adopt: bool = False


def preflight(clusters: Mapping[str, Cluster], asked: Asked = Asked()) -> list[Finding]:
    """All findings on the clusters there are, by mesh name; nothing is changed."""
    with ThreadPoolExecutor(max(1, len(clusters)), thread_name_prefix="preflight") as pool:
        tasks = [pool.submit(_findings, cluster, _names(name), asked) for name, cluster in clusters.items()]
        found = [finding for task in tasks for finding in task.result()]
    if len(clusters) == 2:
        found += list(_together(clusters))
    else:
        found += list(_addresses(clusters))
    return found


def _names(name: str) -> MeshNames:
    return {"mesh1": MESH1, "mesh2": MESH2}[name]


def _findings(cluster: Cluster, names: MeshNames, asked: Asked) -> list[Finding]:
    try:
        cluster.version()
    except ClusterError as error:
        return [_failed(names, error)]
    there = _try(names, lambda: existing(cluster, names))
    objects = [entry for entry in there if isinstance(entry, dict)]
    found = [entry for entry in there if isinstance(entry, Finding)]
    looks: list[Callable[[], Iterable[Finding]]] = [
        lambda: product_findings(cluster, names, None if asked.adopt else asked.version),
        lambda: permission_findings(cluster, names, asked.adopt, namespaces_there(objects)),
        lambda: _names_and_lease(cluster, names, objects, asked.adopt),
        lambda: plane_findings(cluster, names, asked.adopt),
    ]
    return found + [finding for look in looks for finding in _try(names, look)]


def _names_and_lease(cluster: Cluster, names: MeshNames, there: Objects, adopt: bool) -> Iterable[Finding]:
    try:
        last = last_holder(cluster)
    except Forbidden:
        last = None  # said already, with the permissions
    if last and not last.expired(cluster.now()):
        told = held_by(cluster, last)
        yield Finding(names.name, f"{told.what}: {told.detail}", True)
        # What that run has made, or has taken over, is its own for now.
        its_own = [obj for objects in by_run(there).values() if not were_kept(objects) for obj in objects]
        there = there if adopt else [obj for obj in there if obj not in its_own]
        last = None
    yield from name_findings(names, there, adopt, last)


def _try(names: MeshNames, look: Callable[[], Iterable]) -> list:
    taken = []
    try:
        for entry in look():
            taken.append(entry)
    except ClusterError as error:
        taken.append(_failed(names, error))
    return taken


def _failed(names: MeshNames, error: ClusterError) -> Finding:
    return Finding(names.name, str(error).removeprefix(f"{names.name}: "), True)


def _together(clusters: Mapping[str, Cluster]) -> Iterable[Finding]:
    one, two = clusters["mesh1"], clusters["mesh2"]
    try:
        same, apart = one.uid() == two.uid(), abs(one.clock_offset() - two.clock_offset())
    except (Unreachable, Unauthorized):
        yield from _addresses(clusters)
        return  # the rest is said already, by the look at that cluster
    except ClusterError as error:
        yield Finding(error.mesh, str(error).removeprefix(f"{error.mesh}: "), True)
        return
    if same:
        yield Finding("both meshes", f"one cluster, {one.server}: they find each other by their Services' names")
        return
    yield Finding("both meshes", f"two clusters, {one.server} and {two.server}")
    if apart > _SKEW_SHOWN:
        text = f"the clocks of the clusters are {apart:.0f} s apart"
        breaks = apart > _SKEW_BREAKS
        advice = ": certificates of one are not valid yet in the other. Set the clocks (chrony)" if breaks else ""
        yield Finding("both meshes", text + advice, breaks, note=True)
    else:
        yield Finding("both meshes", f"the clocks of the clusters agree to {_SKEW_SHOWN:.0f} s")
    yield from _addresses(clusters)


def _addresses(clusters: Mapping[str, Cluster]) -> Iterable[Finding]:
    """How each will be found by the other; nothing of what a failed look at it has told already."""
    for name, cluster in clusters.items():
        with contextlib.suppress(ClusterError):
            yield from address_findings(cluster, _names(name))
