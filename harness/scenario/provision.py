"""The scenario, installed: both meshes at once, each step as soon as what it needs is there. Idempotent."""

from __future__ import annotations

import concurrent.futures
import contextlib
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Any

from harness.checks.peering import unconnected
from harness.cluster import kinds
from harness.cluster.cluster import Cluster, describe_objects
from harness.cluster.kinds import Kind, kind_of
from harness.cluster.transport import ClusterError, Conflict, NotFound, Object, Objects, WebhookFailed
from harness.product.mesh import MESH1, MESH2, OTHER, Federation, IngressAddress, Mesh, MeshNames, istiod_pods
from harness.product.names import ROOT_CONFIG_MAP, ROOT_KEY
from harness.product.status import condition_true, exported_services, imported_services, is_current
from harness.product.trust import root_pem
from harness.product.versions import bounds
from harness.run.interrupts import undisturbed, until_one_fails
from harness.run.progress import Progress
from harness.run.waiting import Cancelled, Deadline, WaitTimeout
from harness.scenario import manifests
from harness.scenario.adopt import mesh_of
from harness.scenario.entry import NO_WAY_IN, ingress_address, node_port_address, wait_for_name
from harness.scenario.ownership.removal import belongs_to_the_suite

SHARED_SERVICES = frozenset({"ratings", "mongodb"})
# In the order in which they begin; each waits for those it needs, so every one has a thread of its own.
_STEPS = ("install", "root", "address", "istiod", "members", "ready", "peers", "bookinfo", "settle")


class ProvisionError(Exception):
    """Provisioning failed; one line per thing that went wrong."""


@dataclass
class Provisioner:
    """Installs the scenario of both meshes, or brings what is there back to it.

    clusters: by mesh name; version: `spec.version` to ask for, None for the operator's newest; run_id: label of
    everything created; patience: as of Mesh; istiods: pods of istiod in each mesh; balancers: meshes in whose clusters
    LoadBalancers may get addresses. `unsettled` says afterwards what the federation had not reached within its bounds
    in the last run: that is for the tests to judge, not for provisioning. `stopped` is set as soon as nothing more is
    to be applied.
    """

    clusters: Mapping[str, Cluster]
    run_id: str
    progress: Progress
    version: str | None = None
    patience: float | None = None
    istiods: int = 1
    balancers: Collection[str] = ("mesh1", "mesh2")
    unsettled: list[str] = field(default_factory=list)
    stopped: Event = field(default_factory=Event)

    def run(self) -> Federation:
        """Raises ProvisionError, at the first failure, with all that failed until then; nothing is applied after it."""
        self.stopped.clear()
        self.unsettled.clear()
        one_cluster = self.clusters["mesh1"].uid() == self.clusters["mesh2"].uid()
        with ThreadPoolExecutor(2 * len(_STEPS), thread_name_prefix="provision") as pool:
            tasks: dict[tuple[str, str], Future[Any]] = {}
            submitted = Event()
            runs = [_Run(self, mesh, tasks, pool, one_cluster, submitted) for mesh in (MESH1, MESH2)]
            try:
                for run in runs:
                    run.start()
                submitted.set()
                _first_failure(tasks)
            except BaseException:
                self.stopped.set()
                # A Ctrl-C in here would have the pool wait for steps that nobody ends any more.
                with undisturbed(lambda: self._interrupt(writes=True)):
                    submitted.set()
                    self._end(tasks.values())
                raise
        meshes = [run.mesh() for run in runs]
        return Federation(meshes[0], meshes[1], one_cluster)

    def _end(self, tasks: Collection[Future[Any]]) -> None:
        # Again and again: a step may just have ended one wait and begun the next.
        while any(not task.done() for task in tasks):
            for task in tasks:
                task.cancel()
            self._interrupt()
            concurrent.futures.wait(tasks, timeout=0.1)

    def _interrupt(self, writes: bool = False) -> None:
        for cluster in self.clusters.values():
            cluster.interrupt(writes)


def _first_failure(tasks: Mapping[tuple[str, str], Future[Any]]) -> None:
    done = until_one_fails(tasks.values())
    errors = {str(error): error for task in done if (error := task.exception()) and not isinstance(error, Cancelled)}
    if errors:
        raise ProvisionError("\n".join(errors)) from next(iter(errors.values()))


@dataclass
class _Run:
    """The steps of one mesh; `tasks` holds the steps of both, by mesh name and step."""

    provisioner: Provisioner
    names: MeshNames
    tasks: dict[tuple[str, str], Future[Any]]
    pool: ThreadPoolExecutor
    one_cluster: bool
    all_submitted: Event

    def __post_init__(self) -> None:
        self.cluster = self.provisioner.clusters[self.names.name]
        self.bounds = bounds(self.provisioner.version or "").settled_within(self.provisioner.patience)

    def start(self) -> None:
        for step in _STEPS:
            self.tasks[self.names.name, step] = self.pool.submit(self._after_start, getattr(self, step))

    def _after_start(self, step: Callable[[], Any]) -> Any:
        self.all_submitted.wait()
        return step()

    def result_of(self, step: str, mesh: str | None = None) -> Any:
        """What a step of this mesh, or of another, came to; raises what it raised."""
        return self.tasks[mesh or self.names.name, step].result()

    def say(self, text: str, subject: str = "") -> None:
        self.provisioner.progress.step(self.names.name, text, subject)

    def apply(self, objects: Objects) -> None:
        """Applies objects in order; what is there already and not ours is refused, a namespace is used as it is."""
        for obj in objects:
            if self.provisioner.stopped.is_set():
                raise Cancelled
            kind, meta = kind_of(obj), obj["metadata"]
            found = self.cluster.find(kind, meta["name"], meta.get("namespace"))
            if found is None or belongs_to_the_suite(found):
                self._apply_when_served(manifests.labelled(obj, self.provisioner.run_id))
            elif kind is not kinds.NAMESPACE:
                raise Conflict(
                    self.names.name,
                    f"create {kind} {meta.get('namespace', '')}/{meta['name']}",
                    "it exists already and is not ours. Verify what is installed with --federation-adopt, or remove it",
                )

    def _apply_when_served(self, obj: Object) -> None:
        # The operator brings the federation and Istio kinds with the first control plane.
        try:
            self._apply_past_webhooks(obj)
        except NotFound:
            kind = kind_of(obj)
            if self.cluster.served(kind):
                raise
            with self.provisioner.progress.waiting(self.names.name, f"{kind.api_version} {kind} to be served"):
                self.cluster.wait_served(kind, self.bounds.control_plane)
            self._apply_past_webhooks(obj)

    def _apply_past_webhooks(self, obj: Object) -> None:
        """Applies one object; a webhook that does not listen yet, as the operator's after its start, is waited for."""
        meta, deadline = obj["metadata"], Deadline(self.bounds.webhook)
        where = f"{obj['kind']} {meta.get('namespace', '')}/{meta['name']}"
        with contextlib.ExitStack() as stack:
            waits: dict[str, Callable[[str], None]] = {}

            def told(error: ClusterError | None) -> None:
                if isinstance(error, WebhookFailed):
                    what = f"webhook {error.webhook} to answer, which is asked about {where}"
                    if what not in waits:
                        waits[what] = stack.enter_context(self.provisioner.progress.waiting(self.names.name, what))
                    waits[what](error.detail)

            while True:
                try:
                    self.cluster.apply(obj, told=told)
                    return
                except WebhookFailed as error:
                    told(error)
                    if deadline.passed:
                        waited = f"waited {deadline.waited:.0f} s for webhook {error.webhook} to accept {where}"
                        what = f"{waited}; last seen"
                        raise WebhookFailed(self.names.name, what, error.detail, error.status) from error

    def install(self) -> None:
        """Namespaces and control plane."""
        self.say("applying", "control plane")
        self.apply([obj for obj in self._control_plane() if kind_of(obj) != kinds.MEMBER_ROLL])
        self.say("applied", "control plane")

    def members(self) -> None:
        """The member roll, once istiod is there with what it may do.

        An istiod that was forbidden to write the mesh's root into a member never tries again, and the operator
        (2.2 and later) lists members before istiod's RoleBindings exist there while it still installs.
        """
        self.result_of("istiod")
        self.apply([obj for obj in self._control_plane() if kind_of(obj) == kinds.MEMBER_ROLL])

    def _control_plane(self) -> Objects:
        served = {kind for kind in manifests.ADDON_KINDS if self.cluster.served(kind)}
        return manifests.control_plane(self.names, self.provisioner.version, served, self.provisioner.istiods)

    def root(self) -> str:
        """The mesh's root in PEM: istiod writes it long before the control plane is Ready."""
        self.result_of("install")

        def pem(found: Objects) -> str | None:
            return next(filter(None, map(root_pem, found)), None)

        return self._wait(
            f"{ROOT_KEY} in ConfigMap {ROOT_CONFIG_MAP}",
            kinds.CONFIG_MAP,
            ROOT_CONFIG_MAP,
            pem,
            self.bounds.control_plane,
        )

    def address(self) -> IngressAddress:
        """Where the peer will find this mesh's federation ingress."""
        self.result_of("install")
        gateway = self.names.ingress_gateway
        what = f"Service {gateway}"
        self._wait(what, kinds.SERVICE, gateway, lambda found: bool(found) or None, self.bounds.control_plane)
        if self.one_cluster:
            return manifests.cluster_local(self.names)

        def by_node(found: Objects) -> IngressAddress | None:
            return node_port_address(self.cluster, found[0]) if found else None

        if self.names.name not in self.provisioner.balancers:
            try:
                return self._wait(f"{what} to get NodePorts", kinds.SERVICE, gateway, by_node, self.bounds.address)
            except WaitTimeout as error:
                raise _no_way_in(error) from error
        try:
            found = self._wait(
                f"{what} to get a LoadBalancer address",
                kinds.SERVICE,
                gateway,
                lambda found: ingress_address(found[0]) if found else None,
                self.bounds.address,
            )
        except WaitTimeout as error:
            service = self.cluster.get(kinds.SERVICE, gateway, self.names.system_namespace)
            if address := by_node([service]):
                return address
            raise _no_way_in(error) from error
        if found.by_name:
            cancelled = self.cluster.cancelled
            with self.provisioner.progress.waiting(self.names.name, f"{found.hosts[0]} to resolve"):
                late = wait_for_name(found.hosts[0], self.names.name, self.bounds.address, self.say, cancelled)
            self.provisioner.unsettled += [late] if late else []
        return found

    def istiod(self) -> None:
        """istiod is available."""
        self.result_of("install")
        self._available(self.names.system_namespace, {self.names.istiod}, self.bounds.control_plane)

    def ready(self) -> None:
        """Control plane Ready, member roll configured."""
        self.result_of("install")
        names, timeout = self.names, self.bounds.control_plane

        def is_ready(found: Objects) -> bool | None:
            return any(condition_true(obj, "Ready") and is_current(obj) for obj in found) or None

        self._wait(
            f"control plane {names.control_plane} to be Ready",
            kinds.CONTROL_PLANE,
            names.control_plane,
            is_ready,
            timeout,
        )
        self.say("Ready", "control plane")

    def configured(self) -> None:
        """The member roll has configured the application namespace."""
        app = self.names.app_namespace

        def has_app(found: Objects) -> bool | None:
            return any(app in ((obj.get("status") or {}).get("configuredMembers") or ()) for obj in found) or None

        what = f"the member roll to configure {app}"
        self._wait(what, kinds.MEMBER_ROLL, "default", has_app, self.bounds.member_roll)

    def peers(self) -> None:
        """The peer's root, the peer and the sets: as soon as the other mesh has a root and an address."""
        self.result_of("install")
        peer = self.names.peer
        root, address = self.result_of("root", peer), self.result_of("address", peer)
        self.apply(manifests.federation(self.names, address, root))
        self.say(f"applied, at {address}", f"peer {peer}")

    def bookinfo(self) -> None:
        """The application, once istiod can give its pods sidecars; then until all of it is available."""
        self.result_of("members")
        self.configured()
        objects = manifests.bookinfo(self.names)
        self.apply(objects)
        self.say("applied", "bookinfo")
        wanted = {obj["metadata"]["name"] for obj in objects if obj["kind"] == "Deployment"}
        self._available(self.names.app_namespace, wanted, self.bounds.workloads)
        self.say("available", "bookinfo")

    def settle(self) -> None:
        """Until every istiod is connected and the sets are as asked for; what stays undone is noted, not raised."""
        names, other = self.names, OTHER[self.names.name]
        self.result_of("peers")
        # An istiod that starts late has a watch to connect too: only then all are there to be counted.
        self.result_of("istiod")
        self.result_of("istiod", other.name)
        remote = self.provisioner.clusters[other.name]

        def apart(found: Objects) -> list[str]:
            return unconnected(names, found, istiod_pods(self.cluster, names), istiod_pods(remote, other))

        what = "the watches of both meshes to connect"
        self._note(what, (f"peer {names.peer}", "connected"), kinds.PEER, apart, self.bounds.connect)
        kind, read = (kinds.EXPORTS, exported_services) if names == MESH1 else (kinds.IMPORTS, imported_services)

        def missing(found: Objects) -> list[str]:
            listed = {entry.exported_name.split(".")[0] for obj in found for entry in read(obj) or ()}
            return [f"{service} is missing" for service in sorted(SHARED_SERVICES - listed)]

        what = f"{kind} to list {', '.join(sorted(SHARED_SERVICES))}"
        self._note(what, (str(kind), "complete"), kind, missing, self.bounds.sets)

    def _note(
        self,
        what: str,
        done: tuple[str, str],
        kind: Kind,
        lacking: Callable[[Objects], list[str]],
        timeout: float,
    ) -> None:
        """Waits for what the federation is to reach; done: the subject and what is said of it then."""
        last: list[str] = []

        def complete(found: Objects) -> bool | None:
            nonlocal last
            last = lacking(found)
            return not last or None

        try:
            self._wait(what, kind, self.names.peer, complete, timeout, lambda _: "; ".join(last))
        except WaitTimeout as error:
            self.provisioner.unsettled.append(str(error))
            self.say(f"gave up waiting for {what}")
        else:
            subject, text = done
            self.say(text, subject)

    def _wait(
        self,
        what: str,
        kind: Kind,
        name: str,
        until: Callable[[Objects], Any],
        timeout: float,
        describe: Callable[[Objects], str] = describe_objects,
    ) -> Any:
        namespace = self.names.system_namespace
        with self.provisioner.progress.waiting(self.names.name, what) as seen:
            return self.cluster.wait(
                what, kind, namespace, name=name, until=until, timeout=timeout, describe=describe, seen=seen
            )

    def _available(self, namespace: str, wanted: set[str], timeout: float) -> None:
        def missing(found: Objects) -> list[str]:
            available = {
                obj["metadata"]["name"] for obj in found if condition_true(obj, "Available") and is_current(obj)
            }
            return sorted(wanted - available)

        what = f"Deployments in {namespace}"
        with self.provisioner.progress.waiting(self.names.name, what) as seen:
            self.cluster.wait(
                f"{what} to be Available",
                kinds.DEPLOYMENT,
                namespace,
                until=lambda found: not missing(found) or None,
                timeout=timeout,
                describe=lambda found: f"not available: {', '.join(missing(found))}",
                seen=seen,
            )

    def mesh(self) -> Mesh:
        """What was provisioned; only after all steps."""
        names = self.names
        return mesh_of(names, self.cluster, self.tasks[names.name, "address"].result(), reachable=not self.one_cluster)


def _no_way_in(error: WaitTimeout) -> WaitTimeout:
    return WaitTimeout(error.mesh, error.what, error.waited, error.last, NO_WAY_IN)
