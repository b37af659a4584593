"""Logs, exec, port-forward and proxy through the API to a real pod of the lab's node."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import portforward, stream

from lab.settings import ClusterSettings
from selftests.support.api import Http, api_server
from selftests.support.node import running_node

IMAGE = "quay.io/maistra/examples-bookinfo-details-v1:2.1.0"


@pytest.fixture(scope="module")
def settings() -> Iterator[ClusterSettings]:
    with api_server() as running, running_node(running):
        yield running


@pytest.fixture(scope="module")
def http(settings: ClusterSettings) -> Http:
    return Http(settings)


@pytest.fixture(scope="module")
def namespace(http: Http) -> str:
    """A namespace with one ready pod, `details`, and its Service."""
    name = http.namespace()
    containers = [
        {"name": "details", "image": IMAGE, "ports": [{"containerPort": 9080}]},
        {"name": "idle", "image": "quay.io/maistra/istio-ubi8-operator:2.1.6"},
    ]
    spec = {"nodeName": "node1", "containers": containers}
    path = f"/api/v1/namespaces/{name}/pods"
    http.must("POST", path, {"metadata": {"name": "details", "labels": {"app": "details"}}, "spec": spec})
    for event in http.events(path, timeoutSeconds="30"):
        status = event["object"]["status"]
        if any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", [])):
            break
    else:
        pytest.fail("the pod did not become ready in 30 s")
    service = {"metadata": {"name": "details"}, "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 9080}]}}
    http.must("POST", f"/api/v1/namespaces/{name}/services", service)
    subset = {"addresses": [{"ip": status["podIP"]}], "ports": [{"name": "http", "port": 9080}]}
    http.must("POST", f"/api/v1/namespaces/{name}/endpoints", {"metadata": {"name": "details"}, "subsets": [subset]})
    return name


@pytest.fixture
def core(settings: ClusterSettings) -> Iterator[client.CoreV1Api]:
    with config.new_client_from_config(str(settings.kubeconfig)) as opened:
        yield client.CoreV1Api(opened)


def test_logs_are_relayed(namespace: str, core: client.CoreV1Api) -> None:
    assert ":9080" in core.read_namespaced_pod_log("details", namespace, container="details")
    last = core.read_namespaced_pod_log("details", namespace, container="details", tail_lines=1)
    assert last.count("\n") == 1
    followed = core.read_namespaced_pod_log(
        "details", namespace, container="details", follow=True, since_seconds=600, _preload_content=False
    )
    try:
        assert followed.read(10), "a followed log delivers while the container runs"
    finally:
        followed.close()


def test_a_log_needs_its_container(http: Http, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    status, answer = http.call("GET", f"{path}/details/log")
    assert (status, answer["reason"]) == (400, "BadRequest")
    assert answer["message"] == ("a container name must be specified for pod details, choose one of: [details idle]")
    status, answer = http.call("GET", f"{path}/details/log", container="other")
    assert (status, answer["message"]) == (400, "container other is not valid for pod details")
    assert http.call("GET", f"{path}/nobody/log")[1]["reason"] == "NotFound"


def test_exec_by_the_python_client(namespace: str, core: client.CoreV1Api) -> None:
    def run(script: str) -> tuple[str, str, int]:
        opened = stream(
            core.connect_get_namespaced_pod_exec,
            "details",
            namespace,
            container="details",
            command=["sh", "-c", script],
            stdout=True,
            stderr=True,
            stdin=False,
            _preload_content=False,
        )
        opened.run_forever(timeout=20)
        return opened.read_stdout(), opened.read_stderr(), opened.returncode

    assert run("echo out; echo err >&2; exit 3") == ("out\n", "err\n", 3)
    assert run("true") == ("", "", 0)
    with pytest.raises(ApiException, match="404"):
        stream(core.connect_get_namespaced_pod_exec, "nobody", namespace, command=["true"], stdout=True)


def ask(connection: socket.socket) -> bytes:
    """The pod's whole answer to one request."""
    connection.sendall(b"GET /details/0 HTTP/1.1\r\nHost: details\r\nConnection: close\r\n\r\n")
    answer = b""
    while b"}" not in answer and (data := connection.recv(65536)):
        answer += data
    return answer


def test_port_forward_by_the_python_client(namespace: str, core: client.CoreV1Api) -> None:
    forward = portforward(core.connect_get_namespaced_pod_portforward, "details", namespace, ports="9080")
    with contextlib.closing(forward.socket(9080)) as connection:
        connection.settimeout(20)
        answer = ask(connection)
    assert answer.startswith(b"HTTP/1.1 200 "), (answer, forward.error(9080))


def test_a_closed_port_is_told(namespace: str, core: client.CoreV1Api) -> None:
    forward = portforward(core.connect_get_namespaced_pod_portforward, "details", namespace, ports="9999")
    with contextlib.closing(forward.socket(9999)) as connection:
        connection.settimeout(20)
        assert connection.recv(10) == b""
    assert "9999" in forward.error(9999)


def test_one_port_that_ends_leaves_the_others(namespace: str, core: client.CoreV1Api) -> None:
    forward = portforward(core.connect_get_namespaced_pod_portforward, "details", namespace, ports="9999,9080")
    with contextlib.closing(forward.socket(9080)) as connection:
        connection.settimeout(20)
        assert ask(connection).startswith(b"HTTP/1.1 200 ")
    assert "9999" in forward.error(9999)
    assert forward.error(9080) is None


def test_pods_are_reached_through_the_proxy(http: Http, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    assert http.must("GET", f"{path}/details:9080/proxy/details/0", x="/")["id"] == 0
    assert http.call("GET", f"{path}/details:9999/proxy/")[1]["reason"] == "ServiceUnavailable"


def test_services_are_reached_through_the_proxy(http: Http, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"
    for name in ("details", "details:http", "details:80", "http:details:http"):
        assert http.must("GET", f"{path}/{name}/proxy/details/0")["id"] == 0, name
    http.must("DELETE", f"/api/v1/namespaces/{namespace}/endpoints/details")
    status, answer = http.call("GET", f"{path}/details:http/proxy/")
    assert (status, answer["reason"]) == (503, "ServiceUnavailable")


def test_kubectl_logs_and_exec(settings: ClusterSettings, namespace: str, tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if not kubectl:
        pytest.skip("kubectl is not on PATH")
    environment = {**os.environ, "KUBECONFIG": str(settings.kubeconfig), "HOME": str(tmp_path)}

    def run(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        line = [kubectl, "-n", namespace, *words]
        return subprocess.run(line, env=environment, input=text, capture_output=True, text=True, timeout=60)

    assert run("logs", "details", "-c", "details").returncode == 0
    done = run("exec", "details", "-c", "details", "--", "sh", "-c", "echo here; exit 4")
    assert (done.stdout, done.returncode) == ("here\n", 4), done.stderr
    echoed = run("exec", "-i", "details", "-c", "details", "--", "cat", text="typed\n")
    assert echoed.stdout == "typed\n", echoed.stderr
