"""The discovery service of this mesh: HTTPS on port 8188, asked by peers through the ingress gateway.

istiod authenticates nobody here; the ingress gateway lets only the peer's clientID through.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.istiod.federation.exports import Exporter
from lab.istiod.federation.logs import ComponentLog
from lab.istiod.federation.messages import encode_list
from lab.istiod.federation.names import DISCOVERY_PORT
from lab.istiod.federation.status import PeerStatus

log = ComponentLog("federation-server")


class Served(Protocol):
    """What the server needs of a peer."""

    @property
    def exporter(self) -> Exporter: ...

    @property
    def status(self) -> PeerStatus: ...


class DiscoveryServer:
    """Serves `/v1/services/{peer}` and `/v1/watch/{peer}`; `find` gives the peer of a name, None for unknown ones."""

    def __init__(self, find: Callable[[str], Served | None]) -> None:
        self._find = find
        app = web.Application()
        app.router.add_route("*", "/v1/services/{peer}", self._services)
        app.router.add_route("*", "/v1/watch/{peer}", self._watch)
        # A peer that goes away has to be seen at once: its handler is cancelled.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)

    async def start(self, address: str, tls: ssl.SSLContext) -> None:
        """Listens; OSError when the address is taken."""
        log.info("starting federation service discovery at %s:%d", address, DISCOVERY_PORT)
        await self._runner.setup()
        await web.TCPSite(self._runner, address, DISCOVERY_PORT, ssl_context=tls).start()

    async def stop(self) -> None:
        """Cuts all streams, as a process that ends does."""
        await self._runner.cleanup()

    async def _services(self, request: web.Request) -> web.StreamResponse:
        peer = self._known(request, "services")
        if peer is None:
            return web.Response(status=400)
        body = encode_list(peer.exporter.messages, peer.exporter.gateways)
        peer.status.remote_full_sync(_source(request))
        return web.Response(body=body, content_type="application/json")

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        peer = self._known(request, "watch")
        if peer is None:
            return web.Response(status=400)
        source = _source(request)
        events = peer.exporter.subscribe()
        peer.status.remote_connected(source)
        try:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            response.enable_chunked_encoding()
            await response.prepare(request)
            while (event := await events.get()) is not None:
                await response.write(event)
                peer.status.remote_event(source)
            await response.write_eof()
        finally:
            peer.exporter.unsubscribe(events)
            peer.status.remote_disconnected(source)
        return response

    def _known(self, request: web.Request, path: str) -> Served | None:
        name = request.match_info["peer"]
        peer = self._find(name)
        if peer is None:
            log.error("error handling /%s/ request: unknown mesh specified: %s", path, name)
        return peer


def _source(request: web.Request) -> str:
    """The remote istiod's address: the first one of `X-Forwarded-For`, which its egress gateway adds."""
    return request.headers.get("X-Forwarded-For", "").split(",")[0].strip()


def self_issued(hostname: str) -> ssl.SSLContext:
    """TLS for a server named `hostname`; callers of the discovery service do not check who issued it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "istiod")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as directory:
        chain = Path(directory) / "istiod.pem"
        chain.touch(0o600)
        chain.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context.load_cert_chain(chain)
    return context
