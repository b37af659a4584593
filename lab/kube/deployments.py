"""Deployments: one ReplicaSet for each pod template, old ones replaced as the strategy allows."""

from __future__ import annotations

import copy

from lab.client import ApiClient, ApiError, Key, Object, Reconciler
from lab.kube.cache import Cache
from lab.kube.objects import content_hash, controller_of, controller_reference, owned_by, terminating
from lab.kube.rollout import limits, plan, replicas, status_of, told
from lab.resources import DEPLOYMENT, REPLICA_SET

_HASH = "pod-template-hash"
_REVISION = "deployment.kubernetes.io/revision"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_HISTORY = 10


class DeploymentController:
    """Rolls out templates, scales, and keeps revisions for `kubectl rollout`."""

    def __init__(self, cache: Cache) -> None:
        self._api: ApiClient = cache.api
        self._deployments, self._sets = cache.informer(DEPLOYMENT), cache.informer(REPLICA_SET)
        self._reconciler = Reconciler("deployment", self._reconcile)
        self._deployments.on_change(lambda key, _old, new: self._reconciler.add(key) if new else None)
        self._sets.on_change(self._set_changed)

    async def run(self) -> None:
        await self._deployments.synced.wait()
        await self._sets.synced.wait()
        await self._reconciler.run()

    def _set_changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        reference = controller_of(new or old or {"metadata": {}})
        if reference is not None and reference["kind"] == "Deployment":
            self._reconciler.add((key[0], reference["name"]))

    async def _reconcile(self, key: Key) -> None:
        deployment = self._deployments.items.get(key)
        if deployment is None or terminating(deployment):
            return
        sets = [
            item for set_key, item in self._sets.items.items() if set_key[0] == key[0] and owned_by(item, deployment)
        ]
        digest = content_hash(deployment["spec"]["template"])
        current = next((item for item in sets if (item["metadata"].get("labels") or {}).get(_HASH) == digest), None)
        olds = [item for item in sets if item is not current]
        if deployment["spec"].get("paused"):
            await self._scale_paused(deployment, sets)
        elif current is None:
            await self._start_rollout(deployment, digest, olds)
        else:
            await self._set_revision(deployment, current, olds)
            for name, size in plan(deployment, current, olds).items():
                await self._scale(deployment, next(i for i in sets if i["metadata"]["name"] == name), size)
            await self._drop_history(deployment, olds)
        await self._write_status(deployment, current, olds)

    async def _start_rollout(self, deployment: Object, digest: str, olds: list[Object]) -> None:
        revision = max(map(_revision, olds), default=0) + 1
        fresh = replica_set_of(deployment, digest, revision)
        size = plan(deployment, fresh, olds).get(fresh["metadata"]["name"], 0)
        fresh["spec"]["replicas"] = size
        try:
            await self._api.create(REPLICA_SET, fresh)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                return  # ours already, not in the cache yet; its arrival wakes us
            if error.status == 403 and "being terminated" in error.message:
                return
            raise
        await self._tell_scaling(deployment, fresh["metadata"]["name"], "up", size)

    async def _set_revision(self, deployment: Object, current: Object, olds: list[Object]) -> None:
        newest = max(map(_revision, olds), default=0)
        revision = _revision(current)
        namespace = current["metadata"]["namespace"]
        if revision <= newest:
            revision = newest + 1
            patch = {"metadata": {"annotations": {_REVISION: str(revision)}}}
            await self._api.merge(REPLICA_SET, current["metadata"]["name"], namespace, patch)
        if _revision(deployment) != revision:
            patch = {"metadata": {"annotations": {_REVISION: str(revision)}}}
            await self._api.merge(DEPLOYMENT, deployment["metadata"]["name"], namespace, patch)

    async def _scale_paused(self, deployment: Object, sets: list[Object]) -> None:
        """A paused Deployment still follows its replica count, with the ReplicaSet that is in use."""
        used = max(sets, key=lambda item: (replicas(item) > 0, _revision(item)), default=None)
        if used is not None and sum(1 for item in sets if replicas(item)) <= 1:
            wanted = replicas(deployment)
            if replicas(used) != wanted:
                await self._scale(deployment, used, wanted)

    async def _scale(self, deployment: Object, target: Object, size: int) -> None:
        meta = target["metadata"]
        patch = {"metadata": {"resourceVersion": meta["resourceVersion"]}, "spec": {"replicas": size}}
        await self._api.merge(REPLICA_SET, meta["name"], meta["namespace"], patch)
        await self._tell_scaling(deployment, meta["name"], "up" if size > replicas(target) else "down", size)

    async def _tell_scaling(self, deployment: Object, name: str, direction: str, size: int) -> None:
        await self._api.event(
            deployment, "Normal", "ScalingReplicaSet", f"Scaled {direction} replica set {name} to {size}"
        )

    async def _drop_history(self, deployment: Object, olds: list[Object]) -> None:
        kept = deployment["spec"].get("revisionHistoryLimit", _HISTORY)
        unused = sorted((item for item in olds if not replicas(item) and not told(item, "replicas")), key=_revision)
        for item in unused[: max(0, len(unused) - kept)]:
            await self._api.delete(REPLICA_SET, item["metadata"]["name"], item["metadata"]["namespace"])

    async def _write_status(self, deployment: Object, current: Object | None, olds: list[Object]) -> None:
        status = status_of(deployment, current, olds)
        known = deployment.get("status") or {}
        if any(known.get(name) != value for name, value in status.items()):
            meta = deployment["metadata"]
            try:
                await self._api.merge(DEPLOYMENT, meta["name"], meta["namespace"], {"status": status}, sub="status")
            except ApiError as error:
                if error.status != 404:
                    raise


def replica_set_of(deployment: Object, digest: str, revision: int) -> Object:
    """The ReplicaSet of the Deployment's present template, with no pods yet."""
    meta = deployment["metadata"]
    template = copy.deepcopy(deployment["spec"]["template"])
    labels = {**(template.setdefault("metadata", {}).get("labels") or {}), _HASH: digest}
    template["metadata"]["labels"] = labels
    selector = copy.deepcopy(deployment["spec"].get("selector") or {})
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), _HASH: digest}
    wanted = replicas(deployment)
    annotations = {key: value for key, value in (meta.get("annotations") or {}).items() if key != _LAST_APPLIED}
    annotations |= {
        _REVISION: str(revision),
        "deployment.kubernetes.io/desired-replicas": str(wanted),
        "deployment.kubernetes.io/max-replicas": str(wanted + limits(deployment).surge),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{meta['name']}-{digest}",
            "namespace": meta["namespace"],
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [controller_reference(deployment, "apps/v1", "Deployment")],
        },
        "spec": {"replicas": 0, "selector": selector, "template": template},
    }


def _revision(item: Object) -> int:
    return int((item["metadata"].get("annotations") or {}).get(_REVISION, 0))
