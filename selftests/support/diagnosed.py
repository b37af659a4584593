"""A provisioned federation on a lab of its own, whose objects can be changed for a while."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.checks.peering import remote_problems, watch_problems
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import DEPLOYMENT, PEER, POD, Kind
from harness.diagnosis import Diagnosis
from harness.product.envoy import Proxy
from harness.product.mesh import MESH2, Federation
from harness.product.status import condition_true
from harness.run.progress import Progress
from harness.run.waiting import wait_for
from harness.scenario.entry import productpage_entry, wait_for_stars
from harness.scenario.provision import Provisioner
from selftests.support.lab import processes_of, start_lab, stop_lab

ROOT = Path(__file__).parent.parent.parent


class Meshes:
    """Both clusters, what was provisioned in them, and productpage's URL."""

    def __init__(self, clusters: dict[str, Cluster], federation: Federation, url: str) -> None:
        self.clusters, self.federation, self.url = clusters, federation, url

    @contextlib.contextmanager
    def changed(self, mesh: str, kind: Kind, name: str, namespace: str, spec: dict[str, Any]) -> Iterator[None]:
        """With `spec` merged into one object, until the block ends."""
        cluster = self.clusters[mesh]
        before = cluster.get(kind, name, namespace)["spec"]
        cluster.patch(kind, name, namespace, {"spec": spec})
        try:
            yield
        finally:
            cluster.patch(kind, name, namespace, {"spec": {key: before.get(key) for key in spec}})

    @contextlib.contextmanager
    def removed(self, mesh: str, kind: Kind, name: str, namespace: str) -> Iterator[dict[str, Any]]:
        """Without one object, until the block ends; gives it as it can be created again."""
        cluster = self.clusters[mesh]
        obj = cluster.get(kind, name, namespace)
        kept = {key: obj["metadata"].get(key) or {} for key in ("labels", "annotations")}
        metadata = {"name": name, "namespace": namespace, **kept}
        again = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": obj["spec"]}
        cluster.delete(kind, name, namespace)
        try:
            yield again
        finally:
            cluster.create(again)

    def remote(self, **changes: Any) -> dict[str, Any]:
        """`remote` of mesh2's peer object, with changes."""
        return {**self.clusters["mesh2"].get(PEER, "mesh1", "mesh2-system")["spec"]["remote"], **changes}

    def sidecars(self, mesh: str, selector: str) -> list[Proxy]:
        """Those of the application's running pods with such labels."""
        pods = self.federation.mesh(mesh).running_pods(f"{mesh}-bookinfo", selector)
        return [Proxy(self.clusters[mesh], f"{mesh}-bookinfo", pod["metadata"]["name"]) for pod in pods]

    def reviews(self) -> Proxy:
        """The sidecar that calls ratings."""
        return self.sidecars("mesh2", "app=reviews,version=v3")[0]

    def gateway(self, mesh: str, name: str) -> Proxy:
        """The proxy of one of the gateways between the meshes."""
        pod = self.federation.mesh(mesh).gateway_pods(name)[0]["metadata"]["name"]
        return Proxy(self.clusters[mesh], f"{mesh}-system", pod)

    def renew_reviews(self) -> None:
        """Puts another pod in place of reviews v3's, with a sidecar that has no connection yet."""
        old = self.reviews().pod
        self.clusters["mesh2"].delete(POD, old, "mesh2-bookinfo")

        def ready() -> bool:
            pods = self.federation.mesh2.running_pods("mesh2-bookinfo", "app=reviews,version=v3")
            names = [pod["metadata"]["name"] for pod in pods if condition_true(pod, "Ready")]
            return bool(names) and old not in names and bool(self.reviews().route_weights("ratings:9080"))

        until("another pod of reviews v3 to know its routes", ready)

    @contextlib.contextmanager
    def added(self, mesh: str, kind: Kind, name: str, spec: dict[str, Any]) -> Iterator[None]:
        """With one object more in the application's namespace, until the block ends."""
        cluster, namespace = self.clusters[mesh], f"{mesh}-bookinfo"
        metadata = {"name": name, "namespace": namespace}
        cluster.create({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, "spec": spec})
        try:
            yield
        finally:
            cluster.delete(kind, name, namespace)

    @contextlib.contextmanager
    def without_ratings(self, mesh: str) -> Iterator[None]:
        """With no pod of ratings in one mesh, until the block ends."""
        namespace, none = f"{mesh}-bookinfo", {"replicas": 0}
        with (
            self.changed(mesh, DEPLOYMENT, "ratings-v1", namespace, none),
            self.changed(mesh, DEPLOYMENT, "ratings-v2", namespace, none),
        ):
            yield

    @contextlib.contextmanager
    def halted(self, mesh: str, app: str, version: str) -> Iterator[None]:
        """With the programs of one workload stopped, until the block ends: they are connected to and say nothing."""
        pods = self.federation.mesh(mesh).running_pods(f"{mesh}-bookinfo", f"app={app},version={version}")
        marks = {f"POD_IP={pod['status']['podIP']}".encode() for pod in pods}
        found = [
            process
            for process, words in processes_of(self.clusters[mesh].kubeconfig.parent.parent).items()
            if f"lab.apps.bookinfo {app} " in words
            and marks & set(Path(f"/proc/{process}/environ").read_bytes().split(b"\0"))
        ]
        assert len(found) == len(pods) > 0, f"{len(found)} programs of {len(pods)} pods"
        for process in found:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in found:
                os.kill(process, signal.SIGCONT)

    def settle(self) -> None:
        """Until no gateway drains an old listener, which would cut a watch, and both watches are connected."""
        for mesh in self.federation.meshes:
            pod = mesh.gateway_pods(mesh.ingress_gateway)[0]["metadata"]["name"]
            proxy = Proxy(mesh.cluster, mesh.system_namespace, pod)
            until(f"{mesh.ingress_gateway} to drain its old listeners", partial(drained, proxy), 30)
        for mesh in self.federation.meshes:
            other = self.federation.peer_of(mesh)
            problems = {**watch_problems(mesh, lambda: datetime.now(UTC)), **remote_problems(mesh, other)}
            assert not any(problems.values()), problems


@contextlib.contextmanager
def provisioned(*arguments: str, settled: bool = True) -> Iterator[Meshes]:
    """A lab with everything in it, settled or just installed; `arguments` are for `python -m lab up`."""
    lab = start_lab(*arguments)
    with contextlib.ExitStack() as stack:
        stack.callback(stop_lab, lab)
        clusters = {name: Cluster(name, lab.directory / name / "admin.kubeconfig") for name in ("mesh1", "mesh2")}
        for cluster in clusters.values():
            stack.callback(cluster.close)
        federation = Provisioner(clusters, "diagnosis", Progress(io.StringIO(), live=False)).run()
        entry = productpage_entry(clusters["mesh2"], MESH2, stack)
        assert wait_for_stars(entry, federation.mesh2) == ""
        found = Meshes(clusters, federation, entry.productpage_url)
        if settled:
            found.settle()
        yield found


@pytest.fixture(scope="module")
def meshes() -> Iterator[Meshes]:
    """A provisioned federation that lives as long as this module's tests."""
    with provisioned() as found:
        yield found


def command(meshes: Meshes, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`python -m harness.diagnosis` for these meshes; `arguments` come last, so they may say otherwise."""
    kubeconfigs = {f"{name.upper()}_KUBECONFIG": str(cluster.kubeconfig) for name, cluster in meshes.clusters.items()}
    return subprocess.run(
        [sys.executable, "-m", "harness.diagnosis", *arguments],
        cwd=ROOT,
        env={**os.environ, **kubeconfigs},
        capture_output=True,
        text=True,
        check=False,
    )


def named(found: Diagnosis) -> tuple[str, str]:
    """Cause and side."""
    return found.cause, found.side


def until(what: str, true: Callable[[], bool], seconds: float = 20) -> None:
    """Waits for what is not an object of the API."""
    wait_for(what, lambda: (true() or None, "not yet"), seconds)


@contextlib.contextmanager
def in_effect(
    change: contextlib.AbstractContextManager[Any], what: str, seen: Callable[[bool], bool]
) -> Iterator[None]:
    """With a change that proxies know of, until the block ends and they know that it is over.

    seen: whether they know of it (True), or of nothing of it any more (False).
    """
    with change:
        until(what, lambda: seen(True))
        yield
    until(f"no longer: {what}", lambda: seen(False))


@contextlib.contextmanager
def fault(meshes: Meshes, name: str) -> Iterator[None]:
    """With one of the lab's faults, until the block ends."""
    where = str(meshes.clusters["mesh1"].kubeconfig.parent.parent)
    command = [sys.executable, "-m", "lab", "fault", name, "--directory", where]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run([*command, "--off"], cwd=ROOT, check=True, capture_output=True)


def drained(proxy: Proxy) -> bool:
    """Whether no connection goes on by a listener that was replaced."""
    return not re.search(r": [1-9]", proxy.request("GET", "stats?filter=listener_manager.total_.*_draining"))
