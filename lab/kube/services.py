"""Services: ClusterIPs, NodePorts, LoadBalancer addresses and the defaults of their ports."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from lab.client import ApiClient, Key, Object, Reconciler
from lab.kube.cache import Cache
from lab.resources import SERVICE
from lab.settings import ClusterSettings

NODE_PORTS = range(30000, 32768)
_CLUSTER_IPS = range(7900)
_LOAD_BALANCERS = range(250)


class _Pool:
    """Addresses that are handed out once: by the informer's word or, before that arrives, by our own."""

    def __init__(self, candidates: Callable[[], Iterable[str]]) -> None:
        self._candidates = candidates
        self._taken: dict[str, Key] = {}

    def take(self, owner: Key) -> str:
        mine = next((address for address, key in self._taken.items() if key == owner), None)
        if mine:
            return mine
        address = next(item for item in self._candidates() if item not in self._taken)
        self._taken[address] = owner
        return address

    def note(self, owner: Key, address: str) -> None:
        self._taken.setdefault(address, owner)

    def release(self, owner: Key) -> None:
        self._taken = {address: key for address, key in self._taken.items() if key != owner}


class ServiceController:
    """Fills in what the API promises of a Service; what the user set stays."""

    def __init__(self, cache: Cache, settings: ClusterSettings) -> None:
        self._api: ApiClient = cache.api
        block = settings.block
        self._cluster_ips = _Pool(lambda: map(block.cluster_ip, _CLUSTER_IPS))
        self._load_balancers = _Pool(lambda: map(block.load_balancer, _LOAD_BALANCERS))
        self._node_ports: dict[int, Key] = {}
        self._services = cache.informer(SERVICE)
        self._services.on_change(self._changed)
        # One at a time: two Services must never be given the same NodePort.
        self._reconciler = Reconciler("service", self._reconcile, workers=1)

    async def run(self) -> None:
        await self._services.synced.wait()
        await self._reconciler.run()

    def _changed(self, key: Key, _old: Object | None, new: Object | None) -> None:
        if new is None:
            self._cluster_ips.release(key)
            self._load_balancers.release(key)
            self._node_ports = {port: owner for port, owner in self._node_ports.items() if owner != key}
            return
        spec = new.get("spec", {})
        if spec.get("clusterIP") not in (None, "", "None"):
            self._cluster_ips.note(key, spec["clusterIP"])
        for entry in new.get("status", {}).get("loadBalancer", {}).get("ingress") or ():
            if "ip" in entry:
                self._load_balancers.note(key, entry["ip"])
        for port in spec.get("ports") or ():
            if port.get("nodePort"):
                self._node_ports.setdefault(port["nodePort"], key)
        self._reconciler.add(key)

    async def _reconcile(self, key: Key) -> None:
        service = self._services.items.get(key)
        if service is None or service.get("spec", {}).get("type") == "ExternalName":
            return
        spec = service.get("spec", {})
        wanted = self._complete(key, spec)
        change = {name: value for name, value in wanted.items() if spec.get(name) != value}
        namespace, name = key
        if change:
            patch = {"metadata": {"resourceVersion": service["metadata"]["resourceVersion"]}, "spec": change}
            await self._api.merge(SERVICE, name, namespace, patch)
        balancer = self._balancer_status(key, wanted["type"])
        if service.get("status", {}).get("loadBalancer") != balancer:
            patch = {"status": {"loadBalancer": balancer if balancer else {"ingress": None}}}
            await self._api.merge(SERVICE, name, namespace, patch, sub="status")

    def _complete(self, key: Key, spec: Object) -> Object:
        kind = spec.get("type") or "ClusterIP"
        address = spec.get("clusterIP") or self._cluster_ips.take(key)
        outside = kind in ("NodePort", "LoadBalancer")
        wanted: Object = {
            "type": kind,
            "clusterIP": address,
            "clusterIPs": [address],
            "sessionAffinity": spec.get("sessionAffinity") or "None",
        }
        if spec.get("ports"):
            wanted["ports"] = [self._complete_port(key, port, outside) for port in spec["ports"]]
        if outside:
            wanted["externalTrafficPolicy"] = spec.get("externalTrafficPolicy") or "Cluster"
        elif spec.get("externalTrafficPolicy"):
            wanted["externalTrafficPolicy"] = None
        return wanted

    def _complete_port(self, key: Key, port: Object, outside: bool) -> Object:
        complete = {
            **port,
            "protocol": port.get("protocol") or "TCP",
            "targetPort": port.get("targetPort", port["port"]),
        }
        if outside and not port.get("nodePort"):
            complete["nodePort"] = random.choice([number for number in NODE_PORTS if number not in self._node_ports])
            self._node_ports[complete["nodePort"]] = key
        if not outside:
            complete.pop("nodePort", None)
        return complete

    def _balancer_status(self, key: Key, kind: str) -> Object:
        if kind != "LoadBalancer":
            self._load_balancers.release(key)
            return {}
        return {"ingress": [{"ip": self._load_balancers.take(key)}]}
