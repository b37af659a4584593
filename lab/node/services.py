"""What Services and Endpoints ask of the node: forwarders and hosts files."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from lab.client import Informer, Key, Object
from lab.node.proxy import Address, Forward, Forwarders

FIRST_GATE = 15100
COALESCE = 0.003  # seconds; one change of a Deployment touches several Endpoints at once


def ready_targets(endpoints: Object | None, port_name: str) -> tuple[Address, ...]:
    """Ready addresses of one named port ('' for the unnamed one)."""
    return tuple(
        (address["ip"], port["port"])
        for subset in (endpoints or {}).get("subsets") or []
        for port in subset.get("ports") or []
        if port.get("name", "") == port_name and port.get("protocol", "TCP") == "TCP"
        for address in subset.get("addresses") or []
    )


def cluster_ip(service: Object) -> str | None:
    """ClusterIP of a Service; None where it has none (yet, or on purpose)."""
    address: str | None = service.get("spec", {}).get("clusterIP")
    return address if address and address != "None" else None


def wanted_forwards(
    services: dict[Key, Object], endpoints: dict[Key, Object], node_address: str
) -> dict[Address, Forward]:
    """Forwarders for all ClusterIPs (client's address kept), NodePorts and load balancers (node's address)."""
    wanted: dict[Address, Forward] = {}
    for key, service in services.items():
        ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
        balancers = [entry["ip"] for entry in ingress if entry.get("ip")]
        for port in service.get("spec", {}).get("ports") or []:
            if port.get("protocol", "TCP") != "TCP":
                continue
            targets = ready_targets(endpoints.get(key), port.get("name", ""))
            if address := cluster_ip(service):
                wanted[(address, port["port"])] = Forward(targets)
            if port.get("nodePort"):
                wanted[(node_address, port["nodePort"])] = Forward(targets, node_address)
            for balancer in balancers:
                wanted[(balancer, port["port"])] = Forward(targets, node_address)
    return wanted


def hosts_text(services: dict[Key, Object], endpoints: dict[Key, Object], namespace: str) -> str:
    """A hosts file as pods of `namespace` see the cluster's names; headless Services lead to a ready pod."""
    rows = []
    for (home, name), service in sorted(services.items()):
        address = cluster_ip(service)
        if address is None:
            ports = service.get("spec", {}).get("ports") or []
            found = ready_targets(endpoints.get((home, name)), ports[0].get("name", "")) if ports else ()
            address = found[0][0] if found else None
        if address:
            names = [f"{name}.{home}.svc.cluster.local", f"{name}.{home}.svc", f"{name}.{home}"]
            rows.append(" ".join([address, *names, *([name] if home == namespace else [])]))
    return "\n".join(rows) + "\n"


class ServiceNetwork:
    """Keeps forwarders and hosts files as Services and Endpoints say."""

    def __init__(self, services: Informer, endpoints: Informer, node_address: str, directory: Path) -> None:
        self.services, self.endpoints = services, endpoints
        self.forwarders = Forwarders()
        self._node_address, self._directory = node_address, directory
        self._hosts: dict[str, str] = {}
        self._gates: dict[tuple[Key, int], Address] = {}
        self._changed = asyncio.Event()
        services.on_change(lambda *_: self._changed.set())
        endpoints.on_change(lambda *_: self._changed.set())

    def hosts_file(self, namespace: str) -> Path:
        """The hosts file of the pods of a namespace; kept current from now on."""
        path = self._directory / namespace
        if namespace not in self._hosts:
            self._hosts[namespace] = ""
            self._directory.mkdir(parents=True, exist_ok=True)
            self._write_hosts(namespace)
        return path

    def _write_hosts(self, namespace: str) -> None:
        text = hosts_text(self.services.items, self.endpoints.items, namespace)
        if text != self._hosts[namespace]:
            fresh = self._directory / f".{namespace}.new"
            fresh.write_text(text)
            fresh.replace(self._directory / namespace)
            self._hosts[namespace] = text

    def gate(self, namespace: str, name: str, port: int) -> Address:
        """Where the proxies of this node reach istiod, Service `name`.

        A gate holds connections while there is no istiod. Refused ones would make every proxy try again many times
        a second: the product's agent backs off, Envoy's own long polls do not.
        """
        key = ((namespace, name), port)
        if key not in self._gates:
            self._gates[key] = (self._node_address, FIRST_GATE + len(self._gates))
            self._changed.set()
        return self._gates[key]

    def _wanted(self) -> dict[Address, Forward]:
        services, endpoints = self.services.items, self.endpoints.items
        wanted = wanted_forwards(services, endpoints, self._node_address)
        for (key, port), address in self._gates.items():
            ports = services.get(key, {}).get("spec", {}).get("ports") or []
            names = [entry.get("name", "") for entry in ports if entry["port"] == port]
            wanted[address] = Forward(ready_targets(endpoints.get(key), names[0]) if names else (), patient=True)
        return wanted

    async def run(self) -> None:
        """Runs until cancelled."""
        try:
            while True:
                await self._changed.wait()
                await asyncio.sleep(COALESCE)
                self._changed.clear()
                await self.forwarders.apply(self._wanted())
                for namespace in self._hosts:
                    with contextlib.suppress(OSError):
                        self._write_hosts(namespace)
        finally:
            self.forwarders.close()
