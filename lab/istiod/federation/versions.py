"""What federation does differently from one OSSM version to the next: one table, so that nobody asks for versions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VersionRules:
    """Behaviour of one version.

    resync: seconds between two unasked polls of the peer's services.
    short_names: objects are named `fed-exp-`/`fed-imp-`, at most 63 characters, not `federation-exports-`/`-imports-`.
    edits_wait_for_sync: an edited ImportedServiceSet holds from the next resync on, regular or after an event of the
        watch; otherwise from the next look at the ServiceMeshPeer on.
    same_generation_ignored: a set made anew with the generation of the one before it is not looked at.
    lists_unmatched: services that no import rule wants stand in the status with an empty local service.
    leader_only: an istiod beside the one that leads sees no ConfigMap, so it meets no peer.
    doubles_newcomers: an istiod that is new in front of others is listed twice until the status is written again.
    keeps_leavers: what is exported from a namespace that leaves the mesh stays exported, though nothing serves it.
    starts_blind: peers that are there when istiod starts are looked at before it sees ConfigMaps, in vain.
    freezes: a deleted peer to which something is exported stops the one worker, until istiod starts anew.
    terse_errors: a missing root certificate is reported in the short form.
    names_all_gateways: peers are told the gateways of all networks that are known, their own ones too (OSSM-3644).
    """

    resync: float
    short_names: bool
    edits_wait_for_sync: bool
    same_generation_ignored: bool
    lists_unmatched: bool
    leader_only: bool
    doubles_newcomers: bool
    keeps_leavers: bool
    starts_blind: bool
    freezes: bool
    terse_errors: bool
    names_all_gateways: bool


_RESYNC_LONG = 300.0
_RESYNC_SHORT = 60.0


def rules_for(version: str) -> VersionRules:
    """The rules of an OSSM version such as `2.1.6`; what is missing counts as 0."""
    numbers = [int(part) if part.isdigit() else 0 for part in version.removeprefix("v").split(".")]
    major, minor, patch = (*numbers, 0, 0, 0)[:3]
    old = (major, minor) <= (2, 1)
    short = (2, 4, 7) <= (major, minor, patch) < (2, 5, 0) or (major, minor, patch) >= (2, 5, 1)
    return VersionRules(
        resync=_RESYNC_SHORT if short else _RESYNC_LONG,
        short_names=not old,
        edits_wait_for_sync=old,
        same_generation_ignored=not old,
        lists_unmatched=not old,
        leader_only=old,
        doubles_newcomers=not old,
        keeps_leavers=old,
        starts_blind=old,
        freezes=(major, minor) <= (2, 2),
        terse_errors=old,
        names_all_gateways=(2, 2, 0) <= (major, minor, patch) < (2, 3, 3),
    )
