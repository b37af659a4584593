"""Links that only read objects, held against the captured federation with one thing changed."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.diagnosis import State
from harness.diagnosis.addresses import addresses
from harness.diagnosis.facts import Facts, read_facts
from harness.diagnosis.identities import client_id
from harness.diagnosis.installed import gateways
from harness.diagnosis.path import PathLook
from harness.diagnosis.policies import (
    authorization_policies,
    covers,
    network_policies,
    other_tls,
    plaintext_of,
    plaintext_to,
    selects,
)
from harness.diagnosis.sets import exports, imports
from harness.diagnosis.watches import watch
from harness.envoy import identities_of
from selftests.support.recorded_api import RecordedApi, items, refused

Load = Callable[[str], Any]
Answers = dict[str, Any]
_CORE = {"pods": "api/v1", "services": "api/v1", "deployments": "apis/apps/v1", "endpoints": "api/v1"}
_FEDERATION = "/apis/federation.maistra.io/v1/namespaces"
_SECURITY = "/apis/security.istio.io/v1beta1/namespaces"
_ISTIO = "/apis/networking.istio.io/v1beta1/namespaces"


class Recorded:
    """Both captured clusters as answers by path; change them before `facts` is called."""

    def __init__(self, observed: Load, directory: Path) -> None:
        self._directory = directory
        self.mesh1 = self._answers(observed, "mesh1", "mesh2")
        self.mesh2 = self._answers(observed, "mesh2", "mesh1")
        peer = self.mesh1[f"{_FEDERATION}/mesh1-system/servicemeshpeers"]["items"][0]
        view = peer["status"]["discoveryStatus"]["active"][0]
        self.now = datetime.fromisoformat(view["watch"]["lastFullSync"]) + timedelta(seconds=30)

    @staticmethod
    def _answers(observed: Load, mesh: str, peer: str) -> Answers:
        found: Answers = {"/api/v1/namespaces/kube-system": {"metadata": {"name": "kube-system", "uid": mesh}}}
        system = f"{mesh}-system"
        for place in ("system", "bookinfo"):
            namespace = f"{mesh}-{place}"
            for kind, group in _CORE.items():
                listed = copy.deepcopy(observed(f"healthy/objects/{namespace}-{kind}.json")["items"])
                for pod in listed if kind == "pods" else ():
                    # The captures have kept the names of containers.
                    pod["spec"]["containers"] = [{"name": name} for name in pod["spec"]["containers"]]
                found[f"/{group}/namespaces/{namespace}/{kind}"] = items(*listed)
            for group in ("virtualservices", "destinationrules"):
                found[f"{_ISTIO}/{namespace}/{group}"] = items()
            for group in ("authorizationpolicies", "peerauthentications"):
                found[f"{_SECURITY}/{namespace}/{group}"] = items()
        plane, roll = observed(f"healthy/objects/{mesh}-smcp-smmr.json")["items"]
        found[f"/apis/maistra.io/v2/namespaces/{system}/servicemeshcontrolplanes"] = items(plane)
        found[f"/apis/maistra.io/v1/namespaces/{system}/servicemeshmemberrolls"] = items(roll)
        found[f"/apis/networking.k8s.io/v1/namespaces/{system}/networkpolicies"] = items()
        own = {"mesh1": "exportedserviceset", "mesh2": "importedserviceset"}[mesh]
        found[f"{_FEDERATION}/{system}/servicemeshpeers"] = items(
            observed(f"healthy/objects/{mesh}-servicemeshpeer-{peer}.json")
        )
        found[f"{_FEDERATION}/{system}/{own}s"] = items(observed(f"healthy/objects/{mesh}-{own}-{peer}.json"))
        found.setdefault(f"{_FEDERATION}/{system}/exportedservicesets", items())
        found.setdefault(f"{_FEDERATION}/{system}/importedservicesets", items())
        for config_map in observed(f"healthy/objects/{mesh}-system-configmaps.json")["items"]:
            found[f"/api/v1/namespaces/{system}/configmaps/{config_map['metadata']['name']}"] = config_map
        return copy.deepcopy(found)

    @contextlib.contextmanager
    def facts(self) -> Iterator[tuple[Facts, ThreadPoolExecutor]]:
        """What a diagnosis reads of both, half a minute after the last sync."""
        clock = self.now.timestamp() - time.time()
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor(32))
            clusters = {}
            for mesh, answers in (("mesh1", self.mesh1), ("mesh2", self.mesh2)):
                api = RecordedApi(answers, clock=clock)
                kubeconfig = stack.enter_context(api.running(self._directory / mesh, mesh))
                clusters[mesh] = stack.enter_context(contextlib.closing(Cluster(mesh, kubeconfig, patience=0)))
                clusters[mesh].uid()
            yield read_facts(clusters, pool, patience=0), pool


UNRESOLVABLE = "federation.nowhere.invalid"


@pytest.fixture
def recorded(observed: Load, tmp_path: Path) -> Recorded:
    return Recorded(observed, tmp_path)


def peer_of(recorded: Recorded, mesh: str) -> Any:
    answers = {"mesh1": recorded.mesh1, "mesh2": recorded.mesh2}[mesh]
    return answers[f"{_FEDERATION}/{mesh}-system/servicemeshpeers"]["items"][0]


def lock_of(recorded: Recorded) -> Any:
    return recorded.mesh1["/api/v1/namespaces/mesh1-system/configmaps/servicemesh-federation"]["metadata"]


def test_the_captured_federation_has_these_links_in_order(recorded: Recorded) -> None:
    with recorded.facts() as (facts, _):
        links = [*(gateways(mesh) for mesh in facts.meshes), exports(facts), imports(facts)]
        links += [addresses(facts, mesh) for mesh in facts.meshes]
    assert [str(link) for link in links if link.state is not State.OK] == []


def test_a_name_that_only_the_runner_cannot_resolve_is_no_break_while_the_watch_is_connected(
    recorded: Recorded,
) -> None:
    peer = peer_of(recorded, "mesh2")
    peer["spec"]["remote"]["addresses"] = [UNRESOLVABLE]
    with recorded.facts() as (facts, _):
        link = addresses(facts, facts.mesh2)
    assert (link.state, link.cause) == (State.UNKNOWN, "")
    assert f"{UNRESOLVABLE} does not resolve here, yet mesh2 is connected" in link.seen
    discovery = peer["status"]["discoveryStatus"]
    discovery["active"][0]["watch"]["connected"] = False
    discovery["inactive"] = discovery.pop("active")
    with recorded.facts() as (facts, _):
        link = addresses(facts, facts.mesh2)
    assert (link.state, link.cause, link.side) == (State.BROKEN, "address-unresolvable", "mesh2")


def test_a_watch_that_is_denied_is_not_said_to_fit_where_its_client_id_does_not(recorded: Recorded) -> None:
    discovery = peer_of(recorded, "mesh2")["status"]["discoveryStatus"]
    discovery["inactive"] = discovery.pop("active")
    discovery["inactive"][0]["watch"] |= {"connected": False, "lastDisconnectStatus": "403 Forbidden"}

    def seen() -> tuple[str, str]:
        with recorded.facts() as (facts, pool):
            link = watch(facts.mesh2, PathLook(facts, pool))
        assert (link.cause, link.side) == ("discovery-denied", "mesh1"), link
        return link.sentence, link.remedy

    assert "although its clientID fits" in seen()[0]
    security = peer_of(recorded, "mesh1")["spec"]["security"]
    security["clientID"] = "mesh2.local/ns/mesh2-system/sa/somebody"
    sentence, remedy = seen()
    assert "although" not in sentence
    assert "which its clientID does not admit" in sentence
    assert remedy == "Put the clientID right."


def test_two_peers_at_one_ingress_gateway(recorded: Recorded) -> None:
    peers = recorded.mesh1[f"{_FEDERATION}/mesh1-system/servicemeshpeers"]["items"]
    third = copy.deepcopy(peers[0])
    third["metadata"]["name"] = "mesh3"
    third["spec"]["gateways"]["ingress"]["name"] = "mesh3-ingress"
    peers.append(third)
    with recorded.facts() as (facts, _):
        assert gateways(facts.mesh1).state is State.OK, "an egress gateway may be shared"
    third["spec"]["gateways"]["ingress"]["name"] = "mesh2-ingress"
    with recorded.facts() as (facts, _):
        link = gateways(facts.mesh1)
    assert (link.cause, link.side) == ("ingress-shared", "mesh1")
    assert "mesh2, mesh3" in link.sentence


def test_a_service_that_also_selects_another_gateway_gives_the_egress_no_other_identity(recorded: Recorded) -> None:
    services = recorded.mesh2["/api/v1/namespaces/mesh2-system/services"]["items"]
    egress = next(service for service in services if service["metadata"]["name"] == "mesh1-egress")
    egress["spec"]["selector"] = {"istio": "egressgateway"}
    with recorded.facts() as (facts, pool):
        link = gateways(facts.mesh2)
        identity = client_id(facts, facts.mesh1, PathLook(facts, pool))
    assert (link.cause, link.side) == ("gateway-selects-others", "mesh2")
    assert "istio-egressgateway-" in link.sentence
    assert identity.state is State.OK, identity.seen
    assert "its certificate could not be read" in identity.seen, "where it is from is said"


def test_statuses_that_nobody_writes(recorded: Recorded) -> None:
    listed = recorded.mesh1[f"{_FEDERATION}/mesh1-system/exportedservicesets"]["items"]
    del listed[0]["status"]
    annotations = lock_of(recorded)["annotations"]
    (key,) = annotations
    record = json.loads(annotations[key])
    record["renewTime"] = recorded.now.isoformat()
    for change, cause in (
        ({}, "not-exported-yet"),
        ({"holderIdentity": "istiod-fed-export-gone"}, "leader-missing"),
        ({"renewTime": (recorded.now - timedelta(minutes=5)).isoformat()}, "leader-missing"),
        ({"holderIdentity": ""}, "leader-missing"),
    ):
        annotations[key] = json.dumps({**record, **change})
        with recorded.facts() as (facts, _):
            link = exports(facts)
        assert (link.cause, link.side) == (cause, "mesh1"), link.seen
    # Without a status of the peer istiod has not got that far: it is not the lock.
    del peer_of(recorded, "mesh1")["status"]
    with recorded.facts() as (facts, _):
        assert exports(facts).cause == "not-exported-yet"


def test_an_import_set_that_nobody_writes(recorded: Recorded) -> None:
    del recorded.mesh2[f"{_FEDERATION}/mesh2-system/importedservicesets"]["items"][0]["status"]
    del recorded.mesh2["/api/v1/namespaces/mesh2-system/configmaps/servicemesh-federation"]
    with recorded.facts() as (facts, _):
        link = imports(facts)
    assert (link.cause, link.side) == ("leader-missing", "mesh2")


def test_policies_that_may_be_to_blame_are_named(recorded: Recorded) -> None:
    def named(name: str, namespace: str, **spec: Any) -> Any:
        return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}

    gateway, ratings = {"app": "mesh1-egress"}, {"matchLabels": {"app": "ratings"}}
    path = "/apis/networking.k8s.io/v1/namespaces/mesh2-system/networkpolicies"
    recorded.mesh2[path] = items(
        named("shut", "mesh2-system", podSelector={"matchLabels": gateway}),
        named("all", "mesh2-system", podSelector={}),
        named("others", "mesh2-system", podSelector={"matchLabels": {"app": "istiod"}}),
    )
    recorded.mesh2[f"{_SECURITY}/mesh2-bookinfo/authorizationpolicies"] = items(
        named("nobody", "mesh2-bookinfo", selector=ratings, action="DENY"),
        named("details", "mesh2-bookinfo", selector={"matchLabels": {"app": "details"}}),
    )
    recorded.mesh2[f"{_SECURITY}/mesh2-system/authorizationpolicies"] = items(named("mesh-wide", "mesh2-system"))
    recorded.mesh2[f"{_SECURITY}/mesh2-bookinfo/peerauthentications"] = items(
        named("plain", "mesh2-bookinfo", selector=ratings, mtls={"mode": "DISABLE"}),
        named("strict", "mesh2-bookinfo", mtls={"mode": "STRICT"}),
    )
    recorded.mesh2[f"{_ISTIO}/mesh2-bookinfo/destinationrules"] = items(
        named("simple", "mesh2-bookinfo", host="*.mesh1-imports.local", trafficPolicy={"tls": {"mode": "SIMPLE"}}),
        named("mutual", "mesh2-bookinfo", host="*.local", trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL"}}),
    )
    imported = "ratings.mesh2-bookinfo.svc.mesh1-imports.local"
    with recorded.facts() as (facts, _):
        mesh, pods = facts.mesh2, facts.mesh2.app_pods("ratings")
        assert network_policies(mesh, "mesh1-egress").endswith(": all, shut")
        told = authorization_policies(mesh, pods)
        assert told.endswith(": mesh2-bookinfo/nobody (DENY), mesh2-system/mesh-wide (ALLOW)")
        assert plaintext_of(mesh, pods) == "PeerAuthentication mesh2-bookinfo/plain turns mTLS off"
        assert plaintext_to(mesh, imported) == "DestinationRule mesh2-bookinfo/simple sets another TLS mode than " + (
            "ISTIO_MUTUAL"
        )
    recorded.mesh2[path] = refused(403, "networkpolicies is forbidden")
    with recorded.facts() as (facts, _):
        told = network_policies(facts.mesh2, "mesh1-egress")
    assert told == "the NetworkPolicies of mesh2-system could not be read (Forbidden)"


def test_label_selectors_and_hosts_of_rules() -> None:
    pod = {"metadata": {"labels": {"app": "ratings", "version": "v1"}}}

    def taken(key: str, operator: str, *values: str) -> bool:
        return selects({"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}, pod)

    assert selects(None, pod)
    assert selects({"matchLabels": {"app": "ratings"}}, pod)
    assert not selects({"matchLabels": {"app": "ratings", "version": "v2"}}, pod)
    assert taken("version", "In", "v1", "v2")
    assert not taken("version", "NotIn", "v1")
    assert taken("tier", "NotIn", "web")
    assert taken("app", "Exists")
    assert taken("tier", "DoesNotExist")
    assert covers("*.local", "ratings.cluster.local")
    assert not covers("ratings", "ratings.cluster.local")
    assert other_tls({"subsets": [{"trafficPolicy": {"tls": {"mode": "DISABLE"}}}]})
    assert other_tls({"trafficPolicy": {"portLevelSettings": [{"tls": {"mode": "SIMPLE"}}]}})
    assert not other_tls({"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}})
    assert not other_tls({})


def test_who_a_proxy_can_prove_to_be() -> None:
    uri = "spiffe://mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account"
    held = {"cert_chain": [{"subject_alt_names": [{"uri": uri}, {"dns": "x"}]}], "ca_cert": [{"subject_alt_names": []}]}
    certs = {"certificates": [held, held, {"ca_cert": [{"subject_alt_names": [{"uri": "spiffe://other"}]}]}]}
    assert identities_of(certs) == {uri.removeprefix("spiffe://")}
    assert identities_of({}) == set()
