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

from harness.cluster.cluster import Cluster
from harness.diagnosis import State
from harness.diagnosis.address_links import addresses, port
from harness.diagnosis.caller_links import client
from harness.diagnosis.identity_links import client_id
from harness.diagnosis.installation_links import gateways
from harness.diagnosis.mesh_facts import Facts, MeshFacts, read_facts
from harness.diagnosis.model import Link
from harness.diagnosis.policies import (
    authorization_policies,
    covers,
    network_policies,
    other_tls,
    plaintext_of,
    plaintext_to,
    selects,
)
from harness.diagnosis.request_path import PathLook
from harness.diagnosis.set_links import exports, imports
from harness.diagnosis.watch_links import watch
from harness.diagnosis.workload_links import workloads
from harness.product.envoy import identities_of
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


@pytest.fixture
def recorded(observed: Load, tmp_path: Path) -> Recorded:
    return Recorded(observed, tmp_path)


def peer_of(recorded: Recorded, mesh: str) -> Any:
    answers = {"mesh1": recorded.mesh1, "mesh2": recorded.mesh2}[mesh]
    return answers[f"{_FEDERATION}/{mesh}-system/servicemeshpeers"]["items"][0]


def lose_watch(recorded: Recorded, **status: str) -> None:
    """mesh2's peer says that its watch is not connected, and `status` of why."""
    discovery = peer_of(recorded, "mesh2")["status"]["discoveryStatus"]
    discovery["inactive"] = discovery.pop("active")
    discovery["inactive"][0]["watch"] |= {"connected": False, **status}


def test_the_captured_federation_has_these_links_in_order(recorded: Recorded) -> None:
    with recorded.facts() as (facts, _):
        links = [*(gateways(mesh) for mesh in facts.meshes), exports(facts), imports(facts)]
        links += [addresses(facts, mesh) for mesh in facts.meshes]
    assert [str(link) for link in links if link.state is not State.OK] == []


def test_a_set_that_lacks_two_services_names_both(recorded: Recorded) -> None:
    path = f"{_FEDERATION}/mesh1-system/exportedservicesets"
    recorded.mesh1[path]["items"][0] |= {"spec": {"exportRules": []}, "status": {"exportedServices": []}}
    with recorded.facts() as (facts, _):
        link = exports(facts)
    assert link.cause == "export-rule-no-match"
    assert "mongodb" in link.sentence
    assert "ratings" in link.sentence


def test_a_wrong_port_gets_one_right_one_and_the_command_that_sets_it(recorded: Recorded) -> None:
    peer_of(recorded, "mesh2")["spec"]["remote"]["discoveryPort"] = 1
    with recorded.facts() as (facts, _):
        link = port(facts, facts.mesh2, 8188)
    assert (link.cause, link.side) == ("wrong-discovery-port", "mesh2")
    patch = """-p '{"spec":{"remote":{"discoveryPort":8188}}}'"""
    assert link.commands == (f"oc@mesh2 -n mesh2-system patch servicemeshpeer mesh1 --type merge {patch}",)


@pytest.fixture
def unresolvable(recorded: Recorded) -> str:
    """The address that mesh2's peer has, which no resolver knows."""
    name = "federation.nowhere.invalid"
    peer_of(recorded, "mesh2")["spec"]["remote"]["addresses"] = [name]
    return name


def test_a_name_that_only_the_runner_cannot_resolve_is_no_break_while_the_watch_is_connected(
    recorded: Recorded, unresolvable: str
) -> None:
    with recorded.facts() as (facts, _):
        link = addresses(facts, facts.mesh2)
    assert (link.state, link.cause) == (State.UNKNOWN, "")
    assert f"{unresolvable} does not resolve here, yet mesh2 is connected" in link.seen


@pytest.mark.usefixtures("unresolvable")
def test_a_name_that_does_not_resolve_is_to_blame_for_a_watch_that_is_not_connected(recorded: Recorded) -> None:
    lose_watch(recorded)
    with recorded.facts() as (facts, _):
        link = addresses(facts, facts.mesh2)
    assert (link.state, link.cause, link.side) == (State.BROKEN, "address-unresolvable", "mesh2")


@pytest.fixture
def denied(recorded: Recorded) -> Callable[[], Link]:
    """Looks at mesh2's watch, which mesh1 answers with 403."""

    def look() -> Link:
        lose_watch(recorded, lastDisconnectStatus="403 Forbidden")
        with recorded.facts() as (facts, pool):
            return watch(facts.mesh2, PathLook(facts, pool))

    return look


def test_a_watch_that_is_denied_although_its_client_id_fits_is_said_to_be(denied: Callable[[], Link]) -> None:
    link = denied()
    assert (link.cause, link.side) == ("discovery-denied", "mesh1"), link
    assert "although its clientID fits" in link.sentence


@pytest.mark.parametrize(("age", "cause"), [(300, "federation-frozen"), (30, "peer-object-unknown")])
def test_400_of_an_istiod_that_has_the_peer_for_long_is_a_federation_that_stands_still(
    recorded: Recorded, age: int, cause: str
) -> None:
    made = recorded.now - timedelta(seconds=age)
    peer_of(recorded, "mesh1")["metadata"]["creationTimestamp"] = made.isoformat()
    for pod in recorded.mesh1["/api/v1/namespaces/mesh1-system/pods"]["items"]:
        pod["status"]["startTime"] = made.isoformat()
    lose_watch(recorded, lastDisconnectStatus="400 Bad Request")
    with recorded.facts() as (facts, pool):
        link = watch(facts.mesh2, PathLook(facts, pool))
    assert (link.cause, link.side) == (cause, "mesh1"), link
    restart = "oc@mesh1 -n mesh1-system rollout restart deployment istiod-fed-export"
    assert (restart in link.commands) is (cause == "federation-frozen")


MOUNT = 'MountVolume.SetUp failed for volume "istiod-ca-cert": configmap "istio-ca-root-cert" not found'


def hang(answers: Answers, mesh: str) -> None:
    """The application's pods of a mesh wait for the root, as a real federation had it."""
    namespace, events = f"{mesh}-bookinfo", []
    for pod in answers[f"/api/v1/namespaces/{namespace}/pods"]["items"]:
        waiting = {"name": "istio-proxy", "state": {"waiting": {"reason": "ContainerCreating"}}}
        pod["status"] = {"phase": "Pending", "containerStatuses": [waiting]}
        pod["metadata"] |= {"uid": pod["metadata"]["name"]}
        about = {"involvedObject": {"kind": "Pod", "uid": pod["metadata"]["uid"]}, "reason": "FailedMount"}
        events.append({"type": "Warning", "message": MOUNT, "lastTimestamp": "2026-01-01T00:00:00Z", **about})
    for endpoints in answers[f"/api/v1/namespaces/{namespace}/endpoints"]["items"]:
        endpoints["subsets"] = []
    answers[f"/api/v1/namespaces/{namespace}/events"] = items(*events)


@pytest.mark.parametrize("meshes", [("mesh1",), ("mesh2",), ("mesh1", "mesh2")], ids=" and ".join)
def test_pods_that_wait_for_the_root_are_istiods_matter_in_every_mesh_that_has_them(
    recorded: Recorded, meshes: tuple[str, ...]
) -> None:
    for mesh in meshes:
        hang({"mesh1": recorded.mesh1, "mesh2": recorded.mesh2}[mesh], mesh)
    with recorded.facts() as (facts, pool):
        links = [workloads(facts, mesh) for mesh in facts.meshes if mesh.names.name in meshes]
        callers = [client(facts.mesh2, PathLook(facts, pool))] if "mesh2" in meshes else []
    cause, side = ("members-without-root", "both") if len(meshes) > 1 else ("member-without-root", meshes[0])
    assert {(link.cause, link.side) for link in [*links, *callers]} == {(cause, side)}
    plane = {"mesh1": "fed-export", "mesh2": "fed-import"}
    restarts = [f"oc@{mesh} -n {mesh}-system rollout restart deployment istiod-{plane[mesh]}" for mesh in meshes]
    assert list(links[0].commands) == restarts
    assert all(f"{mesh}-bookinfo" in links[0].sentence and mesh in links[0].remedy for mesh in meshes)


def test_a_root_that_has_come_since_is_no_reason_any_more(recorded: Recorded) -> None:
    hang(recorded.mesh1, "mesh1")
    recorded.mesh1["/apis/apps/v1/namespaces/mesh1-bookinfo/deployments"] = items()
    recorded.mesh1["/api/v1/namespaces/mesh1-bookinfo/configmaps/istio-ca-root-cert"] = {"metadata": {"name": "x"}}
    with recorded.facts() as (facts, _):
        link = workloads(facts, facts.mesh1)
    assert link.cause == "backend-down"
    assert f"ContainerCreating, FailedMount ({MOUNT})" in link.sentence


def test_a_watch_that_is_denied_is_not_said_to_fit_where_its_client_id_does_not(
    recorded: Recorded, denied: Callable[[], Link]
) -> None:
    peer_of(recorded, "mesh1")["spec"]["security"]["clientID"] = "mesh2.local/ns/mesh2-system/sa/somebody"
    link = denied()
    assert (link.cause, link.side) == ("discovery-denied", "mesh1"), link
    assert "although" not in link.sentence
    assert "which its clientID does not admit" in link.sentence
    assert link.remedy == "Put the clientID right."


def add_third_mesh(recorded: Recorded, ingress: str) -> None:
    """mesh1 has a peer more, which comes in by that gateway and shares the egress gateway."""
    peers = recorded.mesh1[f"{_FEDERATION}/mesh1-system/servicemeshpeers"]["items"]
    third = copy.deepcopy(peers[0])
    third["metadata"]["name"] = "mesh3"
    third["spec"]["gateways"]["ingress"]["name"] = ingress
    peers.append(third)


def test_two_peers_may_share_an_egress_gateway(recorded: Recorded) -> None:
    add_third_mesh(recorded, ingress="mesh3-ingress")
    with recorded.facts() as (facts, _):
        assert gateways(facts.mesh1).state is State.OK


def test_two_peers_may_not_share_an_ingress_gateway(recorded: Recorded) -> None:
    add_third_mesh(recorded, ingress="mesh2-ingress")
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
    assert "/sa/mesh1-egress-service-account (by its objects" in identity.seen
    assert identity.state is State.UNKNOWN, "what objects say of a gateway is no proof of the certificate it holds"
    assert "its certificate could not be read" in identity.seen, "where it is from is said"


@pytest.fixture
def unwritten(recorded: Recorded) -> Callable[..., Link]:
    """Looks at the exports, whose status nobody writes, with a leader's lock that says such things."""
    del recorded.mesh1[f"{_FEDERATION}/mesh1-system/exportedservicesets"]["items"][0]["status"]

    def look(holder: str | None = None, renewed: timedelta = timedelta()) -> Link:
        lock = recorded.mesh1["/api/v1/namespaces/mesh1-system/configmaps/servicemesh-federation"]["metadata"]
        ((key, text),) = lock["annotations"].items()
        record = json.loads(text) | {"renewTime": (recorded.now + renewed).isoformat()}
        lock["annotations"][key] = json.dumps(record if holder is None else {**record, "holderIdentity": holder})
        with recorded.facts() as (facts, _):
            return exports(facts)

    return look


@pytest.mark.parametrize(
    ("lock", "cause"),
    [
        ({}, "not-exported-yet"),
        ({"holder": "istiod-fed-export-gone"}, "leader-missing"),
        ({"renewed": timedelta(minutes=-5)}, "leader-missing"),
        ({"holder": ""}, "leader-missing"),
    ],
    ids=["held", "gone", "not renewed", "of nobody"],
)
def test_a_status_that_nobody_writes_is_the_leaders_whose_lock_nobody_holds(
    unwritten: Callable[..., Link], lock: dict[str, Any], cause: str
) -> None:
    link = unwritten(**lock)
    assert (link.cause, link.side) == (cause, "mesh1"), link.seen


def test_an_istiod_that_has_not_come_to_its_peer_yet_is_no_matter_of_the_lock(
    recorded: Recorded, unwritten: Callable[..., Link]
) -> None:
    del peer_of(recorded, "mesh1")["status"]
    assert unwritten(holder="").cause == "not-exported-yet"


def test_an_import_set_that_nobody_writes(recorded: Recorded) -> None:
    del recorded.mesh2[f"{_FEDERATION}/mesh2-system/importedservicesets"]["items"][0]["status"]
    del recorded.mesh2["/api/v1/namespaces/mesh2-system/configmaps/servicemesh-federation"]
    with recorded.facts() as (facts, _):
        link = imports(facts)
    assert (link.cause, link.side) == ("leader-missing", "mesh2")


POLICIES = "/apis/networking.k8s.io/v1/namespaces/mesh2-system/networkpolicies"
RATINGS = {"matchLabels": {"app": "ratings"}}


def policy(name: str, namespace: str, **spec: Any) -> Any:
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


@pytest.fixture(scope="module")
def policed(observed: Load, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshFacts]:
    """mesh2 with policies and rules of each kind: some that may be to blame, and some of others."""
    recorded = Recorded(observed, tmp_path_factory.mktemp("policed"))
    recorded.mesh2[POLICIES] = items(
        policy("shut", "mesh2-system", podSelector={"matchLabels": {"app": "mesh1-egress"}}),
        policy("all", "mesh2-system", podSelector={}),
        policy("others", "mesh2-system", podSelector={"matchLabels": {"app": "istiod"}}),
    )
    recorded.mesh2[f"{_SECURITY}/mesh2-bookinfo/authorizationpolicies"] = items(
        policy("nobody", "mesh2-bookinfo", selector=RATINGS, action="DENY"),
        policy("details", "mesh2-bookinfo", selector={"matchLabels": {"app": "details"}}),
    )
    recorded.mesh2[f"{_SECURITY}/mesh2-system/authorizationpolicies"] = items(policy("mesh-wide", "mesh2-system"))
    recorded.mesh2[f"{_SECURITY}/mesh2-bookinfo/peerauthentications"] = items(
        policy("plain", "mesh2-bookinfo", selector=RATINGS, mtls={"mode": "DISABLE"}),
        policy("strict", "mesh2-bookinfo", mtls={"mode": "STRICT"}),
    )
    recorded.mesh2[f"{_ISTIO}/mesh2-bookinfo/destinationrules"] = items(
        policy("simple", "mesh2-bookinfo", host="*.mesh1-imports.local", trafficPolicy={"tls": {"mode": "SIMPLE"}}),
        policy("mutual", "mesh2-bookinfo", host="*.local", trafficPolicy={"tls": {"mode": "ISTIO_MUTUAL"}}),
    )
    with recorded.facts() as (facts, _):
        yield facts.mesh2


def test_network_policies_that_may_be_to_blame_are_named(policed: MeshFacts) -> None:
    assert network_policies(policed, "mesh1-egress").endswith(": all, shut")


def test_authorization_policies_that_may_be_to_blame_are_named(policed: MeshFacts) -> None:
    told = authorization_policies(policed, policed.app_pods("ratings"))
    assert told.endswith(": mesh2-bookinfo/nobody (DENY), mesh2-system/mesh-wide (ALLOW)")


def test_a_peer_authentication_by_which_pods_take_plaintext_is_named(policed: MeshFacts) -> None:
    told = plaintext_of(policed, policed.app_pods("ratings"))
    assert told == "PeerAuthentication mesh2-bookinfo/plain turns mTLS off"


def test_a_destination_rule_by_which_a_host_is_called_without_mutual_tls_is_named(policed: MeshFacts) -> None:
    told = plaintext_to(policed, "ratings.mesh2-bookinfo.svc.mesh1-imports.local")
    assert told == "DestinationRule mesh2-bookinfo/simple sets another TLS mode than ISTIO_MUTUAL"


def test_network_policies_that_could_not_be_read_are_said_to_be(recorded: Recorded) -> None:
    recorded.mesh2[POLICIES] = refused(403, "networkpolicies is forbidden")
    with recorded.facts() as (facts, _):
        told = network_policies(facts.mesh2, "mesh1-egress")
    assert told == "the NetworkPolicies of mesh2-system could not be read (Forbidden)"


@pytest.mark.parametrize(
    ("selector", "taken"),
    [
        (None, True),
        ({"matchLabels": {"app": "ratings"}}, True),
        ({"matchLabels": {"app": "ratings", "version": "v2"}}, False),
        ({"matchExpressions": [{"key": "version", "operator": "In", "values": ["v1", "v2"]}]}, True),
        ({"matchExpressions": [{"key": "version", "operator": "NotIn", "values": ["v1"]}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["web"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists", "values": []}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist", "values": []}]}, True),
    ],
)
def test_a_label_selector_takes_the_pods_that_it_says(selector: dict[str, Any] | None, taken: bool) -> None:
    assert selects(selector, {"metadata": {"labels": {"app": "ratings", "version": "v1"}}}) is taken


def test_a_host_of_a_rule_covers_what_its_wildcard_stands_for() -> None:
    assert covers("*.local", "ratings.cluster.local")
    assert not covers("ratings", "ratings.cluster.local")


def test_another_tls_mode_is_seen_wherever_a_rule_sets_it() -> None:
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
