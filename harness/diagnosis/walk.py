"""The walk along the chain: every link once, in the order in which the federation is built."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial

from harness.cluster.cluster import Cluster
from harness.cluster.transport import ClusterError, NotFound
from harness.diagnosis import (
    address_links,
    caller_links,
    database_links,
    generated_links,
    identity_links,
    installation_links,
    request_links,
    set_links,
    trust_links,
    watch_links,
    workload_links,
)
from harness.diagnosis.causes import MESHES
from harness.diagnosis.commands import addressed
from harness.diagnosis.mesh_facts import Facts, MeshFacts, read_facts, refusal_of
from harness.diagnosis.model import Diagnosis, Link, Look
from harness.diagnosis.request_path import PathLook
from harness.product.mesh import SCENARIO, MeshNames
from harness.product.names import DISCOVERY_PORT, SERVICE_PORT
from harness.run.interrupts import until_one_fails

_PATIENCE = 3.0  # seconds; somebody waits for the answer
_THREADS = 96  # links wait for each other's reads; every one of them has a thread


@dataclass(frozen=True)
class Hints:
    """What is known from elsewhere.

    weights: percent by mesh that ratings-split is to carry; dependent: what a measurement found wrong with the
    independence of picks, '' for nothing; meshes: names of both, by `mesh1` and `mesh2`.
    """

    weights: Mapping[str, float] | None = None
    dependent: str = ""
    meshes: Mapping[str, MeshNames] = field(default_factory=lambda: SCENARIO)


@dataclass(frozen=True)
class _Step:
    name: str
    side: str
    look: Callable[[], Link]


def diagnose(clusters: Mapping[str, Cluster], hints: Hints | None = None, patience: float | None = None) -> Diagnosis:
    """Looks at both meshes, given by name (`mesh1`, `mesh2`), whatever is there of them. Changes no object.

    It sends two dozen requests to productpage. What may not be read makes its links unknown; it raises nothing.
    A watch that is cut gets `Bounds.reconnect` to come back, or `patience` seconds where that is less.
    """
    begin, known = time.monotonic(), hints or Hints()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(_THREADS, "diagnosis", MESHES.set, (known.meshes,)))
        # Before the pool waits for its threads: at Ctrl-C what they ask is ended, and what they have not begun is not.
        stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        own = {
            name: stack.enter_context(closing(Cluster(name, cluster.kubeconfig, cluster.context, _PATIENCE)))
            for name, cluster in clusters.items()
        }
        facts = read_facts(own, pool, known.meshes, patience)
        path = PathLook(facts, pool)
        steps = _chain(facts, path, known)
        tasks = [pool.submit(_looked, step) for step in steps]
        until_one_fails(tasks)
        links = tuple(_taken(step, task.result(), clusters) for step, task in zip(steps, tasks, strict=True))
    return Diagnosis(links, time.monotonic() - begin)


def _taken(step: _Step, link: Link, clusters: Mapping[str, Cluster]) -> Link:
    return replace(link, seen_in=step.side, commands=addressed(link.commands, clusters))


def _looked(step: _Step) -> Link:
    """A link, whatever happens: what cannot be looked at is unknown, and never ok."""
    try:
        return step.look()
    except ClusterError as error:
        what = error.detail if isinstance(error, NotFound) else refusal_of(error)
        return Look(step.name, step.side, "").unknown(what)
    except Exception as error:
        return Look(step.name, step.side, "").unknown(f"looking failed: {type(error).__name__}: {error}")


def _chain(facts: Facts, path: PathLook, hints: Hints) -> list[_Step]:
    mesh1, mesh2 = facts.meshes

    def each(name: str, look: Callable[[MeshFacts], Link]) -> list[_Step]:
        return [_Step(name, mesh.names.name, partial(look, mesh)) for mesh in facts.meshes]

    def both(name: str, look: Callable[[Facts, MeshFacts], Link]) -> list[_Step]:
        return [_Step(name, mesh.names.name, partial(look, facts, mesh)) for mesh in facts.meshes]

    installed = [
        *each("API", installation_links.api),
        *both("control plane", installation_links.control_plane),
        *each("member roll", installation_links.member_roll),
        *both("peer object", installation_links.peer),
        *each("gateways", installation_links.gateways),
        *each("network view", installation_links.network_view),
        *both("addresses", address_links.addresses),
        *both("discovery port", partial(address_links.port, number=DISCOVERY_PORT)),
        *both("service port", partial(address_links.port, number=SERVICE_PORT)),
        *each("own root", trust_links.own_root),
        *both("root of the peer", trust_links.held_root),
        _Step("trust domains", "both", partial(trust_links.trust_domains, facts)),
        *both("trust domain of the peer", trust_links.peer_trust_domain),
        *both("clientID", partial(identity_links.client_id, path=path)),
        *both("chain shown", trust_links.shown_chain),
        *each("watch", partial(watch_links.watch, path=path)),
        *both("announced gateways", partial(identity_links.announced, path=path)),
    ]
    if not all(mesh.names.is_scenario for mesh in facts.meshes):  # what follows is about bookinfo
        generated = each("generated routes", generated_links.routes)
        return [*installed, *generated, *both("strangers", trust_links.strangers)]
    return [
        *installed,
        _Step("exports", "mesh1", partial(set_links.exports, facts)),
        _Step("imports", "mesh2", partial(set_links.imports, facts)),
        *each("generated routes", generated_links.routes),
        _Step("reviews route", "mesh2", partial(caller_links.reviews, mesh2)),
        _Step("client sidecar", "mesh2", partial(caller_links.client, mesh2, path)),
        _Step("split routes", "mesh2", partial(caller_links.split, mesh2, path, hints.weights, hints.dependent)),
        _Step("mongodb route", "mesh2", partial(caller_links.mongodb, mesh2)),
        _Step("calls of ratings", "mesh2", partial(request_links.calls, facts, path)),
        _Step("calls of mongodb", "mesh2", partial(database_links.calls, facts, path)),
        _Step("egress", "mesh2", partial(request_links.egress, facts, path)),
        _Step("ingress", "mesh1", partial(request_links.ingress, facts, path)),
        *both("workload", workload_links.workloads),
        _Step("mongodb", "mesh1", partial(database_links.served, facts, path)),
        _Step("application", "mesh1", partial(workload_links.application, facts, mesh1, path)),
        _Step("application", "mesh2", partial(workload_links.application, facts, mesh2, path)),
        _Step("productpage", "mesh2", partial(workload_links.page, facts, path)),
        *both("strangers", trust_links.strangers),
        _Step("exposure", "mesh1", partial(set_links.exposure, facts)),
        *each("access log", partial(workload_links.access_log, path=path)),
    ]
