"""Federations that stand still for a reason that only istiod knows: after a peer was deleted, after a start of 2.1."""

from __future__ import annotations

from datetime import timedelta

import pytest

from harness.diagnosis import Diagnosis, State, diagnose, standstill
from harness.run.waiting import wait_for
from selftests.support.diagnosed import Meshes, fault, meshes, named
from selftests.support.healing import heal, shell

__all__ = ["meshes", "shell"]


def unbroken(meshes: Meshes) -> None:
    def look() -> tuple[bool | None, str]:
        found = diagnose(meshes.clusters, patience=1)
        return found.state is State.OK or None, "\n".join(map(str, found.broken))

    wait_for("all to be in order again", look, 60)


def seen(meshes: Meshes, cause: str) -> Diagnosis:
    """The diagnosis in which the watches of both meshes are said to stand still for a cause."""

    def look() -> tuple[Diagnosis | None, str]:
        found = diagnose(meshes.clusters, patience=1)
        watches = [found.link("watch", mesh) for mesh in meshes.clusters]
        both = {(link.cause, link.side) for link in watches} == {(cause, "mesh1")}
        return found if both else None, "\n".join(map(str, found.broken))

    return wait_for(f"both watches to name {cause}", look, 60)


def test_an_istiod_that_gave_up_its_peer_when_it_started_is_named_by_both_sides(meshes: Meshes) -> None:
    with fault(meshes, "restarted-without-federation"):
        found = seen(meshes, "restarted-without-federation")
    assert named(found) == ("restarted-without-federation", "mesh1"), found.summary
    assert "gave up" in found.sentence
    unbroken(meshes)


def test_a_federation_frozen_by_a_deleted_peer_is_thawed_by_the_printed_command(
    meshes: Meshes, shell: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        standstill, "_RESYNC", timedelta(seconds=5)
    )  # a minute in the product, which nobody waits for here
    with fault(meshes, "federation-frozen"):
        found = seen(meshes, "federation-frozen")
        assert named(found) == ("federation-frozen", "mesh1"), found.summary
        heal(meshes, shell, "federation-frozen")
    unbroken(meshes)
