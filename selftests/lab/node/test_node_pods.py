"""The node as a process beside a real API server: pods run, crash, are looked into and go."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from lab.addresses import inside
from lab.client import Object
from lab.node.readiness import accepts, http_get
from lab.resources import DEPLOYMENT, ENDPOINTS, EVENT, POD, SERVICE
from lab.settings import ClusterSettings
from selftests.support import controllers
from selftests.support.controllers import Scene, played
from selftests.support.node import running_node

AGENT = ("pilot-agent", "request")
IMAGE = "quay.io/maistra/examples-bookinfo-{}:2.1.0"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterSettings]:
    with controllers.api_server() as settings, running_node(settings):
        yield settings


def container(name: str, image: str, port: int | None = 9080, **more: Any) -> Object:
    ports = [{"containerPort": port}] if port else []
    return {"name": name, "image": IMAGE.format(image), "ports": ports, **more}


def pod_spec(*containers: Object) -> Object:
    return {"nodeName": "node2", "terminationGracePeriodSeconds": 30, "containers": list(containers)}


async def create_pod(scene: Scene, name: str, *containers: Object) -> None:
    meta = {"name": name, "namespace": scene.namespace, "labels": {"app": name}}
    await scene.api.create(POD, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod_spec(*containers)})


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)


def first_state(pod: Object) -> Object:
    statuses = pod.get("status", {}).get("containerStatuses") or [{"state": {}, "restartCount": 0}]
    return statuses[0]


def waits_for(pod: Object) -> str:
    """Why its first container does not run."""
    return first_state(pod)["state"].get("waiting", {}).get("reason", "")


async def ready_pod(scene: Scene, name: str, image: str = "ratings-v1") -> Object:
    await create_pod(scene, name, container("ratings", image))
    return await scene.until_one(POD, name, "a ready pod", is_ready)


def kubelet(scene: Scene, path: str) -> str:
    return f"http://{scene.settings.block.node}:10250/{path}"


async def logs(scene: Scene, pod: str, name: str, **query: str) -> tuple[int, str]:
    url = kubelet(scene, f"containerLogs/{scene.namespace}/{pod}/{name}")
    async with aiohttp.ClientSession() as session, session.get(url, params=query) as answer:
        return answer.status, await answer.text()


@played
async def test_a_pod_runs_answers_and_goes_with_its_process(scene):
    pod = await ready_pod(scene, "ratings-0")
    ip = pod["status"]["podIP"]
    assert (await http_get(ip, 9080, "/ratings/0", 5))[0] == 200
    assert await logs(scene, "ratings-0", "ratings", tailLines="1") == (200, "GET /ratings/0\n")
    await scene.api.delete(POD, "ratings-0", scene.namespace)
    await scene.until(POD, "the pod to be gone", lambda pods: not pods)
    assert not await accepts(ip, 9080, 1)


async def served_deployment(scene: Scene) -> list[tuple[str, int]]:
    """A Deployment `ratings` of two ready pods behind a NodePort Service; gives the ways to it."""
    labels = {"app": "ratings"}
    meta = {"name": "ratings", "namespace": scene.namespace}
    service = {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 9080}], "type": "NodePort"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container("ratings", "ratings-v1")]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    await scene.api.create(SERVICE, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service})
    await scene.api.create(DEPLOYMENT, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})
    await scene.pods(2, is_ready)
    found = await scene.until_one(SERVICE, "ratings", "a ClusterIP", lambda obj: obj["spec"].get("clusterIP"))
    return [(found["spec"]["clusterIP"], 80), (scene.settings.block.node, found["spec"]["ports"][0]["nodePort"])]


@played
async def test_a_deployment_is_reached_through_its_service_until_it_is_scaled_away(scene):
    ways = await served_deployment(scene)
    for way in ways:
        await until_answers(*way)
    await scene.api.merge(DEPLOYMENT, "ratings", scene.namespace, {"spec": {"replicas": 0}})
    await scene.until(POD, "no pods", lambda pods: not pods)
    await scene.until_one(ENDPOINTS, "ratings", "no endpoints", lambda obj: not obj.get("subsets"))
    for way in ways:
        await until_refused(*way)


async def until_answers(host: str, port: int) -> None:
    async with asyncio.timeout(30):
        while not await accepts(host, port, 1):
            await asyncio.sleep(0.01)
    assert (await http_get(host, port, "/ratings/0", 5))[0] == 200


async def until_refused(host: str, port: int) -> None:
    async with asyncio.timeout(30):
        while await accepts(host, port, 1):
            await asyncio.sleep(0.01)


@played
async def test_a_crashing_container_is_started_again_with_back_off(scene):
    broken = container("ratings", "ratings-v1", env=[{"name": "LAB_LISTEN", "value": "not-an-address"}])
    await create_pod(scene, "broken", broken)
    backs_off = lambda pod: first_state(pod)["restartCount"] > 0 and waits_for(pod) == "CrashLoopBackOff"  # noqa: E731
    pod = await scene.until_one(POD, "broken", "a crash loop", backs_off)
    assert first_state(pod)["lastState"]["terminated"]["exitCode"] == 1
    assert not is_ready(pod)
    status, text = await logs(scene, "broken", "ratings", previous="true")
    assert (status, "gaierror" in text) == (200, True)


@played
async def test_an_image_that_nobody_has_cannot_be_pulled(scene):
    await create_pod(scene, "odd", {"name": "odd", "image": "example.com/odd:1"})
    back_off = lambda pod: waits_for(pod) == "ImagePullBackOff"  # noqa: E731
    pod = await scene.until_one(POD, "odd", "an image pull back-off", back_off)
    assert pod["status"]["phase"] == "Pending"
    status, text = await logs(scene, "odd", "odd")
    assert (status, text) == (400, 'container "odd" in pod "odd" is waiting to start: ImagePullBackOff')
    failed = lambda events: any("example.com/odd:1" in event["message"] for event in events.values())  # noqa: E731
    await scene.until(EVENT, "an event about the image", failed)


async def pod_with_a_sidecar(scene: Scene) -> Object:
    """A pod `meshed` whose app is ready; its proxy has no istiod."""
    proxy = {"name": "istio-proxy", "image": "quay.io/maistra/proxyv2-ubi8:2.1.1", "args": ["proxy", "sidecar"]}
    proxy["env"] = [{"name": "CA_ADDR", "value": f"istiod-x.{scene.namespace}.svc:15012"}]
    await create_pod(scene, "meshed", container("ratings", "ratings-v1"), proxy)

    def app_ready(pod: Object) -> bool:
        return [status["ready"] for status in pod.get("status", {}).get("containerStatuses", [])] == [False, True]

    return await scene.until_one(POD, "meshed", "a ready app", app_ready)


@played
async def test_beside_a_sidecar_the_app_listens_inside_and_the_pod_waits_for_its_proxy(scene):
    pod = await pod_with_a_sidecar(scene)
    ip = pod["status"]["podIP"]
    assert (await accepts(inside(ip), 9080, 1), await accepts(ip, 9080, 1)) == (True, False)
    assert not is_ready(pod)
    await until_envoy_starts(ip)
    assert (await run(scene, "meshed", "istio-proxy", [*AGENT, "GET", "ready"]))[:2] == (1, b"")
    assert (await run(scene, "meshed", "istio-proxy", [*AGENT, "POST", "reopen_logs"]))[:2] == (0, b"OK\n")
    code, said, _ = await run(scene, "meshed", "ratings", ["curl", "-s", "localhost:9080/health"])
    assert (code, json.loads(said)) == (0, {"status": "Ratings is healthy"})


async def until_envoy_starts(ip: str) -> None:
    async with asyncio.timeout(30):
        while not await accepts(ip, 15000, 1):
            await asyncio.sleep(0.01)


async def run(
    scene: Scene,
    pod: str,
    name: str,
    command: list[str],
    stdin: bytes | None = None,
    protocol: str = "v5.channel.k8s.io",
) -> tuple[int | str, bytes, bytes]:
    """exec as a client does it: (exit code or reason of the failure, stdout, stderr)."""
    url = kubelet(scene, f"exec/{scene.namespace}/{pod}/{name}")
    query = [("command", word) for word in command] + [("stdout", "true"), ("stderr", "true")]
    query += [("stdin", "true")] if stdin is not None else []
    heard = {1: b"", 2: b"", 3: b""}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, params=query, protocols=[protocol], timeout=aiohttp.ClientWSTimeout(10)) as socket,
    ):
        assert socket.protocol == protocol
        if stdin is not None:
            await socket.send_bytes(b"\x00" + stdin)
            await socket.send_bytes(b"\xff\x00")
        async for message in socket:
            heard[message.data[0]] += message.data[1:]
    status = json.loads(heard[3])
    if status["status"] == "Success":
        return 0, heard[1], heard[2]
    causes = status["details"]["causes"]
    return int(causes[0]["message"]) if status["reason"] == "NonZeroExitCode" else status["message"], heard[1], heard[2]


@played
async def test_exec_keeps_the_streams_apart_and_tells_the_exit_code(scene):
    await ready_pod(scene, "ratings-0")
    script = ["sh", "-c", "tr a-z A-Z; echo oops >&2; exit 7"]
    assert await run(scene, "ratings-0", "ratings", script, b"hello\n") == (7, b"HELLO\n", b"oops\n")
    for protocol in ("v4.channel.k8s.io", "v5.channel.k8s.io"):
        told = await run(scene, "ratings-0", "ratings", ["sh", "-c", "echo $POD_NAME"], protocol=protocol)
        assert told == (0, b"ratings-0\n", b"")
    reason, _, _ = await run(scene, "ratings-0", "ratings", ["no-such-command"])
    assert 'exec: "no-such-command": executable file not found in $PATH' in str(reason)


@contextlib.contextmanager
def watched(pid: int) -> Iterator[asyncio.Event]:
    """An event that is set as soon as this process has ended."""
    handle, ended = os.pidfd_open(pid), asyncio.Event()
    asyncio.get_running_loop().add_reader(handle, ended.set)
    try:
        yield ended
    finally:
        asyncio.get_running_loop().remove_reader(handle)
        os.close(handle)


@played
async def test_exec_ends_with_the_client_that_asked_for_it(scene):
    await ready_pod(scene, "ratings-0")
    url = kubelet(scene, f"exec/{scene.namespace}/ratings-0/ratings")
    query = [("command", "sh"), ("command", "-c"), ("command", "echo $$; exec sleep 100"), ("stdout", "true")]
    async with aiohttp.ClientSession() as session:
        socket = await session.ws_connect(url, params=query, protocols=["v4.channel.k8s.io"])
        with watched(int((await socket.receive()).data[1:])) as ended:
            await socket.close()
            await asyncio.wait_for(ended.wait(), 30)


CURL = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5")


async def served_pod(scene: Scene) -> str:
    """A pod `ratings-0` behind a Service `ratings`; gives the pod's address."""
    pod = await ready_pod(scene, "ratings-0")
    meta = {"name": "ratings", "namespace": scene.namespace}
    service = {"selector": {"app": "ratings-0"}, "ports": [{"port": 9080}]}
    await scene.api.create(SERVICE, {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": service})
    await scene.until_one(SERVICE, "ratings", "a ClusterIP", lambda obj: obj["spec"].get("clusterIP"))
    await scene.until_one(ENDPOINTS, "ratings", "an endpoint", lambda obj: obj.get("subsets"))
    return pod["status"]["podIP"]


@played
async def test_curl_finds_services_by_their_names_and_says_what_it_does_not_find(scene):
    ip = await served_pod(scene)
    for name in ("ratings", f"ratings.{scene.namespace}.svc.cluster.local", ip):
        await until_curl(scene, [*CURL, f"http://{name}:9080/ratings/0"], (0, b"200"))
    code, said, why = await run(scene, "ratings-0", "ratings", [*CURL, "http://elsewhere:9080/"])
    assert (code, said, b"Could not resolve host: elsewhere" in why) == (6, b"000", True)
    code, _, why = await run(scene, "ratings-0", "ratings", [*CURL, "http://localhost:1234/"])
    assert (code, b"Failed to connect to localhost port 1234" in why) == (7, True)


async def until_curl(scene: Scene, command: list[str], wanted: tuple[int, bytes]) -> None:
    async with asyncio.timeout(30):
        while (await run(scene, "ratings-0", "ratings", command))[:2] != wanted:
            await asyncio.sleep(0.01)


@played
async def test_follow_ends_when_the_pod_goes(scene):
    await ready_pod(scene, "ratings-0")
    url = kubelet(scene, f"containerLogs/{scene.namespace}/ratings-0/ratings")
    async with aiohttp.ClientSession() as session, session.get(url, params={"follow": "true"}) as following:
        assert await following.content.readline() == b"Server listening on: http://0.0.0.0:9080\n"
        await scene.api.delete(POD, "ratings-0", scene.namespace)
        assert await asyncio.wait_for(following.content.read(), 30) == b""


def test_pods_die_with_a_node_that_is_killed():
    async def story() -> None:
        async with controllers.played_scene(settings) as scene:
            pod = await ready_pod(scene, "ratings-0")
            node.kill()
            await until_refused(pod["status"]["podIP"], 9080)

    with controllers.api_server() as settings, running_node(settings) as node:
        asyncio.run(story())
