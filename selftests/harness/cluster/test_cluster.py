"""Cluster against the lab: objects, waits, logs, commands and ports, of two clusters that must not be mixed up."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from harness.cluster import streams
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import CONFIG_MAP, CONTROL_PLANE, DEPLOYMENT, NAMESPACE, PEER, POD
from harness.cluster.transport import CertificateError, ClusterError, Conflict, Invalid, NotFound, Unauthorized
from harness.run.waiting import wait_for
from harness.scenario.manifests import load
from lab.settings import ClusterSettings
from selftests.support.api import Http
from selftests.support.lab import start_lab, stop_lab

PATIENT = 60


@pytest.fixture(scope="module")
def clusters() -> Iterator[tuple[Cluster, Cluster]]:
    lab = start_lab()
    found = tuple(Cluster(settings.name, settings.kubeconfig) for settings in lab.clusters)
    yield found
    for cluster in found:
        cluster.close()
    stop_lab(lab)


@pytest.fixture(scope="module")
def cluster(clusters) -> Cluster:
    return clusters[0]


@pytest.fixture(scope="module")
def details(cluster) -> str:
    """Name of a running pod of bookinfo's details, without a sidecar."""
    for obj in load("bookinfo"):
        if obj["metadata"]["name"] in ("bookinfo-details", "details-v1"):
            obj["metadata"]["namespace"] = "default"
            cluster.apply(obj)

    def ready(pods):
        for pod in pods:
            for condition in (pod.get("status") or {}).get("conditions") or ():
                if condition["type"] == "Ready" and condition["status"] == "True":
                    return pod["metadata"]["name"]
        return None

    return cluster.wait(
        "details to be ready", POD, "default", label_selector="app=details", until=ready, timeout=PATIENT
    )


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data}


def test_two_clusters_have_two_uids_and_one_has_one(clusters):
    mesh1, mesh2 = clusters
    assert mesh1.uid() != mesh2.uid()
    assert mesh1.uid() == Cluster("again", mesh1.kubeconfig).uid()


def test_the_same_apply_again_changes_nothing(cluster):
    first = cluster.apply(config_map("same", a="1"))
    assert (
        cluster.apply(config_map("same", a="1"))["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    )


def test_an_apply_takes_back_what_it_no_longer_says_and_leaves_what_others_say(cluster):
    labelled = config_map("mine", a="1", b="2")
    cluster.create(config_map("mine", theirs="3"))
    cluster.apply(labelled)
    assert cluster.apply(config_map("mine", a="1"))["data"] == {"a": "1", "theirs": "3"}


def test_what_is_not_there_is_found_as_none_and_deleted_already(cluster):
    assert cluster.find(CONFIG_MAP, "nothing", "default") is None
    cluster.delete(CONFIG_MAP, "nothing", "default")
    with pytest.raises(NotFound, match=r"mesh1: GET .*configmaps/nothing"):
        cluster.get(CONFIG_MAP, "nothing", "default")


def test_a_second_create_is_a_conflict(cluster):
    cluster.create(config_map("once"))
    with pytest.raises(Conflict, match="mesh1"):
        cluster.create(config_map("once"))


def test_a_field_that_does_not_exist_is_refused_by_name(cluster):
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict"}})
    plane = {
        "apiVersion": CONTROL_PLANE.api_version,
        "kind": CONTROL_PLANE.kind,
        "metadata": {"name": "wrong", "namespace": "strict"},
        "spec": {"gatewayz": {}},
    }
    with pytest.raises(Invalid, match="gatewayz"):
        cluster.apply(plane)


def test_a_list_says_what_its_items_are(cluster):
    cluster.apply(config_map("listed"))
    assert {(obj["apiVersion"], obj["kind"]) for obj in cluster.list(CONFIG_MAP, "default")} == {("v1", "ConfigMap")}


def test_a_label_selects(cluster):
    labelled = config_map("labelled")
    labelled["metadata"]["labels"] = {"colour": "red"}
    cluster.apply(labelled)
    assert [obj["metadata"]["name"] for obj in cluster.list(CONFIG_MAP, None, "colour=red")] == ["labelled"]


def test_kinds_are_served_when_their_definitions_are_there(cluster):
    assert cluster.served(CONTROL_PLANE)
    assert not cluster.served(PEER), "the federation kinds come with the first control plane"


def test_an_administrator_is_allowed_everything(cluster):
    assert cluster.allowed("delete", NAMESPACE)


def test_a_wait_sees_what_another_client_does(cluster):
    looked = threading.Event()

    def later():
        looked.wait()
        cluster.apply(config_map("awaited", a="1"))

    def has_data(found):
        looked.set()
        return found[0]["data"]["a"] if found else None

    thread = threading.Thread(target=later)
    thread.start()
    assert cluster.wait("awaited", CONFIG_MAP, "default", name="awaited", until=has_data, timeout=PATIENT) == "1"
    thread.join()


def test_a_wait_sees_a_deletion(cluster):
    cluster.apply(config_map("leaving"))
    looked = threading.Event()

    def later():
        looked.wait()
        cluster.delete(CONFIG_MAP, "leaving", "default")

    def gone(found):
        looked.set()
        return not found or None

    thread = threading.Thread(target=later)
    thread.start()
    assert cluster.wait("it to leave", CONFIG_MAP, "default", name="leaving", until=gone, timeout=PATIENT)
    thread.join()


def test_a_wrong_token_is_named_with_its_remedy(cluster, tmp_path):
    file = tmp_path / "kubeconfig"
    text = cluster.kubeconfig.read_text()
    token = text.split('"token": "')[1].split('"')[0]
    file.write_text(text.replace(token, "wrong"))
    with pytest.raises(Unauthorized, match=r"mesh2: .*401.*oc login"):
        Cluster("mesh2", file).list(DEPLOYMENT, "default")


def test_the_kubeconfig_of_the_other_cluster_fails_on_tls(clusters, tmp_path):
    mesh1, mesh2 = clusters
    file = tmp_path / "kubeconfig"
    file.write_text(mesh1.kubeconfig.read_text().replace(mesh1.server, mesh2.server))
    with pytest.raises(CertificateError, match="its certificate is not believed: "):
        Cluster("mixed", file, patience=0).uid()


def test_a_port_of_a_pod_is_reached_through_the_api_server(cluster, details):
    with cluster.port_forward("default", details, 9080) as connection:
        client = http.client.HTTPConnection("details")
        client.sock = connection
        client.request("GET", "/details/0")
        answer = client.getresponse()
        assert (answer.status, b"author" in answer.read()) == (200, True)


def test_a_log_can_be_read_and_followed_until_it_is_closed(cluster, details):
    before = list(cluster.logs("default", details, "details"))
    assert before, "details says nothing at its start: this test would prove nothing"
    stream = cluster.logs("default", details, "details", follow=True)
    lines = iter(stream)
    assert [next(lines) for _ in before] == before
    thread = threading.Thread(target=stream.close)
    thread.start()
    assert list(lines) == []
    thread.join()


def test_a_command_gives_its_output_or_the_reason_it_failed(cluster, details):
    assert cluster.exec("default", details, "details", ["sh", "-c", "echo out; echo err >&2"]) == "out\n"
    with pytest.raises(ClusterError, match=r"exec default/.* -c details: .*exit status 3.*broken"):
        cluster.exec("default", details, "details", ["sh", "-c", "echo broken >&2; exit 3"])
    with pytest.raises(ClusterError, match="no-such-command"):
        cluster.exec("default", details, "details", ["no-such-command"])


def test_a_command_that_does_not_end_has_the_patience_of_who_asks(cluster, details, monkeypatch):
    monkeypatch.setattr(streams, "CONNECT_SECONDS", 1.0)
    with pytest.raises(ClusterError, match="still running after 1 s"):
        cluster.with_patience(0.5).exec("default", details, "details", ["sleep", "5"])


def test_a_command_of_a_pod_that_is_not_there_fails_with_its_name(cluster):
    with pytest.raises(ClusterError, match="mesh1: exec default/nobody"):
        cluster.exec("default", "nobody", "details", ["true"])


@pytest.fixture
def token_of(cluster, tmp_path):
    """A Cluster by a token that `expire` takes away and replaces in its kubeconfig."""
    http = Http(ClusterSettings.load(cluster.kubeconfig.parent))

    def give(token: str) -> Path:
        http.must("POST", "/lab/users", {"token": token, "name": "visitor"})
        content = yaml.safe_load(cluster.kubeconfig.read_text())
        content["users"][0]["user"] = {"token": token}
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(content))
        return tmp_path / "kubeconfig"

    def expire(old: str, new: str) -> None:
        http.must("DELETE", "/lab/users", {"token": old})
        give(new)

    found = Cluster("mesh1", give("first"))
    yield found, expire, http
    found.close()
    http.must("POST", "/lab/faults", {"rate": 0})
    for token in ("first", "second"):
        http.must("DELETE", "/lab/users", {"token": token})


def test_a_wait_goes_on_when_its_token_expires(cluster, token_of):
    visitor, expire, http = token_of
    http.must("POST", "/lab/faults", {"rate": 1, "kinds": ["watch-end"]})

    def watches():
        return http.must("GET", "/lab/faults")["made"].get("watch-end", 0)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(visitor.wait, "expected", CONFIG_MAP, "default", "expected", until=bool, timeout=PATIENT)
        wait_for("a watch", lambda: (watches() or None, "none"), PATIENT)
        expire("first", "second")
        before = watches()
        wait_for("another watch", lambda: (watches() > before or waiting.done() or None, "none"), PATIENT)
        cluster.apply(config_map("expected"))
        assert waiting.result(PATIENT) is True


@pytest.mark.parametrize("what", ["logs", "exec", "port-forward"])
def test_a_pod_is_reached_with_a_token_that_was_renewed(details, token_of, what):
    visitor, expire, _ = token_of
    visitor.uid()
    expire("first", "second")
    if what == "logs":
        assert list(visitor.logs("default", details, "details"))
    elif what == "exec":
        assert visitor.exec("default", details, "details", ["echo", "out"]) == "out\n"
    else:
        visitor.port_forward("default", details, 9080).close()


def test_no_credentials_are_left_in_temporary_files(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    Cluster("mesh1", cluster.kubeconfig).uid()
    assert list(tmp_path.iterdir()) == []
