"""What differs between OSSM versions: one table of time bounds, used by every wait, and of what operators install.

What else differs is not in the table because the suite depends on none of it: routes that federation generates
(`federation-imports-P-S-NS` in 2.1, `fed-imp-S-NS-P` from 2.2) are never looked up by name; a Ready member roll means
an installed control plane only in 2.1, so both are waited for in every version; an unknown cluster is flagged NR in
the access logs of 2.1 and NC from 2.2, so both are read. Source: maistra/istio and maistra/istio-operator, branches
maistra-2.1 to maistra-2.5, and the product's release notes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta

# spec.version and the last release of it that the suite's facts were read from.
RELEASES = {
    "v2.1": "2.1.6",
    "v2.2": "2.2.13",
    "v2.3": "2.3.11",
    "v2.4": "2.4.7",
    "v2.5": "2.5.1",
    "v2.6": "2.6.14",
}
KNOWN = tuple(RELEASES)
# The oldest spec.version an operator accepts (istio-operator build/build.sh, product documentation for 2.6).
_OLDEST = {"v2.1": "v2.1", "v2.2": "v2.1", "v2.3": "v2.1", "v2.4": "v2.1", "v2.5": "v2.2", "v2.6": "v2.4"}


def supported_versions(release: str) -> tuple[str, ...]:
    """The versions with federation that an operator release, such as `2.4.7`, installs; () for one not known."""
    minor = "v" + ".".join(release.split(".")[:2])
    if minor not in _OLDEST:
        return ()
    return KNOWN[KNOWN.index(_OLDEST[minor]) : KNOWN.index(minor) + 1]


@dataclass(frozen=True)
class Bounds:
    """How long things may take before they count as broken; seconds, except `sync_age`.

    control_plane: control plane Ready from nothing, image pulls included. member_roll: namespaces configured.
    address: a LoadBalancer or NodePort address. workloads: bookinfo available. connect: own watch connected once both
    peers are applied. sets: exported and imported sets as asked for. page: first page with stars.
    reconnect: a watch that was cut is back; programmed: a changed VirtualService is in every proxy of a busy mesh.
    sync_age: oldest last full sync of a healthy watch.
    """

    control_plane: float = 600
    member_roll: float = 300
    address: float = 300
    workloads: float = 420
    connect: float = 420
    sets: float = 420
    page: float = 420
    delete: float = 300
    reconnect: float = 10
    programmed: float = 30
    sync_age: timedelta = timedelta(minutes=7)

    def settled_within(self, seconds: float | None) -> Bounds:
        """The same, where what istiod and the proxies do gets at most `seconds`; None for no such cap."""
        if seconds is None:
            return self
        waits = {name: min(getattr(self, name), seconds) for name in _SETTLING}
        return replace(self, **waits)


# What follows by itself once everything is applied and running.
_SETTLING = ("connect", "sets", "page", "reconnect", "programmed")

# Resync every 5 min, hard-coded, up to 2.4.6 and in 2.5.0; every 60 s from 2.4.7 and 2.5.1 on. A resync may hold for
# 2 min, so a healthy sync is at most 7 or 4 min old. Back-off of a failing watch is at most 60 s, a fresh load
# balancer's DNS name is looked up every 5 min (dns.refreshRate 300s): hence 7 min for what crosses the meshes.
_FIVE_MINUTES = Bounds()
_ONE_MINUTE = Bounds(sync_age=timedelta(minutes=4))


def bounds(version: str) -> Bounds:
    """The bounds for an OSSM version, `2.1.6`, `v2.4` or `2.5.1-0`; without a patch level the more patient ones."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if not found:
        return _FIVE_MINUTES
    major, minor, patch = (int(part or 0) for part in found.groups())
    first_fast = {4: 7, 5: 1}.get(minor, 0 if minor > 5 else None)
    fast = major == 2 and first_fast is not None and patch >= first_fast
    return _ONE_MINUTE if fast else _FIVE_MINUTES
