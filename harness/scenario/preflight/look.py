"""Both clusters at once: every look is taken, and a failed one is a finding too."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from harness.cluster.cluster import Cluster
from harness.cluster.transport import (
    CertificateError,
    ClusterError,
    Forbidden,
    KubeconfigError,
    Objects,
    ServerError,
    Unauthorized,
    Unreachable,
)
from harness.product.mesh import SCENARIO, MeshNames
from harness.scenario.ownership.lease import held_by, last_holder
from harness.scenario.ownership.remains import by_run, existing, were_kept
from harness.scenario.preflight.findings import BrokenOff, Finding, answering
from harness.scenario.preflight.permissions import permission_findings
from harness.scenario.preflight.product import product_findings
from harness.scenario.preflight.surroundings import address_findings, name_findings, namespaces_there, plane_findings

# A certificate is valid from 2 min before istiod signs it: further apart, one mesh's are not valid yet in the other.
_SKEW_BREAKS = 120.0
_SKEW_SHOWN = 5.0


@dataclass(frozen=True)
class Asked:
    """What the run is asked to do: `spec.version`, None for the operator's newest; whether it installs nothing; and how
    many pods of istiod each mesh gets.
    """

    version: str | None = None
    adopt: bool = False
    istiods: int = 1


def preflight(
    clusters: Mapping[str, Cluster], asked: Asked = Asked(), names: Mapping[str, MeshNames] = SCENARIO
) -> list[Finding]:
    """All findings on the clusters there are, by mesh name; nothing is changed."""
    with ThreadPoolExecutor(max(1, len(clusters)), thread_name_prefix="preflight") as pool:
        tasks = [pool.submit(_findings, cluster, names[name], asked) for name, cluster in clusters.items()]
        found = [finding for task in tasks for finding in task.result()]
    asked_more = {name: clusters[name] for name in answering(clusters, found)}
    if len(asked_more) == 2:
        found += list(_together(asked_more, names))
    else:
        found += list(_addresses(asked_more, names))
    return found


def _findings(cluster: Cluster, names: MeshNames, asked: Asked) -> list[Finding]:
    try:
        cluster.knock()
    except ClusterError as error:
        return [_broken_off(names, error, asked)]
    objects: Objects = []

    def there() -> Iterable[Finding]:
        if names.is_scenario:
            objects.extend(existing(cluster, names))
        return ()

    found: list[Finding] = []
    looks: list[Callable[[], Iterable[Finding]]] = [
        there,
        lambda: product_findings(
            cluster, names, None if asked.adopt else asked.version, 1 if asked.adopt else asked.istiods
        ),
        lambda: permission_findings(cluster, names, asked.adopt, namespaces_there(objects)),
        lambda: _names_and_lease(cluster, names, objects, asked.adopt),
        lambda: plane_findings(cluster, names, asked.adopt),
    ]
    for look in looks:
        try:
            for finding in look():
                found.append(finding)  # what was found before an error counts
        except ClusterError as error:
            if _is_the_end(cluster, error):
                return [*found, _broken_off(names, error, asked)]
            found.append(Finding(names.name, error.sentence, True))
    return found


def _broken_off(names: MeshNames, error: ClusterError, asked: Asked) -> BrokenOff:
    """Of an adopted federation an API server that fails is a failure to be explained; otherwise nothing can begin."""
    fails = isinstance(error, ServerError | Unreachable) and not isinstance(error, CertificateError)
    return BrokenOff(names.name, error.sentence, not (asked.adopt and fails), note=True)


def _is_the_end(cluster: Cluster, error: ClusterError) -> bool:
    """Whether an error is no matter of one path: all the rest would be answered like this."""
    if isinstance(error, ServerError | Unreachable):
        try:
            cluster.knock()
        except ClusterError:
            return True
    return isinstance(error, Unauthorized | KubeconfigError)


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


def _together(clusters: Mapping[str, Cluster], names: Mapping[str, MeshNames]) -> Iterable[Finding]:
    one, two = clusters["mesh1"], clusters["mesh2"]
    try:
        same, ahead = one.uid() == two.uid(), (one.clock_offset(), two.clock_offset())
    except ClusterError as error:
        yield Finding(error.mesh, error.sentence, True)
        return
    yield from _this_machine(*ahead)
    if same:
        yield Finding("both meshes", f"one cluster, {one.server}: they find each other by their Services' names")
        return
    yield Finding("both meshes", f"two clusters, {one.server} and {two.server}")
    apart = abs(ahead[0] - ahead[1])
    if apart > _SKEW_SHOWN:
        text = f"the clocks of the clusters are {apart:.0f} s apart"
        breaks = apart > _SKEW_BREAKS
        advice = ": certificates of one are not valid yet in the other. Set the clocks (chrony)" if breaks else ""
        yield Finding("both meshes", text + advice, breaks, note=True)
    else:
        yield Finding("both meshes", f"the clocks of the clusters agree to {_SKEW_SHOWN:.0f} s")
    yield from _addresses(clusters, names)


def _this_machine(mesh1_ahead: float, mesh2_ahead: float) -> Iterable[Finding]:
    """Where the clock of this machine is neither mesh's: what one cluster has wrong, the other tells."""
    apart = min(abs(mesh1_ahead), abs(mesh2_ahead))
    if apart > _SKEW_SHOWN:
        one, two = (
            f"{abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} {mesh}"
            for mesh, ahead in (("mesh1", mesh1_ahead), ("mesh2", mesh2_ahead))
        )
        judged = "ages are judged by the clusters' clocks, but the report's times are this machine's"
        yield Finding("both meshes", f"the clock of this machine is {one} and {two}: {judged}", note=True)


def _addresses(clusters: Mapping[str, Cluster], names: Mapping[str, MeshNames]) -> Iterable[Finding]:
    """How each will be found by the other; nothing of what a failed look at it has told already."""
    for name, cluster in clusters.items():
        with contextlib.suppress(ClusterError):
            yield from address_findings(cluster, names[name])
