"""A gateway is judged by an exported service that has pods; where none has, who is there is unknown and not wrong."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from harness.checks.data_plane import stranger_at
from harness.checks.installation import ingress_identities
from harness.checks.live_exports import Unjudged
from harness.cluster import kinds
from harness.product.names import SERVICE_PORT
from selftests.support.diagnosed import Meshes, in_effect, meshes

__all__ = ["meshes"]
NAMESPACE = "mesh1-bookinfo"


def known(meshes: Meshes, service: str, pods: int) -> Callable[[bool], bool]:
    """Whether mesh1's ingress knows that nobody is behind a service (True), or knows its pods again (False)."""
    host = f"||{service}.{NAMESPACE}.svc.cluster.local"

    def seen(gone: bool) -> bool:
        found = meshes.gateway("mesh1", "mesh2-ingress").endpoints()
        ends = next(ends for name, ends in found.items() if name.startswith("outbound|") and name.endswith(host))
        return len(ends) == (0 if gone else pods)

    return seen


def test_without_a_pod_of_one_service_the_gateway_is_judged_by_the_other(meshes: Meshes) -> None:
    mesh1 = meshes.federation.mesh1
    with in_effect(meshes.without_ratings("mesh1"), "the ingress to know it", known(meshes, "ratings", 2)):
        stranger = stranger_at(mesh1, SERVICE_PORT)
        assert stranger.refused
        assert stranger.refused.shown == (stranger.gateway,)
        assert ingress_identities(meshes.federation, mesh1).problems == []


def test_without_a_pod_of_any_it_is_unknown_who_is_there(meshes: Meshes) -> None:
    mesh1 = meshes.federation.mesh1
    none = meshes.changed("mesh1", kinds.DEPLOYMENT, "mongodb-v1", NAMESPACE, {"replicas": 0})
    words = re.escape("unknown: mongodb and ratings have no ready pod in mesh1-bookinfo")
    with (
        in_effect(meshes.without_ratings("mesh1"), "the ingress to know it", known(meshes, "ratings", 2)),
        in_effect(none, "the ingress to know that too", known(meshes, "mongodb", 1)),
    ):
        with pytest.raises(Unjudged, match=words):
            stranger_at(mesh1, SERVICE_PORT)
        with pytest.raises(Unjudged, match=words):
            ingress_identities(meshes.federation, mesh1)
