"""The Lease that keeps a second run out of a cluster: who holds it, since when, and how to take it over."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import LEASE
from harness.cluster.transport import ClusterError, Conflict, Object, ServerError, Unreachable
from harness.run.waiting import Cancelled, Deadline, pause
from harness.scenario.manifests import OWNER, OWNER_LABEL, RUN_LABEL

NAME = "ossm-federation-conformance"
NAMESPACE = "default"  # there in every cluster, and never removed by the run that holds the Lease
HOLDER_ANNOTATION = "federation-conformance/holder"
SECONDS = 60
_RENEW_SECONDS = 15.0
_ACQUIRE_SECONDS = 30.0
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class LeaseHeld(ClusterError):
    """Another run uses the cluster."""


class LeaseLost(Exception):
    """Another run, or a person, took clusters away from this one; says who and which."""


@dataclass(frozen=True)
class Holder:
    """Who holds a Lease: run id, the user and process behind it, since when and until when it counts; times are UTC."""

    run_id: str
    who: str
    since: datetime
    renewed: datetime
    seconds: int

    @classmethod
    def of(cls, lease: Object) -> Holder:
        spec = lease.get("spec") or {}
        since = _time(spec.get("acquireTime"))
        return cls(
            spec.get("holderIdentity") or "",
            (lease["metadata"].get("annotations") or {}).get(HOLDER_ANNOTATION, "somebody"),
            since,
            _time(spec.get("renewTime")) if spec.get("renewTime") else since,
            int(spec.get("leaseDurationSeconds") or SECONDS),
        )

    def expired(self, now: datetime) -> bool:
        return not self.run_id or now > self.renewed + timedelta(seconds=self.seconds)


def _time(text: str | None) -> datetime:
    with contextlib.suppress(TypeError, ValueError):
        return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    return datetime.fromtimestamp(0, UTC)


def myself() -> str:
    """User, host and process, as others will read it."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container with a user id that has no name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}, process {os.getpid()}"


def last_holder(cluster: Cluster) -> Holder | None:
    """Who took the cluster last and has not given it back, whether it still counts or not."""
    found = cluster.find(LEASE, NAME, NAMESPACE)
    return Holder.of(found) if found else None


def holder(cluster: Cluster) -> Holder | None:
    """Who uses the cluster now; None where nobody does, or has not shown a sign of life for too long."""
    known = last_holder(cluster)
    return known if known and not known.expired(cluster.now()) else None


def held_by(cluster: Cluster, known: Holder) -> LeaseHeld:
    """What a person is told who finds the cluster in use."""
    ago = max(0, round((cluster.now() - known.renewed).total_seconds()))
    return LeaseHeld(
        cluster.name,
        f"use {cluster.server}",
        f"run {known.run_id} of {known.who} uses it since {known.since:%Y-%m-%d %H:%M:%S} UTC, last sign of life "
        f"{ago} s ago. Wait until it ends. If it is dead, its Lease expires {known.seconds} s after its last sign of "
        f"life; not to wait for that, run `{_deletion(cluster)}`. Then the same command again takes over what it left",
    )


def _deletion(cluster: Cluster) -> str:
    """The command that takes the cluster from its holder, to be pasted into a shell; twice does no harm."""
    words = ["kubectl", "--kubeconfig", str(cluster.kubeconfig)]
    words += ["--context", cluster.context] if cluster.context else []
    return shlex.join([*words, "-n", NAMESPACE, "delete", "lease", NAME, "--ignore-not-found"])


class RunLease:
    """This run's Lease in one cluster, renewed by a thread until `release`.

    `lost` says in words that another run, or a person, took it away; '' as long as it is ours. `on_lost` is called
    from that thread as soon as it is found out. All times are the API server's, so that clocks of two machines do not
    matter.
    """

    def __init__(self, cluster: Cluster, run_id: str, on_lost: Callable[[], None] = lambda: None) -> None:
        self._cluster, self._run_id, self._on_lost = cluster, run_id, on_lost
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, daemon=True, name=f"lease {cluster.name}")
        self.lost = ""

    def held(self) -> LeaseHeld | None:
        """What keeps this run out, if another one uses the cluster. Raises ClusterError."""
        known = holder(self._cluster)
        return held_by(self._cluster, known) if known and known.run_id != self._run_id else None

    def acquire(self) -> None:
        """Takes the Lease where it is free or expired. Raises LeaseHeld, or another ClusterError."""
        deadline = Deadline(_ACQUIRE_SECONDS)
        while not self._take():
            if deadline.passed:
                raise Conflict(self._cluster.name, f"take Lease {NAMESPACE}/{NAME}", "it keeps changing")
            pause(0.1)
        self._thread.start()

    def _take(self) -> bool:
        found = self._cluster.find(LEASE, NAME, NAMESPACE)
        known = Holder.of(found) if found else None
        if known and known.run_id == self._run_id:
            return True
        if known and not known.expired(self._cluster.now()):
            raise held_by(self._cluster, known)
        # An answer that was lost is found out by looking again.
        with contextlib.suppress(Conflict, Unreachable, ServerError):
            if found:
                version = {"resourceVersion": found["metadata"]["resourceVersion"]}
                self._cluster.patch(LEASE, NAME, NAMESPACE, self._object(version))
            else:
                self._cluster.create(self._object({}))
            return True
        return False

    def _object(self, meta: Object) -> Object:
        now = self._cluster.now().strftime(_TIME)
        return {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {
                "name": NAME,
                "namespace": NAMESPACE,
                "labels": {OWNER_LABEL: OWNER, RUN_LABEL: self._run_id},
                "annotations": {HOLDER_ANNOTATION: myself()},
                **meta,
            },
            "spec": {
                "holderIdentity": self._run_id,
                "leaseDurationSeconds": SECONDS,
                "acquireTime": now,
                "renewTime": now,
            },
        }

    def _keep(self) -> None:
        while not self.lost and not self._ended.wait(_RENEW_SECONDS):
            with contextlib.suppress(ClusterError, Cancelled):
                self.renew()
        if self.lost and not self._ended.is_set():
            self._on_lost()

    def renew(self) -> None:
        """Shows a sign of life, or finds out that the Lease was lost. Raises ClusterError."""
        found = self._cluster.find(LEASE, NAME, NAMESPACE)
        known = Holder.of(found) if found else None
        if not found or not known or known.run_id != self._run_id:
            by = f"run {known.run_id} of {known.who}" if known else "somebody who deleted the Lease"
            self.lost = f"{self._cluster.name}: {by} took {self._cluster.server} over from this run"
            return
        change = {
            "metadata": {"resourceVersion": found["metadata"]["resourceVersion"]},
            "spec": {"renewTime": self._cluster.now().strftime(_TIME)},
        }
        self._cluster.patch(LEASE, NAME, NAMESPACE, change)

    def release(self) -> None:
        """Gives the Lease back; one that was taken over stays. Raises ClusterError."""
        self.abandon()
        found = self._cluster.find(LEASE, NAME, NAMESPACE)
        if found and Holder.of(found).run_id == self._run_id:
            self._cluster.delete(LEASE, NAME, NAMESPACE)

    def abandon(self) -> None:
        """Shows no further sign of life: the Lease expires by itself."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_RENEW_SECONDS)


class RunLeases:
    """This run's Leases, one in each cluster (one in all where both meshes share a cluster).

    on_lost: called, from another thread, when one of them turns out to be lost; may be set anew at any time.
    """

    def __init__(
        self, clusters: Mapping[str, Cluster], run_id: str, on_lost: Callable[[], None] = lambda: None
    ) -> None:
        self.on_lost = on_lost
        by_uid = {cluster.uid(): cluster for cluster in clusters.values()}
        self._leases = [RunLease(cluster, run_id, lambda: self.on_lost()) for cluster in by_uid.values()]

    def acquire(self) -> None:
        """Takes all or none. Raises LeaseHeld, naming every cluster that is held."""
        if held := [error for lease in self._leases if (error := lease.held())]:
            first, *others = held
            raise LeaseHeld(first.mesh, first.what, "\n".join([first.detail, *map(str, others)]))
        taken: list[RunLease] = []
        try:
            for lease in self._leases:
                taken.append(lease)  # an interrupt may come when it is taken already
                lease.acquire()
        except BaseException:
            for lease in taken:
                lease.release()
            raise

    @property
    def lost(self) -> str:
        """What was taken over from this run, in words; '' while all is ours."""
        return "; ".join(lease.lost for lease in self._leases if lease.lost)

    def release(self) -> None:
        """Gives all back, or as many as can be. Raises ClusterError."""
        errors: list[ClusterError] = []
        for lease in self._leases:
            try:
                lease.release()
            except ClusterError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def give_back(self) -> list[str]:
        """As release, but what could not be given back is abandoned and told, one line each."""
        try:
            self.release()
        except ClusterError as error:
            self.abandon()
            return [f"{error}. The Lease expires {SECONDS} s after its last sign of life"]
        return []

    def abandon(self) -> None:
        for lease in self._leases:
            lease.abandon()
