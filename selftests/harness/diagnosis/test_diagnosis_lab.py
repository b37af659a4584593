"""Diagnosis and evidence on a running federation: healthy, broken in ways that look alike, and full of secrets."""

from __future__ import annotations

import contextlib
import copy
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from harness.cluster import kinds
from harness.cluster.cluster import Cluster
from harness.diagnosis import Diagnosis, Hints, State, diagnose
from harness.product.envoy import Proxy, access_log_paths
from harness.product.status import imported_services
from harness.report.evidence import Index, collect
from lab.api.http.pki import kubeconfig
from lab.settings import ClusterSettings
from selftests.support.diagnosed import Meshes, command, drained, fault, in_effect, meshes, named

__all__ = ["meshes"]
SECRET = "c0ffee-" + "do-not-show-me"
REMOTE, LOCAL = "ratings.mesh2-bookinfo.svc.mesh1-imports.local", "ratings.mesh2-bookinfo.svc.cluster.local"


@pytest.fixture(scope="module")
def healthy(meshes: Meshes) -> Diagnosis:
    """Of the federation as it was provisioned."""
    return diagnose(meshes.clusters)


def test_a_healthy_federation_has_every_link_in_order(healthy: Diagnosis) -> None:
    assert [str(link) for link in healthy.links if link.state is not State.OK] == []
    assert (healthy.state, healthy.cause, healthy.side) == (State.OK, "", "")
    identities = [link.seen for link in healthy.links if link.name == "clientID"]
    assert all("by the certificate it holds" in seen for seen in identities), identities
    assert len({(link.name, link.side) for link in healthy.links}) == len(healthy.links) > 30


def test_the_command_tells_programs_the_same_links(meshes: Meshes, healthy: Diagnosis) -> None:
    said = command(meshes, "--json")
    assert said.returncode == 0, said.stdout + said.stderr
    links = json.loads(said.stdout)["links"]
    # What was seen may differ from one look to the next.
    seen = [link["seen"] for link in links]
    expected = healthy.to_dict()["links"]
    assert links == [link | {"seen": text} for link, text in zip(expected, seen, strict=True)]


def generations(meshes: Meshes) -> dict[str, str]:
    """Which version of each object that a diagnosis might change is there."""
    looked_at = (
        kinds.PEER,
        kinds.EXPORTS,
        kinds.IMPORTS,
        kinds.VIRTUAL_SERVICE,
        kinds.DEPLOYMENT,
        kinds.CONFIG_MAP,
    )
    return {
        f"{name} {kind} {obj['metadata']['namespace']}/{obj['metadata']['name']}": obj["metadata"]["uid"]
        + str(obj["metadata"].get("generation") or obj.get("data"))  # ConfigMaps have none
        for name, cluster in meshes.clusters.items()
        for kind in looked_at
        for obj in cluster.list(kind)
    }


def test_looking_changes_no_object(meshes: Meshes) -> None:
    before = generations(meshes)
    diagnose(meshes.clusters)
    assert generations(meshes) == before


def routed(weight: int, host: str = REMOTE, **destination: str) -> dict[str, Any]:
    """A route that sends so many percent of ratings' requests to a host, and the rest to mesh2's own."""
    split = ((weight, {"host": host, **destination}), (100 - weight, {"host": LOCAL}))
    return {"route": [{"destination": to, "weight": share} for share, to in split]}


@pytest.mark.parametrize(
    ("http", "cause"),
    [
        ([routed(50, REMOTE.replace("imports", "import"))], "unknown-host"),
        ([routed(50, subset="v9")], "unknown-subset"),
        ([routed(60)], "weights-differ"),
        ([{"match": [{"headers": {"user-agent": {"prefix": "x"}}}], **routed(100)}, routed(50)], "not-independent"),
    ],
    ids=["host", "subset", "weights", "headers"],
)
def test_routes_that_look_alike_are_told_apart(meshes: Meshes, http: list[dict[str, Any]], cause: str) -> None:
    with meshes.changed("mesh2", kinds.VIRTUAL_SERVICE, "ratings-split", "mesh2-bookinfo", {"http": http}):
        found = diagnose(meshes.clusters, Hints({"mesh1": 50, "mesh2": 50}))
    assert named(found) == (cause, "mesh2"), found.summary


def test_rules_that_take_nothing_and_rules_that_take_too_much(meshes: Meshes) -> None:
    rules = meshes.clusters["mesh2"].get(kinds.IMPORTS, "mesh1", "mesh2-system")["spec"]["importRules"]
    nothing = [{**rules[0], "nameSelector": {**rules[0]["nameSelector"], "namespace": "mesh1-bookinfo"}}]

    def known(edited: bool) -> bool:
        imports = meshes.clusters["mesh2"].get(kinds.IMPORTS, "mesh1", "mesh2-system")
        return bool(imported_services(imports)) is not edited

    # An edited set waits for the next resync, and so does one that is put back.
    edit = meshes.changed("mesh2", kinds.IMPORTS, "mesh1", "mesh2-system", {"importRules": nothing})
    with in_effect(edit, "the rules to be applied", known):
        found = diagnose(meshes.clusters)
    assert named(found) == ("import-rule-no-match", "mesh2")
    assert "mesh1-bookinfo" in found.sentence


def test_ratings_that_are_down_at_home_are_no_matter_of_federation(meshes: Meshes) -> None:
    def known(down: bool) -> bool:
        return len(meshes.reviews().endpoints()[f"outbound|9080||{LOCAL}"]) == (0 if down else 2)

    with in_effect(meshes.without_ratings("mesh2"), "reviews to know that nobody is there", known):
        found = diagnose(meshes.clusters)
    assert named(found) == ("backend-down", "mesh2"), found.summary
    assert "ratings of mesh2" in found.sentence


@contextlib.contextmanager
def denied_ratings(meshes: Meshes, mesh: str) -> Iterator[None]:
    """With a policy by which ratings' sidecars admit nobody, until the block ends."""

    def seen(deny: bool) -> bool:
        proxies = meshes.sidecars(mesh, "app=ratings")
        told = (("policy[nobody]" in proxy.request("GET", "config_dump")) is deny for proxy in proxies)
        return all(told) and all(map(drained, proxies))

    spec = {"action": "DENY", "selector": {"matchLabels": {"app": "ratings"}}, "rules": [{}]}
    with in_effect(meshes.added(mesh, kinds.AUTHORIZATION_POLICY, "nobody", spec), "the sidecars to deny", seen):
        yield


@pytest.mark.parametrize(
    ("mesh", "admitted"),
    [
        ("mesh1", "mesh1.local/ns/mesh1-system/sa/mesh2-ingress-service-account"),
        ("mesh2", "mesh2.local/ns/mesh2-bookinfo/sa/bookinfo-reviews"),
    ],
    ids=["mesh1", "mesh2"],
)
def test_a_policy_that_denies_ratings_is_named_with_whom_it_has_to_admit(
    meshes: Meshes, mesh: str, admitted: str
) -> None:
    with denied_ratings(meshes, mesh):
        found = diagnose(meshes.clusters)
    assert named(found) == ("denied-by-policy", mesh), found.summary
    assert f"AuthorizationPolicy {mesh}-bookinfo/nobody denies it" in found.sentence
    assert admitted in found.remedy


def plain(meshes: Meshes) -> bool:
    """Whether reviews calls the imported ratings without TLS."""
    dump = meshes.reviews().config_dump("dynamic_active_clusters")
    clusters = [entry["cluster"] for entry in dump["configs"]]
    (ours,) = [cluster for cluster in clusters if cluster["name"] == f"outbound|9080||{REMOTE}"]
    return not {"transport_socket", "transport_socket_matches"} & ours.keys()


def test_a_destination_rule_that_turns_mutual_tls_off_is_named(meshes: Meshes) -> None:
    spec = {"host": REMOTE, "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
    rule = meshes.added("mesh2", kinds.DESTINATION_RULE, "plain", spec)
    with in_effect(rule, "reviews to call without TLS", lambda off: plain(meshes) is off):
        found = diagnose(meshes.clusters)
    assert named(found) == ("egress-refuses-plaintext", "mesh2"), found.summary
    assert "DestinationRule mesh2-bookinfo/plain" in found.sentence


def logs(proxy: Proxy) -> bool:
    """Whether it writes an access log."""
    return bool(access_log_paths(proxy.config_dump("dynamic_listeners")))


def test_without_an_access_log_a_gateway_is_unknown_and_not_ok(meshes: Meshes) -> None:
    ingress, off = meshes.gateway("mesh1", "mesh2-ingress"), fault(meshes, "access-log-off-export")
    with in_effect(off, "the ingress gateway to write no log", lambda off: logs(ingress) is not off):
        found = diagnose(meshes.clusters)
    meshes.settle()
    links = {(link.name, link.side): link for link in found.links}
    assert links["ingress", "mesh1"].state is State.UNKNOWN, links["ingress", "mesh1"]
    assert links["egress", "mesh2"].state is State.OK, links["egress", "mesh2"]
    assert named(found) == ("access-log-off", "mesh1"), found.summary


@contextlib.contextmanager
def cut_watch(meshes: Meshes, seconds: float = 60) -> Iterator[None]:
    """With a status of mesh2's peer that says its watch is not connected, for so long or until the block ends."""
    cluster, system = meshes.clusters["mesh2"], "mesh2-system"
    before = cluster.get(kinds.PEER, "mesh1", system)["status"]
    cut = copy.deepcopy(before)
    (view,) = cut["discoveryStatus"].pop("active")
    view["watch"]["connected"] = False
    cut["discoveryStatus"] = {"active": [], "inactive": [view]}

    def write(status: dict[str, Any]) -> None:
        cluster.patch(kinds.PEER, "mesh1", system, {"status": status}, "status")

    write(cut)
    back = threading.Timer(seconds, write, [before])
    back.start()
    try:
        yield
    finally:
        back.cancel()
        back.join()
        write(before)


def test_a_watch_that_comes_back_is_in_order(meshes: Meshes) -> None:
    with cut_watch(meshes, seconds=1):
        found = diagnose(meshes.clusters)
    assert found.state is State.OK, found.summary
    assert found.seconds >= 0.5, "it was connected at once, which proves nothing"


def test_a_watch_that_does_not_come_back_is_broken_after_the_given_patience(meshes: Meshes) -> None:
    with cut_watch(meshes):
        found = diagnose(meshes.clusters, patience=0.3)
    assert named(found)[1] == "mesh2"
    assert next(link for link in found.links if link.state is State.BROKEN).name == "watch"
    meshes.settle()


@pytest.fixture
def stranger(meshes: Meshes, tmp_path: Path) -> Iterator[Cluster]:
    """mesh1 as seen with a token that it does not know."""
    kubeconfig = tmp_path / "stranger.kubeconfig"
    config = yaml.safe_load(meshes.clusters["mesh1"].kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": SECRET}
    kubeconfig.write_text(yaml.safe_dump(config))
    with contextlib.closing(Cluster("mesh1", kubeconfig)) as cluster:
        yield cluster


def test_what_may_not_be_read_is_unknown_and_never_ok(meshes: Meshes, stranger: Cluster) -> None:
    found = diagnose({**meshes.clusters, "mesh1": stranger})
    assert named(found) == ("api-unauthorized", "mesh1")
    known = {link.name for link in found.links if link.side == "mesh1" and link.state is State.OK}
    # What mesh2 sees of mesh1's answers is all that is known of it.
    assert known <= {"application", "mongodb"}
    assert SECRET not in json.dumps(found.to_dict())


@pytest.fixture
def reader(meshes: Meshes, tmp_path: Path) -> Iterator[Path]:
    """A kubeconfig of mesh1 for a user who may do anything but read ConfigMaps."""
    settings = ClusterSettings.load(meshes.clusters["mesh1"].kubeconfig.parent)
    deny = [{"verbs": ["*"], "resources": ["configmaps"]}]

    def tell(method: str, body: dict[str, Any]) -> None:
        admin = {"Authorization": f"Bearer {settings.token}"}
        url = f"{settings.server}/lab/users"
        requests.request(method, url, json=body, headers=admin, verify=str(settings.ca_file), timeout=10)

    tell("POST", {"token": SECRET, "name": "reader", "deny": deny})
    path = tmp_path / "reader.kubeconfig"
    kubeconfig(settings, path, SECRET, "reader")
    yield path
    tell("DELETE", {"token": SECRET})


def test_a_user_who_may_not_read_everything_gets_unknown(meshes: Meshes, reader: Path) -> None:
    said = command(meshes, "--mesh1-kubeconfig", str(reader))
    assert said.returncode == 2, said.stdout + said.stderr
    assert "nothing broken was seen, but not everything could be seen" in said.stdout
    assert 'User "reader" cannot get resource "configmaps"' in said.stdout
    assert SECRET not in said.stdout + said.stderr


@contextlib.contextmanager
def planted(meshes: Meshes) -> Iterator[None]:
    """With the secret in what people keep of mesh2, and in a request to productpage, until the block ends."""
    cluster, namespace = meshes.clusters["mesh2"], "mesh2-bookinfo"
    environment = [{"name": "DB_PASSWORD", "value": SECRET}]
    metadata = {"name": "planted", "namespace": namespace, "annotations": {"env": json.dumps(environment)}}
    http = {"route": [{"destination": {"host": "details"}}], "match": [{"headers": {"token": {"exact": SECRET}}}]}
    route = {"apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "metadata": metadata}
    password = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "planted", "namespace": namespace}}
    notes = {"note": f"authorization: Bearer {SECRET}", "token": SECRET}
    cluster.create({**password, "data": {"password": SECRET}})
    cluster.patch(kinds.SERVICE, "ratings", namespace, {"metadata": {"annotations": notes}})
    cluster.create({**route, "spec": {"hosts": ["reviews.planted.local"], "http": [http]}})
    requests.get(meshes.url, headers={"User-Agent": f"Bearer {SECRET}"}, timeout=10)
    try:
        yield
    finally:
        cluster.delete(kinds.VIRTUAL_SERVICE, "planted", namespace)
        cluster.patch(kinds.SERVICE, "ratings", namespace, {"metadata": {"annotations": dict.fromkeys(notes)}})
        cluster.delete(kinds.CONFIG_MAP, "planted", namespace)


@dataclass(frozen=True)
class Evidence:
    """What was gathered of both clusters from some time on: its index, and the text of every file."""

    since: datetime
    index: Index
    files: dict[str, str]

    def of(self, beginning: str) -> Any:
        """The content of the first file whose name begins so."""
        name = next(name for name in self.files if name.startswith(beginning))
        # JSON is YAML, but proxies say much, and a parser of YAML takes its time.
        return (json.loads if name.endswith(".json") else yaml.safe_load)(self.files[name])


@pytest.fixture(scope="module")
def evidence(meshes: Meshes, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Of the last five minutes, with a secret wherever people keep them."""
    directory = tmp_path_factory.mktemp("evidence")
    with planted(meshes):
        since = datetime.now(UTC) - timedelta(minutes=5)
        index = collect(meshes.clusters, since, directory, diagnose(meshes.clusters))
    files = {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}
    return Evidence(since, index, files)


def test_evidence_of_both_clusters_holds_no_secret(evidence: Evidence) -> None:
    assert [name for name, text in evidence.files.items() if SECRET in text] == []
    logs = [text for name, text in evidence.files.items() if "/logs/productpage" in name]
    assert "Bearer [redacted]" in "".join(logs)


def test_the_index_names_every_file_of_the_evidence_and_misses_nothing(evidence: Evidence) -> None:
    assert evidence.index.missing == ()
    assert {entry.file for entry in evidence.index.files} | {"index.yaml"} == evidence.files.keys()


@pytest.mark.parametrize("mesh", ["mesh1", "mesh2"])
def test_evidence_has_objects_logs_proxies_and_events_of_each_mesh(evidence: Evidence, mesh: str) -> None:
    for part in ("objects", "logs", "proxies"):
        assert any(name.startswith(f"{mesh}/{part}/") for name in evidence.files), f"{mesh}: no {part}"
    assert f"{mesh}/objects/{mesh}-system-servicemeshpeers.yaml" in evidence.files
    assert f"{mesh}/objects/{mesh}-system-networkpolicies.yaml" in evidence.files
    assert evidence.files[f"{mesh}/events.yaml"]


def test_the_logs_of_the_evidence_are_of_the_time_that_was_asked_for(evidence: Evidence) -> None:
    since, until = evidence.since.isoformat(), evidence.index.until.isoformat()
    logs = [entry for entry in evidence.index.files if "/logs/" in entry.file and entry.bytes]
    times = {entry.file: (entry.first.replace(" ", "T"), entry.last.replace(" ", "T")) for entry in logs}
    assert {file: (first, last) for file, (first, last) in times.items() if not since <= first <= last <= until} == {}


def test_evidence_of_a_sidecar_shows_whom_it_calls_and_whom_it_expects_there(evidence: Evidence) -> None:
    reviews = evidence.of("mesh2/proxies/reviews-v3")
    imported = f"outbound|9080||{REMOTE}"
    assert imported in reviews["endpoints"]
    expected = "spiffe://mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account"
    assert expected in json.dumps(reviews["tls_to"][imported])


def test_evidence_of_an_ingress_gateway_shows_what_it_serves_and_whom_it_believes(evidence: Evidence) -> None:
    ingress = evidence.of("mesh1/proxies/mesh2-ingress")
    listeners = ingress["federation_listeners"]
    listening = {entry["address"]["socket_address"]["port_value"]: json.dumps(entry) for entry in listeners}
    assert listening.keys() == {8188, 15443}
    for listener in listening.values():
        assert '"require_client_certificate": true' in listener
    assert "ratings.bookinfo.svc.mesh2-exports.local" in listening[15443]
    assert any("mesh2.local" in json.dumps(entry.get("ca_cert")) for entry in ingress["certificates"])


def test_evidence_of_istiod_shows_what_it_keeps_in_memory(evidence: Evidence) -> None:
    memory = evidence.of("mesh1/objects/mesh1-system-configz-istiod")
    kept = {(entry["kind"], entry["name"]) for entry in memory}
    assert ("ServiceEntry", "federation-discovery-mesh2") in kept


# What changes peers comes last: a watch takes its time to come back.


def test_a_wrong_discovery_port_and_a_wrong_service_port_are_told_apart(meshes: Meshes) -> None:
    for field, cause in (("discoveryPort", "wrong-discovery-port"), ("servicePort", "wrong-service-port")):
        with meshes.changed("mesh2", kinds.PEER, "mesh1", "mesh2-system", {"remote": meshes.remote(**{field: 9999})}):
            found = diagnose(meshes.clusters, patience=1)
        assert named(found) == (cause, "mesh2")
        assert "9999" in found.sentence
        assert field in found.remedy


def test_the_command_says_cause_side_and_remedy_and_its_exit_code_agrees(meshes: Meshes) -> None:
    with meshes.changed("mesh2", kinds.PEER, "mesh1", "mesh2-system", {"remote": meshes.remote(servicePort=9999)}):
        said = command(meshes)
    assert said.returncode == 1, said.stderr
    assert "broken   mesh2  service port: 9999" in said.stdout
    assert "side: mesh2\n" in said.stdout
    assert "[wrong-service-port]" in said.stdout


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"trustDomain": "elsewhere.local"}, "wrong-trust-domain"),
        ({"clientID": "spiffe://mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account"}, "wrong-client-id"),
        ({"clientID": ""}, "client-id-missing"),
        ({"certificateChain": {"kind": "ConfigMap", "name": "not-there"}}, "root-missing"),
        ({"certificateChain": {"kind": "ConfigMap", "name": "istio-ca-root-cert"}}, "root-not-current"),
    ],
    ids=["trust-domain", "spiffe-id", "no-client-id", "no-root", "another-root"],
)
def test_trust_domain_client_id_and_root_are_told_apart(meshes: Meshes, change: dict[str, Any], cause: str) -> None:
    security = meshes.clusters["mesh1"].get(kinds.PEER, "mesh2", "mesh1-system")["spec"]["security"]
    with meshes.changed("mesh1", kinds.PEER, "mesh2", "mesh1-system", {"security": {**security, **change}}):
        assert named(diagnose(meshes.clusters, patience=1)) == (cause, "mesh1")
