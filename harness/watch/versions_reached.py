"""Which versions a change went from and to, and whose proxies still run another one: a pure function of a timeline."""

from __future__ import annotations

from dataclasses import dataclass

from harness.watch.timeline import Role, Timeline

_GATEWAYS = (Role.ENTRY, Role.INGRESS, Role.EGRESS)


@dataclass(frozen=True)
class MeshVersions:
    """One mesh: releases of its control plane at the begin and at the end, the version it is asked to be, and the pods
    whose proxies are others than its gateways', with what they run."""

    mesh: str
    before: str
    after: str
    asked: str
    ready: bool
    lagging: tuple[tuple[str, str], ...]

    @property
    def reached(self) -> bool:
        """Whether what is installed is what is asked for: `v2.5` by any `2.5.x`."""
        return self.ready and self.after.startswith(f"{self.asked.removeprefix('v')}.")

    def __str__(self) -> str:
        became = f"{self.before} -> {self.after}" if self.before != self.after else self.after
        parts = [f"{self.mesh} {became or 'unknown'}"]
        if not self.reached:
            parts.append(f"asked to be {self.asked or 'nothing that was seen'}, {'' if self.ready else 'not '}Ready")
        if self.lagging:
            named = ", ".join(f"{pod} ({release})" for pod, release in self.lagging[:3])
            more = f" and {len(self.lagging) - 3} more" if len(self.lagging) > 3 else ""
            parts.append(f"other proxies than its gateways' until they are restarted: {named}{more}")
        return "; ".join(parts)


def versions_reached(timeline: Timeline) -> list[MeshVersions]:
    """One for each mesh whose control plane was seen."""
    found: dict[str, MeshVersions] = {}
    for event in timeline.states:
        if event.kind != "ServiceMeshControlPlane" or event.now is None:
            continue
        before = found[event.mesh].before if event.mesh in found else event.now.get("installed", "")
        found[event.mesh] = MeshVersions(
            event.mesh,
            before,
            event.now.get("installed", ""),
            event.now.get("asked", ""),
            event.now.get("ready", "").startswith("True"),
            (),
        )
    lagging = _lagging(timeline)
    return [
        MeshVersions(one.mesh, one.before, one.after, one.asked, one.ready, tuple(sorted(lagging.get(one.mesh, ()))))
        for one in sorted(found.values(), key=lambda one: one.mesh)
    ]


def _lagging(timeline: Timeline) -> dict[str, list[tuple[str, str]]]:
    """By mesh, pods at the end whose proxy is another one than that of any of the mesh's gateways."""
    pods = [
        (mesh, name, timeline.role(mesh, now.get("workload", "")), now.get("proxy", ""))
        for (mesh, kind, _, name), now in timeline.at(timeline.end).items()
        if kind == "Pod" and now.get("proxy") and not now.get("terminating")
    ]
    current: dict[str, set[str]] = {}
    for mesh, _, role, release in pods:
        if role in _GATEWAYS:
            current.setdefault(mesh, set()).add(release)
    found: dict[str, list[tuple[str, str]]] = {}
    for mesh, name, _, release in pods:
        if mesh in current and release not in current[mesh]:
            found.setdefault(mesh, []).append((name, release))
    return found
