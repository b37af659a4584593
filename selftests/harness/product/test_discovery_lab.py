"""The control of FED-007 counts only over a new connection: old ones are served on while they drain."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.cluster import kinds
from harness.product.discovery import ask_peer, discovery_route
from harness.product.envoy import Proxy
from harness.product.status import PeerStatus
from selftests.support.diagnosed import Meshes, provisioned, until


@pytest.fixture
def draining() -> Iterator[Meshes]:
    """A federation whose proxies serve old connections on for longer than this test runs."""
    with provisioned("--drain-seconds", "300", settled=False) as meshes:
        yield meshes


def pooled(egress: Proxy) -> int:
    """How many connections the egress gateway keeps open to its peer's discovery."""
    route = discovery_route(egress.config_dump("dynamic_route_configs"))
    assert route
    return egress.connections().get(route.cluster, 0)


def test_an_answer_over_a_connection_from_before_is_no_control(draining: Meshes) -> None:
    mesh1, mesh2 = draining.clusters["mesh1"], draining.federation.mesh2
    egress = draining.gateway("mesh2", mesh2.egress_gateway)
    assert ask_peer(mesh2).status == 200
    idle = pooled(egress)
    assert idle > 1, "nothing but the watch has a connection: nothing could be answered over an old one"
    ingress = draining.gateway("mesh1", "mesh2-ingress")
    somebody = {"spec": {"security": {"clientID": "mesh2.local/ns/mesh2-system/sa/somebody"}}}
    mesh1.patch(kinds.PEER, "mesh2", "mesh1-system", somebody)
    until("the ingress to know whom mesh1 admits", lambda: "sa/somebody" in ingress.request("GET", "config_dump"))

    assert ask_peer(mesh2).status == 403

    (view,) = PeerStatus.of(draining.clusters["mesh2"].get(kinds.PEER, "mesh1", "mesh2-system")).views
    assert view.watch.connected, "old connections are not served any more: this proves nothing"
