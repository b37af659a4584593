"""Diagnosis and evidence on a running federation: healthy, broken in ways that look alike, and full of secrets."""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from harness import kinds
from harness.cluster import Cluster
from harness.diagnosis import Hints, State, diagnose
from harness.envoy import Proxy, access_log_paths
from harness.evidence import collect
from lab.api.pki import kubeconfig
from lab.settings import ClusterSettings
from selftests.support.diagnosed import ROOT, Meshes, command, drained, meshes, named, until

__all__ = ["meshes"]
SECRET = "c0ffee-" + "do-not-show-me"


def test_a_healthy_federation_has_every_link_in_order(meshes: Meshes) -> None:
    found = diagnose(meshes.clusters)
    assert [str(link) for link in found.links if link.state is not State.OK] == []
    assert (found.state, found.cause, found.side) == (State.OK, "", "")
    identities = [link.seen for link in found.links if link.name == "clientID"]
    assert all("by the certificate it holds" in seen for seen in identities), identities
    assert len({(link.name, link.side) for link in found.links}) == len(found.links) > 30
    said = command(meshes, "--json")
    assert said.returncode == 0, said.stdout + said.stderr
    assert json.loads(said.stdout)["links"] == [
        link | {"seen": said_link["seen"]}
        for link, said_link in zip(found.to_dict()["links"], json.loads(said.stdout)["links"], strict=True)
    ]


def test_looking_changes_no_object(meshes: Meshes) -> None:
    def everything() -> dict[str, tuple[str, ...]]:
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
            + str(obj["metadata"].get("generation"))
            for name, cluster in meshes.clusters.items()
            for kind in looked_at
            for obj in cluster.list(kind)
        }

    before = everything()
    diagnose(meshes.clusters)
    assert everything() == before


def test_routes_that_look_alike_are_told_apart(meshes: Meshes) -> None:
    remote, local = "ratings.mesh2-bookinfo.svc.mesh1-imports.local", "ratings.mesh2-bookinfo.svc.cluster.local"

    def routed(host: str, weight: int, **destination: str) -> list[dict[str, Any]]:
        split = ((weight, {"host": host, **destination}), (100 - weight, {"host": local}))
        return [{"route": [{"destination": to, "weight": share} for share, to in split]}]

    matching = [{"match": [{"headers": {"user-agent": {"prefix": "x"}}}], **routed(remote, 100)[0]}]
    for http, cause in (
        (routed(remote.replace("imports", "import"), 50), "unknown-host"),
        (routed(remote, 50, subset="v9"), "unknown-subset"),
        (routed(remote, 60), "weights-differ"),
        (matching + routed(remote, 50), "not-independent"),
    ):
        with meshes.changed("mesh2", kinds.VIRTUAL_SERVICE, "ratings-split", "mesh2-bookinfo", {"http": http}):
            found = diagnose(meshes.clusters, Hints({"mesh1": 50, "mesh2": 50}))
        assert named(found) == (cause, "mesh2"), found.summary


def test_rules_that_take_nothing_and_rules_that_take_too_much(meshes: Meshes) -> None:
    rules = meshes.clusters["mesh2"].get(kinds.IMPORTS, "mesh1", "mesh2-system")["spec"]["importRules"]
    nothing = [{**rules[0], "nameSelector": {**rules[0]["nameSelector"], "namespace": "mesh1-bookinfo"}}]
    with meshes.changed("mesh2", kinds.IMPORTS, "mesh1", "mesh2-system", {"importRules": nothing}):
        found = diagnose(meshes.clusters)
    assert named(found) == ("import-rule-no-match", "mesh2")
    assert "mesh1-bookinfo" in found.sentence


def test_ratings_that_are_down_at_home_are_no_matter_of_federation(meshes: Meshes) -> None:
    local = "outbound|9080||ratings.mesh2-bookinfo.svc.cluster.local"
    with contextlib.ExitStack() as stack:
        for version in ("v1", "v2"):
            down = meshes.changed("mesh2", kinds.DEPLOYMENT, f"ratings-{version}", "mesh2-bookinfo", {"replicas": 0})
            stack.enter_context(down)
        until("reviews to know that nobody is there", lambda: not meshes.reviews().endpoints()[local])
        found = diagnose(meshes.clusters)
    until("reviews to have ratings again", lambda: len(meshes.reviews().endpoints()[local]) == 2)
    assert named(found) == ("backend-down", "mesh2"), found.summary
    assert "ratings of mesh2" in found.sentence


@pytest.mark.parametrize("mesh", ["mesh1", "mesh2"])
def test_a_policy_that_denies_ratings_is_named_with_whom_it_has_to_admit(meshes: Meshes, mesh: str) -> None:
    admitted = {
        "mesh1": "mesh1.local/ns/mesh1-system/sa/mesh2-ingress-service-account",
        "mesh2": "mesh2.local/ns/mesh2-bookinfo/sa/bookinfo-reviews",
    }[mesh]

    def sidecars(deny: bool) -> bool:
        pods = meshes.federation.mesh(mesh).running_pods(f"{mesh}-bookinfo", "app=ratings")
        proxies = [Proxy(meshes.clusters[mesh], f"{mesh}-bookinfo", pod["metadata"]["name"]) for pod in pods]
        told = (("policy[nobody]" in proxy.request("GET", "config_dump")) is deny for proxy in proxies)
        return all(told) and all(map(drained, proxies))

    spec = {"action": "DENY", "selector": {"matchLabels": {"app": "ratings"}}, "rules": [{}]}
    with meshes.added(mesh, kinds.AUTHORIZATION_POLICY, "nobody", spec):
        until("the sidecars to deny", lambda: sidecars(deny=True))
        found = diagnose(meshes.clusters)
    until("the sidecars to let everybody in again", lambda: sidecars(deny=False))
    assert named(found) == ("denied-by-policy", mesh), found.summary
    assert f"AuthorizationPolicy {mesh}-bookinfo/nobody denies it" in found.sentence
    assert admitted in found.remedy


def test_a_destination_rule_that_turns_mutual_tls_off_is_named(meshes: Meshes) -> None:
    host = "ratings.mesh2-bookinfo.svc.mesh1-imports.local"

    def plain() -> bool:
        dump = meshes.reviews().config_dump("dynamic_active_clusters")
        clusters = [entry["cluster"] for entry in dump["configs"]]
        (ours,) = [cluster for cluster in clusters if cluster["name"] == f"outbound|9080||{host}"]
        return not {"transport_socket", "transport_socket_matches"} & ours.keys()

    spec = {"host": host, "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
    with meshes.added("mesh2", kinds.DESTINATION_RULE, "plain", spec):
        until("reviews to call without TLS", plain)
        found = diagnose(meshes.clusters)
    until("reviews to call by mutual TLS again", lambda: not plain())
    assert named(found) == ("egress-refuses-plaintext", "mesh2"), found.summary
    assert "DestinationRule mesh2-bookinfo/plain" in found.sentence


def test_without_an_access_log_a_gateway_is_unknown_and_not_ok(meshes: Meshes) -> None:
    def fault(*arguments: str) -> None:
        where = str(meshes.clusters["mesh1"].kubeconfig.parent.parent)
        command = [sys.executable, "-m", "lab", "fault", *arguments, "--directory", where]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)

    pod = meshes.federation.mesh1.gateway_pods("mesh2-ingress")[0]["metadata"]["name"]
    ingress = Proxy(meshes.clusters["mesh1"], "mesh1-system", pod)

    def logging() -> bool:
        return bool(access_log_paths(ingress.config_dump("dynamic_listeners")))

    fault("access-log-off-export")
    try:
        until("the ingress gateway to write no log", lambda: not logging())
        found = diagnose(meshes.clusters)
    finally:
        fault("access-log-off-export", "--off")
    until("the ingress gateway to write its log again", logging)
    meshes.settle()
    links = {(link.name, link.side): link for link in found.links}
    assert links["ingress", "mesh1"].state is State.UNKNOWN, links["ingress", "mesh1"]
    assert links["egress", "mesh2"].state is State.OK, links["egress", "mesh2"]
    assert named(found) == ("access-log-off", "mesh1"), found.summary


def test_a_watch_that_comes_back_is_in_order_and_one_that_does_not_is_broken_after_the_given_patience(
    meshes: Meshes,
) -> None:
    cluster, system = meshes.clusters["mesh2"], "mesh2-system"
    before = cluster.get(kinds.PEER, "mesh1", system)["status"]
    cut = copy.deepcopy(before)
    (view,) = cut["discoveryStatus"].pop("active")
    view["watch"]["connected"] = False
    cut["discoveryStatus"] = {"active": [], "inactive": [view]}

    def write(status: dict[str, Any]) -> None:
        cluster.patch(kinds.PEER, "mesh1", system, {"status": status}, "status")

    write(cut)
    back = threading.Timer(1, write, [before])
    back.start()
    try:
        found = diagnose(meshes.clusters)
    finally:
        back.join()
    assert found.state is State.OK, found.summary
    assert found.seconds >= 0.5, "it was connected at once, which proves nothing"
    write(cut)
    try:
        found = diagnose(meshes.clusters, patience=0.3)
    finally:
        write(before)
    assert named(found)[1] == "mesh2"
    assert next(link for link in found.links if link.state is State.BROKEN).name == "watch"
    meshes.settle()


def test_what_may_not_be_read_is_unknown_and_never_ok(meshes: Meshes, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.kubeconfig"
    config = yaml.safe_load(meshes.clusters["mesh1"].kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": SECRET}
    stranger.write_text(yaml.safe_dump(config))
    with contextlib.closing(Cluster("mesh1", stranger)) as cluster:
        found = diagnose({**meshes.clusters, "mesh1": cluster})
    assert named(found) == ("api-unauthorized", "mesh1")
    # What mesh2 sees of mesh1's answers is all that is known of it.
    assert {link.name for link in found.links if link.side == "mesh1" and link.state is State.OK} <= {
        "application",
        "mongodb",
    }
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


def test_evidence_of_both_clusters_holds_no_secret(meshes: Meshes, tmp_path: Path) -> None:
    since = datetime.now(UTC) - timedelta(minutes=5)
    cluster = meshes.clusters["mesh2"]
    secret = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "planted", "namespace": "mesh2-bookinfo"},
        "data": {"password": SECRET},
    }
    cluster.create(secret)
    environment = [{"name": "DB_PASSWORD", "value": SECRET}]
    annotations = {"note": f"authorization: Bearer {SECRET}", "token": SECRET}
    cluster.patch(kinds.SERVICE, "ratings", "mesh2-bookinfo", {"metadata": {"annotations": annotations}})
    host = {"route": [{"destination": {"host": "details"}}], "match": [{"headers": {"token": {"exact": SECRET}}}]}
    planted = {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": {"name": "planted", "namespace": "mesh2-bookinfo", "annotations": {"env": json.dumps(environment)}},
        "spec": {"hosts": ["reviews.planted.local"], "http": [host]},
    }
    cluster.create(planted)
    requests.get(meshes.url, headers={"User-Agent": f"Bearer {SECRET}"}, timeout=10)
    try:
        index = collect(meshes.clusters, since, tmp_path, diagnose(meshes.clusters))
    finally:
        cluster.delete(kinds.VIRTUAL_SERVICE, "planted", "mesh2-bookinfo")
        cluster.delete(kinds.CONFIG_MAP, "planted", "mesh2-bookinfo")
    files = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert [name for name, text in files.items() if SECRET in text] == []
    assert "Bearer [redacted]" in "".join(text for name, text in files.items() if "/logs/productpage" in name)
    assert index.missing == ()
    assert {entry.file for entry in index.files} | {"index.yaml"} == files.keys()
    for mesh in ("mesh1", "mesh2"):
        for part in ("objects", "logs", "proxies"):
            assert any(name.startswith(f"{mesh}/{part}/") for name in files), f"{mesh}: no {part}"
        assert f"{mesh}/objects/{mesh}-system-servicemeshpeers.yaml" in files
        assert f"{mesh}/objects/{mesh}-system-networkpolicies.yaml" in files
        assert files[f"{mesh}/events.yaml"]
    for entry in index.files:
        if "/logs/" in entry.file and entry.bytes:
            first, last = entry.first.replace(" ", "T"), entry.last.replace(" ", "T")
            assert since.isoformat() <= first <= last <= index.until.isoformat(), entry
    reviews = slices_of(files, "mesh2/proxies/reviews-v3")
    imported = "outbound|9080||ratings.mesh2-bookinfo.svc.mesh1-imports.local"
    assert imported in reviews["endpoints"]
    assert "spiffe://mesh2.local/ns/mesh2-system/sa/mesh1-egress-service-account" in json.dumps(
        reviews["tls_to"][imported]
    )
    ingress = slices_of(files, "mesh1/proxies/mesh2-ingress")
    listening = {entry["address"]["socket_address"]["port_value"]: entry for entry in ingress["federation_listeners"]}
    assert listening.keys() == {8188, 15443}
    for port in (8188, 15443):
        assert '"require_client_certificate": true' in json.dumps(listening[port])
    assert "ratings.bookinfo.svc.mesh2-exports.local" in json.dumps(listening[15443])
    assert any("mesh2.local" in json.dumps(entry.get("ca_cert")) for entry in ingress["certificates"])
    memory = next(text for name, text in files.items() if name.startswith("mesh1/objects/mesh1-system-configz-istiod"))
    assert ("ServiceEntry", "federation-discovery-mesh2") in {
        (entry["kind"], entry["name"]) for entry in yaml.safe_load(memory)
    }


def slices_of(files: dict[str, str], beginning: str) -> dict[str, Any]:
    return json.loads(next(text for name, text in files.items() if name.startswith(beginning)))


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


def test_trust_domain_client_id_and_root_are_told_apart(meshes: Meshes) -> None:
    security = meshes.clusters["mesh1"].get(kinds.PEER, "mesh2", "mesh1-system")["spec"]["security"]
    for change, cause in (
        ({"trustDomain": "elsewhere.local"}, "wrong-trust-domain"),
        ({"clientID": f"spiffe://{security['clientID']}"}, "wrong-client-id"),
        ({"clientID": ""}, "client-id-missing"),
        ({"certificateChain": {"kind": "ConfigMap", "name": "not-there"}}, "root-missing"),
        ({"certificateChain": {"kind": "ConfigMap", "name": "istio-ca-root-cert"}}, "root-not-current"),
    ):
        spec = {"security": {**copy.deepcopy(security), **change}}
        with meshes.changed("mesh1", kinds.PEER, "mesh2", "mesh1-system", spec):
            assert named(diagnose(meshes.clusters, patience=1)) == (cause, "mesh1"), change
