"""Ours and theirs: what carries our labels is ours; only that is ever deleted."""

from __future__ import annotations

import concurrent.futures
import contextlib
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import EXPORTS, NAMESPACE, Kind, kind_of
from harness.cluster.transport import ClusterError, NotFound, Object, Objects
from harness.product.istiod import federation_config
from harness.product.mesh import MESH1, MESH2, MeshNames, istiod_pods
from harness.product.versions import Bounds
from harness.run.progress import Progress
from harness.run.waiting import Cancelled, Deadline, WaitTimeout, wait_for
from harness.scenario import manifests
from harness.scenario.manifests import OWNER, OWNER_LABEL, RUN_LABEL
from harness.scenario.ownership.lease import LeaseLost, RunLeases

_AGAIN_SECONDS = 0.2
LONG_SECONDS = 60.0  # of one removal; control planes and namespaces take 7 to 45 s
_UNOFFERED_SECONDS = 10.0  # the product needs less than one
_OFFERS = ("federation-exports-", "fed-exp-")


def new_run_id() -> str:
    """A label value that names one run: time in UTC and four random hex digits."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}"


def belongs_to_the_suite(obj: Object) -> bool:
    """Whether an object was created by this or another run of the suite."""
    return (obj["metadata"].get("labels") or {}).get(OWNER_LABEL) == OWNER


def run_of(obj: Object) -> str:
    """Id of the run that made an object of the suite, or took it over last; `?` where its label is gone."""
    return (obj["metadata"].get("labels") or {}).get(RUN_LABEL, "?")


def is_ours(obj: Object, *run_ids: str) -> bool:
    """Whether an object is of one of these runs: this one, and those whose remains it has taken over."""
    return belongs_to_the_suite(obj) and run_of(obj) in run_ids


def _stages(names: MeshNames) -> Iterator[Objects]:
    """What is deleted together, in order: each stage only when the one before is gone."""
    control_plane = manifests.control_plane(names, None, set())
    federation = manifests.federation(names, manifests.cluster_local(names), "")
    # A peer that is deleted while it is offered something stops the federation of its mesh for good (2.1, 2.2).
    yield [obj for obj in federation if obj["kind"] == EXPORTS.kind]
    yield [obj for obj in federation if obj["kind"] != EXPORTS.kind]
    yield manifests.bookinfo(names)
    for kind in ("ServiceMeshMemberRoll", "ServiceMeshControlPlane", "Namespace"):
        yield [obj for obj in control_plane if obj["kind"] == kind]


class Unfinished(Exception):
    """Something does not go away, or a cluster failed; one line per thing that went wrong."""


class InBothMeshes(ABC):
    """Work on what runs made, in both meshes at once; `give_up` ends it from any thread or signal handler."""

    def __init__(self, clusters: Mapping[str, Cluster], progress: Progress) -> None:
        self._clusters, self._progress = clusters, progress
        self._given_up = Event()

    def give_up(self) -> None:
        """Asks nothing more of the clusters: `run` raises Cancelled."""
        self._given_up.set()
        for cluster in self._clusters.values():
            cluster.interrupt(writes=True)

    def run(self) -> None:
        """One mesh does not wait for the other. Raises Unfinished naming what failed of both, and why; Cancelled."""
        with ThreadPoolExecutor(2, thread_name_prefix="both meshes") as pool:
            tasks = [pool.submit(self._work, self._clusters[names.name], names) for names in (MESH1, MESH2)]
            while concurrent.futures.wait(tasks, timeout=_AGAIN_SECONDS).not_done:
                if self._given_up.is_set():
                    self.give_up()  # one of them may just have ended one wait and begun the next
        errors = [error for task in tasks if (error := task.exception())]
        for error in errors:
            if not isinstance(error, (ClusterError, WaitTimeout)):
                raise error
        if errors:
            raise Unfinished("\n".join(dict.fromkeys(map(str, errors)))) from errors[0]

    @abstractmethod
    def _work(self, cluster: Cluster, names: MeshNames) -> None:
        """What is done in one mesh; calls `_check` before every step."""

    def _check(self) -> None:
        if self._given_up.is_set():
            raise Cancelled


class Removal(InBothMeshes):
    """Removes what `mine` says yes to, stage by stage, each when the one before is gone, finalizers included.

    What is not ours stays. What does not go away is named with what holds it; `removed` says what is gone.
    """

    def __init__(
        self, clusters: Mapping[str, Cluster], mine: Callable[[Object], bool], progress: Progress, timeout: float
    ) -> None:
        super().__init__(clusters, progress)
        self._mine, self._timeout = mine, timeout
        self.removed: list[str] = []

    def _work(self, cluster: Cluster, names: MeshNames) -> None:
        for stage in _stages(names):
            self._check()
            ours = [found for obj in stage if (found := _find(cluster, obj)) and self._mine(found[1])]
            if ours:
                kinds = ", ".join(sorted({str(kind) for kind, _ in ours}))
                self._progress.step(names.name, f"removing {kinds}")
            for kind, obj in ours:
                self._check()
                cluster.delete(kind, obj["metadata"]["name"], obj["metadata"].get("namespace"))
            for kind, obj in ours:
                cancelled = cluster.cancelled
                self._check()
                with self._progress.waiting(names.name, f"{described(obj)} to be gone") as seen:
                    _wait_gone(cluster, kind, obj, self._timeout, cancelled, seen)
                self.removed.append(f"{names.name}: {described(obj)}")
                if kind == EXPORTS:
                    self._wait_unoffered(cluster, names)
        self._progress.step(names.name, "removed")

    def _wait_unoffered(self, cluster: Cluster, names: MeshNames) -> None:
        """Waits until no istiod of the mesh offers its peer anything; one that cannot be asked is not waited for."""

        def look() -> tuple[bool | None, str]:
            try:
                offered = [name for pod in istiod_pods(cluster, names) for name in _offered(cluster, names, pod)]
            except ClusterError as error:
                return True, str(error)
            return not offered or None, f"offered: {', '.join(offered)}"

        what = f"{names.istiod} to offer nothing any more"
        with self._progress.waiting(names.name, what) as seen, contextlib.suppress(WaitTimeout):
            wait_for(what, look, _UNOFFERED_SECONDS, names.name, cancelled=cluster.cancelled, seen=seen)


def _offered(cluster: Cluster, names: MeshNames, pod: Object) -> list[str]:
    """Names of what istiod has made of the exports."""
    made = federation_config(cluster, names.system_namespace, pod["metadata"]["name"])
    return [entry["name"] for entry in made if entry["name"].startswith(_OFFERS)]


def teardown(clusters: Mapping[str, Cluster], run_id: str, progress: Progress) -> None:
    """Deletes what this run created, in both meshes at once, and waits until it is gone.

    What is not ours stays: a namespace that was there before, another run's objects. Raises as Removal.run.
    """
    Removal(clusters, lambda obj: is_ours(obj, run_id), progress, Bounds().delete).run()


def sweep(clusters: Mapping[str, Cluster], progress: Progress) -> list[str]:
    """Removes the remains of earlier runs and says what was removed, one line each.

    Raises LeaseHeld where a run is still going on, LeaseLost where one begins meanwhile, and as Removal.run.
    """
    removal = Removal(clusters, belongs_to_the_suite, progress, Bounds().delete)
    leases = RunLeases(clusters, f"sweep-{new_run_id()}", removal.give_up)
    leases.acquire()
    try:
        removal.run()
    except Cancelled:
        if leases.lost:
            text = "so the sweep stopped before its end. Sweep again once no other run goes on there"
            raise LeaseLost(f"{leases.lost}, {text}") from None
        raise
    finally:
        leases.release()
    return sorted(removal.removed)


def described(obj: Object) -> str:
    """Kind, namespace and name."""
    meta = obj["metadata"]
    return (
        f"{obj['kind']} {meta['namespace']}/{meta['name']}"
        if meta.get("namespace")
        else f"{obj['kind']} {meta['name']}"
    )


def held_by(obj: Object) -> str:
    """What keeps an object that is being deleted: finalizers, and what a namespace says of its content."""
    meta, spec = obj["metadata"], obj.get("spec") or {}
    finalizers = [*(meta.get("finalizers") or ())]
    said = []
    if obj.get("kind") == NAMESPACE.kind:
        finalizers += spec.get("finalizers") or ()
        conditions = (obj.get("status") or {}).get("conditions") or ()
        said = [f"{c['type']}: {c.get('message', '')}" for c in conditions if c["status"] == "True"]
    return "; ".join([f"finalizers {', '.join(finalizers)}" if finalizers else "no finalizer", *said])


def _find(cluster: Cluster, obj: Object) -> tuple[Kind, Object] | None:
    kind, meta = kind_of(obj), obj["metadata"]
    try:
        return kind, {"kind": kind.kind, **cluster.get(kind, meta["name"], meta.get("namespace"))}
    except NotFound:
        return None


def _wait_gone(
    cluster: Cluster, kind: Kind, obj: Object, timeout: float, cancelled: Event, seen: Callable[[str], None]
) -> None:
    meta, deadline = obj["metadata"], Deadline(timeout)

    def why(found: Objects) -> str:
        holding = held_by(found[0]) if found else "nothing"
        hint = "; is the controller that removes it running?" if deadline.waited >= LONG_SECONDS else ""
        return f"{described(obj)} is still there, held by {holding}{hint}"

    def gone(found: Objects) -> bool | None:
        return all(now["metadata"]["uid"] != meta["uid"] for now in found) or None

    cluster.wait(
        f"{described(obj)} to be gone",
        kind,
        meta.get("namespace"),
        name=meta["name"],
        until=gone,
        timeout=timeout,
        describe=why,
        seen=seen,
        cancelled=cancelled,
    )
