"""What differs between OSSM versions: one table, for every wait and for every reader of statuses, logs and routes.

Sources: maistra/istio and maistra/istio-operator, branches maistra-2.1 to maistra-2.5 (controllers, status writers,
charts), the product's release notes for what changed within a version, and captures from 2.1.6. The federation code of
2.6 was not to be had: its row is 2.5.1's, as the release notes name no difference.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from datetime import timedelta

_RESYNC, _FAST_RESYNC = 300.0, 60.0  # seconds; hard-coded first, istiod's --resync since
_HOLD = 120.0  # how long one resync may try (registry controller)
_PEER_LOOK = 60.0  # informer resync: when a ServiceMeshPeer is looked at again by itself
_BACK_OFF = 60.0  # most between two attempts of a watch
_DNS = 300.0  # dns.refreshRate of the base profile: a fresh load balancer's name is looked up this often
_LONGEST_NAME, _KEPT = 63, 55
# Envoy's default for access logs in files, set by no version: lines come up to this late, in seconds.
LOG_FLUSH = 10.0


@dataclass(frozen=True)
class Bounds:
    """How long things may take before they count as broken; seconds, except `sync_age`.

    webhook: a webhook answers: the operator's listens some 20 s after its Deployment is Available, or later on a busy
    node. control_plane: control plane Ready from nothing, image pulls included. member_roll: namespaces configured.
    address: a LoadBalancer or NodePort address. workloads: bookinfo available. connect: own watch connected once both
    peers are applied. sets: exported and imported sets as asked for. page: first page with stars.
    reconnect: a watch that was cut is back; programmed: a changed VirtualService is in every proxy of a busy mesh.
    sync_age: oldest last full sync of a healthy watch.
    """

    webhook: float = 120
    control_plane: float = 600
    member_roll: float = 300
    address: float = 300
    workloads: float = 420
    connect: float = _DNS + _BACK_OFF + 60
    sets: float = _PEER_LOOK + _RESYNC + _HOLD
    page: float = _DNS + _HOLD
    delete: float = 300
    reconnect: float = 10
    programmed: float = 30
    sync_age: timedelta = timedelta(seconds=_RESYNC + _HOLD)

    def settled_within(self, seconds: float | None) -> Bounds:
        """The same, where what istiod and the proxies do gets at most `seconds`; None for no such cap."""
        if seconds is None:
            return self
        waits = {name: min(getattr(self, name), seconds) for name in _SETTLING}
        return replace(self, **waits)


# What follows by itself once everything is applied and running.
_SETTLING = ("connect", "sets", "page", "reconnect", "programmed")


@dataclass(frozen=True)
class Version:
    """How one version behaves.

    release: the last release of it that the facts were read from. oldest: the oldest `spec.version` its operator
    accepts. fast_from: the patch level from which a registry resyncs every 60 s instead of every 5 min, None for no
    such. roll_waits: the member roll is Ready, and configures members, only when the control plane is installed;
    otherwise Ready says nothing of the control plane. edits_at_once: an edited ImportedServiceSet is seen at once;
    otherwise when its ServiceMeshPeer is next looked at. exports, imports: names of the Gateway and VirtualService
    that istiod makes for a service, in its memory. cut_from: the patch level from which names of over 63 characters
    are cut and end in a hash, None for no such. unknown_cluster: flags by which an access log says that a route leads
    to a cluster that does not exist. view_counts: an egress gateway whose network view is another than the documented
    one, or none, has no endpoints of imports. leader_only: of several istiods only the one that leads federates.
    patch: the patch level meant, 0 where it is not known.
    """

    release: str
    oldest: str
    fast_from: int | None
    roll_waits: bool = False
    edits_at_once: bool = False
    exports: str = "fed-exp-{name}-{namespace}-{peer}"
    imports: str = "fed-imp-{name}-{namespace}-{peer}"
    cut_from: int | None = 0
    unknown_cluster: frozenset[str] = frozenset({"NC"})
    leader_only: bool = False
    view_counts: bool = False
    patch: int = 0

    @property
    def resync(self) -> float:
        """Seconds between two times that a registry asks its peer for everything."""
        return _FAST_RESYNC if self.fast_from is not None and self.patch >= self.fast_from else _RESYNC

    @property
    def bounds(self) -> Bounds:
        """How long things may take in this version."""
        found = Bounds()
        if self.resync == _FAST_RESYNC:
            # A minute more than 60 s and a resync that tries for 2 min: the status is written by the way.
            age = _FAST_RESYNC + _HOLD + _PEER_LOOK
            found = replace(found, sets=_PEER_LOOK + _FAST_RESYNC + _HOLD, sync_age=timedelta(seconds=age))
        if self.edits_at_once:
            found = replace(found, sets=found.sets - _PEER_LOOK)
        if self.roll_waits:
            found = replace(found, member_roll=found.control_plane + found.member_roll)
        return found

    def export_object(self, peer: str, name: str, namespace: str) -> str:
        """Name of what istiod makes for a service exported to `peer`; name and namespace are the local ones."""
        return self._cut(self.exports.format(peer=peer, name=name, namespace=namespace))

    def import_object(self, peer: str, name: str, namespace: str) -> str:
        """Name of what istiod makes for a service imported from `peer`; name and namespace are the exported ones."""
        return self._cut(self.imports.format(peer=peer, name=name, namespace=namespace))

    def _cut(self, name: str) -> str:
        if self.cut_from is None or self.patch < self.cut_from or len(name) <= _LONGEST_NAME:
            return name
        return name[:_KEPT] + hashlib.sha256(name.encode()).hexdigest()[: _LONGEST_NAME - _KEPT]


# The table. Resync: maistra/istio PR 985, in 2.4.7 and 2.5.1. Cut names: OSSM-1093, in 2.2.4 and 2.3. Member rolls:
# istio-operator, member roll controller (reason SMCPReconciling is 2.1's only). Oldest: istio-operator build/build.sh
# and, for 2.6, the release notes. Flags: Envoy's NC came with 1.18; 2.1 has 1.17 (its captures an Envoy with NC).
TABLE = {
    "v2.1": Version(
        release="2.1.6",
        oldest="v2.1",
        fast_from=None,
        roll_waits=True,
        edits_at_once=True,
        exports="federation-exports-{peer}-{name}-{namespace}",
        imports="federation-imports-{peer}-{name}-{namespace}",
        cut_from=None,
        unknown_cluster=frozenset({"NR", "NC"}),
        leader_only=True,
        view_counts=True,
    ),
    "v2.2": Version(release="2.2.13", oldest="v2.1", fast_from=None, cut_from=4),
    "v2.3": Version(release="2.3.11", oldest="v2.1", fast_from=None),
    "v2.4": Version(release="2.4.7", oldest="v2.1", fast_from=7),
    "v2.5": Version(release="2.5.1", oldest="v2.2", fast_from=1),
    "v2.6": Version(release="2.6.14", oldest="v2.4", fast_from=0),
}
KNOWN = tuple(TABLE)
RELEASES = {name: version.release for name, version in TABLE.items()}
# What is known of no version: the most patient waits, and every flag that may be meant.
_UNKNOWN = replace(TABLE["v2.5"], fast_from=None, roll_waits=True, unknown_cluster=frozenset({"NR", "NC"}))


def behaviour(version: str) -> Version:
    """How an OSSM version behaves: `2.1.6`, `v2.4` or `2.5.1-0`; without a patch level as its first release."""
    found = re.match(r"v?(\d+\.\d+)(?:\.(\d+))?", version)
    known = TABLE.get(f"v{found[1]}", _UNKNOWN) if found else _UNKNOWN
    return replace(known, patch=int(found[2] or 0) if found else 0)


def refused_istiods(version: str, istiods: int) -> str:
    """Why a mesh of this version cannot have so many pods of istiod, '' where it can."""
    if istiods == 1 or not behaviour(version).leader_only:
        return ""
    return (
        f"--istiods {istiods}: of several istiods of {version} only the one that leads federates; proxies of the "
        f"others know no imported service. Leave it out, or install {KNOWN[1]} or later (--ossm-version)"
    )


def bounds(version: str) -> Bounds:
    """The bounds of an OSSM version, written as for `behaviour`; of one not known the most patient ones."""
    return behaviour(version).bounds


def supported_versions(release: str) -> tuple[str, ...]:
    """The versions with federation that an operator release, such as `2.4.7`, installs.

    () for one not known, or from before federation (`is_before_federation`).
    """
    minor = "v" + ".".join(release.split(".")[:2])
    if minor not in TABLE:
        return ()
    return KNOWN[KNOWN.index(TABLE[minor].oldest) : KNOWN.index(minor) + 1]


def is_before_federation(release: str) -> bool:
    """Whether an operator release, such as `2.0.11`, knows no federation yet; not so for one not known ('')."""
    found = re.match(r"(\d+)\.(\d+)", release)
    first = tuple(int(part) for part in KNOWN[0].removeprefix("v").split("."))
    return found is not None and (int(found[1]), int(found[2])) < first
