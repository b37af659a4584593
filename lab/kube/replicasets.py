"""ReplicaSets: as many pods as asked for, made from the template and changed by the sidecar injector."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable

from lab.client import ApiClient, ApiError, Informer, Key, Object, Reconciler
from lab.kube.cache import Cache
from lab.kube.objects import active, condition, controller_of, controller_reference, now, owned_by, random_suffix, ready
from lab.resources import POD, REPLICA_SET


class _Expectations:
    """Creations and deletions the informer has not shown yet, so that a stale cache never makes a pod too many."""

    def __init__(self, pods: Informer) -> None:
        self._pods = pods
        self._creating: defaultdict[Key, set[Key]] = defaultdict(set)
        self._deleting: defaultdict[Key, set[Key]] = defaultdict(set)
        pods.on_change(self._seen)

    def _seen(self, key: Key, _old: Object | None, new: Object | None) -> None:
        for waiting in self._creating.values():
            waiting.discard(key)
        if new is None or not active(new):
            for waiting in self._deleting.values():
                waiting.discard(key)

    def creating(self, owner: Key) -> set[Key]:
        return self._creating[owner]

    def deleting(self, owner: Key) -> set[Key]:
        return self._deleting[owner]

    def forget(self, owner: Key) -> None:
        self._creating.pop(owner, None)
        self._deleting.pop(owner, None)


class ReplicaSetController:
    """Creates and deletes pods; `mutate_pod` changes each one before it is created and may refuse it by ApiError."""

    def __init__(self, cache: Cache, node: str, mutate_pod: Callable[[Object], Object] | None) -> None:
        self._api: ApiClient = cache.api
        self._node, self._mutate = node, mutate_pod
        self._sets, self._pods = cache.informer(REPLICA_SET), cache.informer(POD)
        self._expected = _Expectations(self._pods)
        self._reconciler = Reconciler("replicaset", self._reconcile)
        self._sets.on_change(self._set_changed)
        self._pods.on_change(self._pod_changed)

    async def run(self) -> None:
        await self._sets.synced.wait()
        await self._pods.synced.wait()
        await self._reconciler.run()

    def _set_changed(self, key: Key, _old: Object | None, new: Object | None) -> None:
        if new is None:
            self._expected.forget(key)
        else:
            self._reconciler.add(key)

    def _pod_changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        reference = controller_of(new or old or {"metadata": {}})
        if reference is not None and reference["kind"] == "ReplicaSet":
            self._reconciler.add((key[0], reference["name"]))

    async def _reconcile(self, key: Key) -> None:
        owner = self._sets.items.get(key)
        if owner is None:
            return
        pods = [pod for pod_key, pod in self._pods.items.items() if pod_key[0] == key[0] and owned_by(pod, owner)]
        alive = [pod for pod in pods if active(pod)]
        failure: ApiError | None = None
        if "deletionTimestamp" not in owner["metadata"]:
            failure = await self._scale(key, owner, alive)
        await self._write_status(owner, alive, failure)
        if failure is not None:
            raise failure  # tried again with back-off

    async def _scale(self, key: Key, owner: Object, alive: list[Object]) -> ApiError | None:
        wanted = owner["spec"].get("replicas", 1)
        going = self._expected.deleting(key)
        staying = [pod for pod in alive if (pod["metadata"]["namespace"], pod["metadata"]["name"]) not in going]
        count = len(staying) + len(self._expected.creating(key))
        try:
            for _ in range(wanted - count):
                await self._create_pod(key, owner)
        except ApiError as error:
            if error.status == 403 and "being terminated" in error.message:
                return None  # the namespace is going, and this ReplicaSet with it
            await self._report_failure(owner, error)
            return error
        for pod in sorted(staying, key=_worth)[: max(0, count - wanted)]:
            await self._delete_pod(key, owner, pod)
        return None

    async def _create_pod(self, key: Key, owner: Object) -> None:
        namespace = key[0]
        pod = pod_of(owner, self._node)
        name = pod["metadata"]["name"]
        if self._mutate is not None:
            pod = self._mutate(pod)
        self._expected.creating(key).add((namespace, name))
        try:
            await self._api.create(POD, pod)
        except Exception:
            self._expected.creating(key).discard((namespace, name))
            raise
        await self._api.event(owner, "Normal", "SuccessfulCreate", f"Created pod: {name}")

    async def _delete_pod(self, key: Key, owner: Object, pod: Object) -> None:
        name = pod["metadata"]["name"]
        self._expected.deleting(key).add((key[0], name))
        try:
            await self._api.delete(POD, name, key[0])
        except Exception:
            self._expected.deleting(key).discard((key[0], name))
            raise
        await self._api.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")

    async def _report_failure(self, owner: Object, error: ApiError) -> None:
        known = condition(owner, "ReplicaFailure")
        if known is None or known["message"] != error.message:
            await self._api.event(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")

    async def _write_status(self, owner: Object, alive: list[Object], failure: ApiError | None) -> None:
        serving = sum(1 for pod in alive if ready(pod))
        conditions = None
        if failure is not None:
            known = condition(owner, "ReplicaFailure")
            conditions = [
                {
                    "type": "ReplicaFailure",
                    "status": "True",
                    "reason": "FailedCreate",
                    "message": failure.message,
                    "lastTransitionTime": known["lastTransitionTime"] if known else now(),
                }
            ]
        status = {
            "replicas": len(alive),
            "fullyLabeledReplicas": len(alive) or None,
            "readyReplicas": serving or None,
            "availableReplicas": serving or None,
            "observedGeneration": owner["metadata"].get("generation", 1),
            "conditions": conditions,
        }
        current = owner.get("status") or {}
        if any(current.get(name) != value for name, value in status.items()):
            meta = owner["metadata"]
            try:
                await self._api.merge(REPLICA_SET, meta["name"], meta["namespace"], {"status": status}, sub="status")
            except ApiError as error:
                if error.status != 404:
                    raise


def pod_of(owner: Object, node: str) -> Object:
    """A new pod of this ReplicaSet, bound to the only node there is."""
    template = copy.deepcopy(owner["spec"]["template"])
    meta = template.get("metadata") or {}
    spec = template["spec"]
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec.update(serviceAccountName=account, serviceAccount=account, nodeName=node)
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("terminationGracePeriodSeconds", 30)
    name = owner["metadata"]["name"]
    pod_meta = {key: meta[key] for key in ("labels", "annotations", "finalizers") if meta.get(key)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{random_suffix()}",
            "generateName": f"{name}-",
            "namespace": owner["metadata"]["namespace"],
            **pod_meta,
            "ownerReferences": [controller_reference(owner, "apps/v1", "ReplicaSet")],
        },
        "spec": spec,
        "status": {"phase": "Pending"},
    }


def _worth(pod: Object) -> tuple[bool, int]:
    """Sorts the pods to lose first to the front: not ready before ready, then the newest."""
    return ready(pod), -int(pod["metadata"]["resourceVersion"])
