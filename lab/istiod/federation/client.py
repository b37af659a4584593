"""HTTP from istiod to a peer's discovery, by way of the local egress gateway; errors read as Go's do."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from lab.client import Key, Object
from lab.istiod.federation.names import DISCOVERY_PORT
from lab.istiod.federation.objects import PeerSpec

_DIAL_ERRORS = {
    errno.ECONNREFUSED: "connection refused",
    # The node's forwarder accepts before it knows whether the pod listens; behind kube-proxy that is a refusal.
    errno.ECONNRESET: "connection refused",
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network is unreachable",
    errno.ETIMEDOUT: "connection timed out",
}


class DiscoveryError(Exception):
    """The peer's discovery did not answer as it should. `status` is what goes into `lastDisconnectStatus`."""

    def __init__(self, text: str, status: str) -> None:
        super().__init__(text)
        self.status = status


class DiscoveryClient:
    """Asks peers; `services` are the Kubernetes Services by (namespace, name), in place of DNS.

    `source` is the address requests come from, which peers see as this istiod.
    """

    def __init__(self, services: Mapping[Key, Object], source: str) -> None:
        self._services, self._source = services, source
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> DiscoveryClient:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(local_addr=(self._source, 0), limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            headers={"User-Agent": "Go-http-client/1.1", "Accept-Encoding": "gzip"},
            skip_auto_headers=("Accept",),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session:
            await self._session.close()

    @asynccontextmanager
    async def get(self, peer: PeerSpec, path: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a GET of `path`, status 200; DiscoveryError otherwise."""
        assert self._session, "DiscoveryClient is used outside its context"
        host = f"{peer.egress_host}:{DISCOVERY_PORT}"
        headers = {"Host": host, "discovery-service": peer.discovery_host, "remote": peer.remote_checksum}
        asked = f'Get "http://{host}{path}"'
        address = self._lookup(peer, asked)
        try:
            response = await self._session.get(f"http://{address}:{DISCOVERY_PORT}{path}", headers=headers)
        except aiohttp.ClientConnectorError as error:
            raise _not_dialled(asked, address, error.os_error.errno) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise _not_dialled(asked, address, errno.ECONNRESET) from error
        except (aiohttp.ClientError, OSError) as error:
            text = f"{asked}: EOF"
            raise DiscoveryError(text, text) from error
        async with response:
            if response.status != 200:
                status = status_line(response)
                raise DiscoveryError(f"status code is not OK: {response.status} ({status})", status)
            yield response

    def _lookup(self, peer: PeerSpec, asked: str) -> str:
        service = self._services.get((peer.namespace, peer.egress)) or {}
        address = (service.get("spec") or {}).get("clusterIP")
        if not address or address == "None":
            text = f"{asked}: dial tcp: lookup {peer.egress_host}: no such host"
            raise DiscoveryError(text, text)
        return str(address)


def _not_dialled(asked: str, address: str, number: int | None) -> DiscoveryError:
    reason = _DIAL_ERRORS.get(number or 0) or (os.strerror(number).lower() if number else "i/o timeout")
    text = f"{asked}: dial tcp {address}:{DISCOVERY_PORT}: connect: {reason}"
    return DiscoveryError(text, text)


def status_line(response: aiohttp.ClientResponse) -> str:
    """Such as `503 Service Unavailable`."""
    return f"{response.status} {response.reason or ''}".rstrip()
