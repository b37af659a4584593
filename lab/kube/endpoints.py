"""Endpoints and EndpointSlices: which pods stand behind each Service."""

from __future__ import annotations

import copy
import hashlib
from collections import defaultdict
from ipaddress import IPv4Address
from typing import Any

from lab.client import ApiClient, ApiError, Key, Object, Reconciler
from lab.kube.cache import Cache
from lab.kube.objects import now, ready, selects, terminating
from lab.resources import ENDPOINT_SLICE, ENDPOINTS, POD, SERVICE, Resource

_TYPE_AND_META = ("metadata", "apiVersion", "kind")
_TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"


class EndpointsController:
    """Keeps Endpoints and one EndpointSlice for every Service that has a selector."""

    def __init__(self, cache: Cache) -> None:
        self._api: ApiClient = cache.api
        self._services, self._pods = cache.informer(SERVICE), cache.informer(POD)
        self._endpoints, self._slices = cache.informer(ENDPOINTS), cache.informer(ENDPOINT_SLICE)
        self._reconciler = Reconciler("endpoints", self._reconcile)
        self._services.on_change(lambda key, _old, _new: self._reconciler.add(key))
        self._pods.on_change(self._pod_changed)
        self._endpoints.on_change(self._endpoints_changed)
        self._slices.on_change(self._slice_changed)

    async def run(self) -> None:
        for informer in (self._services, self._pods, self._endpoints, self._slices):
            await informer.synced.wait()
        await self._reconciler.run()

    def _pod_changed(self, key: Key, old: Object | None, new: Object | None) -> None:
        for service_key, service in self._services.items.items():
            selector = service.get("spec", {}).get("selector")
            if service_key[0] == key[0] and any(pod and selects(selector, pod) for pod in (old, new)):
                self._reconciler.add(service_key)

    def _endpoints_changed(self, key: Key, _old: Object | None, _new: Object | None) -> None:
        if key in self._services.items:  # Endpoints made by hand may come before their Service
            self._reconciler.add(key)

    def _slice_changed(self, key: Key, _old: Object | None, new: Object | None) -> None:
        if new is None:
            for service_key, service in self._services.items.items():
                if service_key[0] == key[0] and _slice_name(service) == key[1]:
                    self._reconciler.add(service_key)

    async def _reconcile(self, key: Key) -> None:
        service = self._services.items.get(key)
        if service is None:
            if key in self._endpoints.items:
                await self._api.delete(ENDPOINTS, key[1], key[0])
            return
        if not service.get("spec", {}).get("selector") or terminating(service):
            return
        pods = [
            pod
            for pod_key, pod in self._pods.items.items()
            if pod_key[0] == key[0] and selects(service["spec"]["selector"], pod)
        ]
        pods = sorted(
            (pod for pod in pods if pod.get("status", {}).get("podIP") and not _finished(pod)),
            key=lambda pod: IPv4Address(pod["status"]["podIP"]),
        )
        await self._write(ENDPOINTS, self._endpoints.items.get(key), endpoints_of(service, pods))
        slice_key = key[0], _slice_name(service)
        await self._write(ENDPOINT_SLICE, self._slices.items.get(slice_key), slice_of(service, pods))

    async def _write(self, kind: Resource, current: Object | None, wanted: Object) -> None:
        if current is not None and _meaning(current) == _meaning(wanted):
            return
        wanted["metadata"].setdefault("annotations", {})[_TRIGGER] = now()
        try:
            if current is None:
                await self._api.create(kind, wanted)
            else:
                wanted["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
                await self._api.replace(kind, wanted)
        except ApiError as error:
            going = error.status == 403 or (error.status == 404 and current is None)
            if not going:  # a namespace on its way out takes no new objects, and needs none
                raise


def endpoints_of(service: Object, pods: list[Object]) -> Object:
    """The Endpoints object of a Service; `pods` are those selected that have an address, in the wanted order."""
    everyone = service["spec"].get("publishNotReadyAddresses", False)
    subsets: defaultdict[tuple[Any, ...], tuple[list[Object], list[Object]]] = defaultdict(lambda: ([], []))
    for pod in pods:
        if terminating(pod) and not everyone:
            continue
        ports = _ports(service, pod)
        if not ports and not _headless(service):
            continue
        identity = tuple(tuple(sorted(port.items())) for port in ports)
        subsets[identity][0 if everyone or ready(pod) else 1].append(_address(pod))
    rendered = []
    for identity, (good, waiting) in sorted(subsets.items()):
        subset: Object = {}
        if good:
            subset["addresses"] = good
        if waiting:
            subset["notReadyAddresses"] = waiting
        if identity:
            subset["ports"] = [dict(port) for port in identity]
        rendered.append(subset)
    meta = service["metadata"]
    labels = dict(meta.get("labels") or {})
    if _headless(service):
        labels["service.kubernetes.io/headless"] = ""
    obj: Object = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": meta["name"], "namespace": meta["namespace"], "labels": labels},
    }
    if rendered:
        obj["subsets"] = rendered
    return obj


def slice_of(service: Object, pods: list[Object]) -> Object:
    """The one EndpointSlice of a Service; pods that lack a named target port are left out."""
    meta = service["metadata"]
    ports: list[Object] = []
    endpoints = []
    for pod in pods:
        resolved = _ports(service, pod)
        if not resolved and not _headless(service):
            continue
        ports = resolved
        address = _address(pod)
        isready, going = ready(pod), terminating(pod)
        everyone = service["spec"].get("publishNotReadyAddresses", False)
        endpoints.append(
            {
                "addresses": [address["ip"]],
                "conditions": {"ready": everyone or (isready and not going), "serving": isready, "terminating": going},
                "nodeName": address["nodeName"],
                "targetRef": address["targetRef"],
            }
        )
    labels = {
        **(meta.get("labels") or {}),
        "kubernetes.io/service-name": meta["name"],
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    if _headless(service):
        labels["service.kubernetes.io/headless"] = ""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": _slice_name(service),
            "namespace": meta["namespace"],
            "labels": labels,
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": ports,
    }


def _slice_name(service: Object) -> str:
    meta = service["metadata"]
    return f"{meta['name']}-{hashlib.sha256(meta['uid'].encode()).hexdigest()[:5]}"


def _headless(service: Object) -> bool:
    return service["spec"].get("clusterIP") == "None"


def _finished(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _address(pod: Object) -> Object:
    meta = pod["metadata"]
    return {
        "ip": pod["status"]["podIP"],
        "nodeName": pod["spec"].get("nodeName", ""),
        "targetRef": {
            "kind": "Pod",
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"],
        },
    }


def _ports(service: Object, pod: Object) -> list[Object]:
    found = []
    for port in service["spec"].get("ports") or ():
        number = _target(port, pod)
        if number is not None:
            entry = {"port": number, "protocol": port.get("protocol") or "TCP"}
            if port.get("name"):
                entry["name"] = port["name"]
            found.append(entry)
    return found


def _target(port: Object, pod: Object) -> int | None:
    target = port.get("targetPort", port["port"])
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for entry in container.get("ports") or ():
            if entry.get("name") == target:
                return int(entry["containerPort"])
    return None


def _meaning(obj: Object) -> Object:
    """What makes a new version worth writing: not the version of a pod that is as ready as before."""
    meta = obj["metadata"]
    told = {key: copy.deepcopy(value) for key, value in obj.items() if value and key not in _TYPE_AND_META}
    told["labels"] = meta.get("labels") or {}
    addresses = [entry for subset in told.get("subsets") or () for name in subset for entry in subset[name]]
    for entry in [*addresses, *(told.get("endpoints") or ())]:
        entry.get("targetRef", {}).pop("resourceVersion", None)
    return told
