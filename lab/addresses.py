"""Which loopback address belongs to what; docs/architecture.md has the table.

Each cluster owns one block 127.B.0.0/16. A pod has three addresses with the same low bits, because without root
there is no network namespace and no redirect: its own, its inside and its way out.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

_INSIDE = 64 << 8
_OUTBOUND = 128 << 8


@dataclass(frozen=True)
class Block:
    """The addresses of one cluster; `octet` is B in 127.B.0.0/16 (16 to 250)."""

    octet: int

    def _at(self, third: int, fourth: int) -> str:
        return f"127.{self.octet}.{third}.{fourth}"

    @property
    def node(self) -> str:
        return self._at(254, 1)

    @property
    def apiserver(self) -> str:
        return self._at(254, 2)

    @property
    def lock(self) -> str:
        """Where the supervisor binds a socket so that no second lab takes the same block."""
        return self._at(255, 1)

    def pod(self, index: int) -> str:
        """Address of pod number `index` (0 to 16,000); low byte is never 0 or 255."""
        third, fourth = divmod(index, 250)
        return self._at(third, fourth + 4)

    def cluster_ip(self, index: int) -> str:
        """ClusterIP number `index` (0 to 7,900)."""
        third, fourth = divmod(index, 250)
        return self._at(192 + third, fourth + 4)

    def load_balancer(self, index: int) -> str:
        """LoadBalancer address number `index` (0 to 249)."""
        return self._at(253, index + 4)


def inside(pod_ip: str) -> str:
    """The pod's inner address, where its app listens when it has a sidecar."""
    return str(ipaddress.IPv4Address(int(ipaddress.IPv4Address(pod_ip)) + _INSIDE))


def outbound(pod_ip: str) -> str:
    """The address of the pod's outbound listeners, where its app sends requests when it has a sidecar."""
    return str(ipaddress.IPv4Address(int(ipaddress.IPv4Address(pod_ip)) + _OUTBOUND))
