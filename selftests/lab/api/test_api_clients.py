"""The clients that people use: the official Python client and kubectl."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config, dynamic, watch
from kubernetes.client.exceptions import ApiException

from lab.settings import ClusterSettings
from selftests.support.api import Http, api_server, config_map, definition, widget

Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def settings() -> Iterator[ClusterSettings]:
    with api_server() as running:
        yield running


@pytest.fixture(scope="module")
def http(settings: ClusterSettings) -> Http:
    return Http(settings)


@pytest.fixture
def namespace(http: Http) -> str:
    return http.namespace()


@pytest.fixture(scope="module")
def api(settings: ClusterSettings) -> Iterator[client.ApiClient]:
    with config.new_client_from_config(str(settings.kubeconfig)) as opened:
        yield opened


@pytest.fixture
def widgets(http: Http, namespace: str) -> str:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.test.lab"
    crd = definition({"type": "object", "properties": {"size": {"type": "integer"}}})
    http.apply(path, crd, "selftest", force="true")
    return f"/apis/test.lab/v1/namespaces/{namespace}/widgets"


def deployment(name: str, replicas: int = 1) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def test_typed_objects(api: client.ApiClient, namespace: str) -> None:
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    body = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a"), data={"k": "v"})
    made = core.create_namespaced_config_map(namespace, body)
    assert made.metadata.creation_timestamp.year >= 2026
    made.data["k"] = "w"
    assert core.replace_namespaced_config_map("a", namespace, made).data == {"k": "w"}
    with pytest.raises(ApiException) as stale:
        core.replace_namespaced_config_map("a", namespace, made)
    assert (stale.value.status, json.loads(stale.value.body)["reason"]) == (409, "Conflict")
    apps.create_namespaced_deployment(namespace, deployment("d"))
    assert apps.patch_namespaced_deployment("d", namespace, {"spec": {"replicas": 3}}).spec.replicas == 3
    assert apps.read_namespaced_deployment_scale("d", namespace).spec.replicas == 3
    assert [item.metadata.name for item in core.list_namespaced_config_map(namespace).items] == ["a"]
    core.delete_namespaced_config_map("a", namespace)
    with pytest.raises(ApiException, match="NotFound"):
        core.read_namespaced_config_map("a", namespace)
    assert client.VersionApi(api).get_code().git_version == "v1.30.4"


def test_a_typed_watch(api: client.ApiClient, namespace: str) -> None:
    core = client.CoreV1Api(api)
    stream = watch.Watch().stream(core.list_namespaced_config_map, namespace, timeout_seconds=5)
    core.create_namespaced_config_map(namespace, config_map("a"))
    event = next(iter(stream))
    assert (event["type"], event["object"].metadata.name) == ("ADDED", "a")


def test_a_watch_from_the_past_raises_410(api: client.ApiClient, http: Http, namespace: str) -> None:
    core = client.CoreV1Api(api)
    old = core.list_namespaced_config_map(namespace).metadata.resource_version
    core.create_namespaced_config_map(namespace, config_map("a"))
    http.must("POST", "/lab/forget-events", {})
    with pytest.raises(ApiException) as gone:
        list(watch.Watch().stream(core.list_namespaced_config_map, namespace, resource_version=old, timeout_seconds=3))
    assert gone.value.status == 410


def test_dynamic_objects(api: client.ApiClient, namespace: str, widgets: str, tmp_path: Path) -> None:
    assert widgets
    found = dynamic.DynamicClient(api, cache_file=str(tmp_path / "cache")).resources.get(
        api_version="test.lab/v1", kind="Widget"
    )
    found.create(body=widget("a", {"size": 1}), namespace=namespace)
    merge = "application/merge-patch+json"
    assert found.patch(name="a", namespace=namespace, body={"spec": {"size": 2}}, content_type=merge).spec.size == 2
    applied = found.server_side_apply(
        name="a", namespace=namespace, body=widget("a", {"size": 3}), field_manager="me", force_conflicts=True
    )
    assert applied.spec.size == 3
    assert [item.metadata.name for item in found.get(namespace=namespace).items] == ["a"]
    assert next(found.watch(namespace=namespace, timeout=5))["object"].spec.size == 3
    found.delete(name="a", namespace=namespace)


def test_two_clusters_do_not_trust_each_other(settings: ClusterSettings, tmp_path: Path) -> None:
    with api_server("mesh2") as other:
        mixed = yaml.safe_load(settings.kubeconfig.read_text())
        mixed["clusters"][0]["cluster"]["server"] = other.server
        (tmp_path / "config").write_text(yaml.safe_dump(mixed))
        with config.new_client_from_config(str(tmp_path / "config")) as opened:
            opened.configuration.retries = False
            with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
                client.VersionApi(opened).get_code()


@pytest.fixture(scope="module")
def kubectl(settings: ClusterSettings, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    found = shutil.which("kubectl")
    if not found:
        pytest.skip("kubectl is not on PATH")
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "KUBECONFIG": str(settings.kubeconfig), "HOME": str(home)}

    def run(*words: str, stdin: Any = None) -> subprocess.CompletedProcess[str]:
        text = None if stdin is None else yaml.safe_dump_all(stdin if isinstance(stdin, list) else [stdin])
        return subprocess.run([found, *words], input=text, env=environment, capture_output=True, text=True, timeout=60)

    return run


def test_kubectl_apply_is_idempotent(kubectl: Kubectl, namespace: str) -> None:
    results = []
    for replicas in (1, 3, 3):
        done = kubectl("apply", "-n", namespace, "-f", "-", stdin=[deployment("web", replicas), config_map("c", {})])
        assert done.returncode == 0, done.stderr
        results.append([line.rpartition(" ")[2] for line in done.stdout.splitlines()])
    assert results == [["created", "created"], ["configured", "unchanged"], ["unchanged", "unchanged"]]


def test_kubectl_server_side_apply_tells_conflicts(kubectl: Kubectl, namespace: str) -> None:
    assert kubectl("apply", "-n", namespace, "-f", "-", stdin=deployment("web", 1)).returncode == 0
    refused = kubectl("apply", "--server-side", "-n", namespace, "-f", "-", stdin=deployment("web", 2))
    assert refused.returncode != 0
    assert ".spec.replicas" in refused.stderr
    forced = kubectl(
        "apply", "--server-side", "--force-conflicts", "-n", namespace, "-f", "-", stdin=deployment("web", 2)
    )
    assert forced.returncode == 0, forced.stderr


def test_kubectl_refuses_unknown_fields_of_custom_objects(kubectl: Kubectl, namespace: str, widgets: str) -> None:
    assert widgets
    refused = kubectl("apply", "-n", namespace, "-f", "-", stdin=widget("a", {"sise": 1}))
    assert refused.returncode != 0
    assert 'unknown field "spec.sise"' in refused.stderr
    assert kubectl("apply", "-n", namespace, "-f", "-", stdin=widget("a", {"size": 1})).returncode == 0
    assert "a" in kubectl("get", "wd", "-n", namespace).stdout
    assert "size" in kubectl("explain", "widget.spec").stdout


def test_kubectl_get_and_describe(kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=deployment("web"))
    assert kubectl("get", "deploy", "-n", namespace, "--no-headers").stdout.split()[:2] == ["web", "0/1"]
    assert "Pod Template:" in kubectl("describe", "deploy", "web", "-n", namespace).stdout
    assert kubectl("get", "all", "-n", namespace, "-o", "name").stdout == "deployment.apps/web\n"
    missing = kubectl("get", "deploy", "nobody", "-n", namespace)
    assert 'Error from server (NotFound): deployments.apps "nobody" not found' in missing.stderr


def test_kubectl_waits_for_a_condition(kubectl: Kubectl, http: Http, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=deployment("web"))
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web/status"
    status = {"status": {"conditions": [{"type": "Available", "status": "True"}]}}
    timer = threading.Timer(0.5, lambda: Http(http.settings).patch(path, status))
    timer.start()
    done = kubectl("wait", "--for=condition=Available", "deploy/web", "-n", namespace, "--timeout=20s")
    timer.join()
    assert done.returncode == 0, done.stderr


def test_kubectl_changes_and_deletes(kubectl: Kubectl, http: Http, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", "-", stdin=deployment("web"))
    for words in (
        ("scale", "deploy/web", "--replicas=4"),
        ("label", "deploy/web", "a=b"),
        ("annotate", "deploy/web", "c=d"),
        ("set", "image", "deploy/web", "c=i:2"),
        ("patch", "deploy/web", "-p", '{"spec":{"template":{"spec":{"containers":[{"name":"c","args":["x"]}]}}}}'),
    ):
        done = kubectl(*words, "-n", namespace)
        assert done.returncode == 0, (words, done.stderr)
    changed = http.must("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments/web")
    (container,) = changed["spec"]["template"]["spec"]["containers"]
    assert (changed["spec"]["replicas"], container["image"], container["args"]) == (4, "i:2", ["x"])
    assert (changed["metadata"]["labels"], changed["metadata"]["annotations"]["c"]) == ({"a": "b"}, "d")
    assert kubectl("delete", "deploy", "web", "-n", namespace, "--timeout=20s").returncode == 0
    assert kubectl("get", "deploy", "-n", namespace, "-o", "name").stdout == ""


def test_kubectl_knows_who_it_is(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "create", "pods").stdout.strip() == "yes"
    assert "system:admin" in kubectl("auth", "whoami").stdout
    assert "v1.30.4" in kubectl("version").stdout
