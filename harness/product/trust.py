"""Roots, presented chains and SPIFFE identities: who a gateway proves to be, and whether the other mesh would agree."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from harness.product.names import ROOT_KEY, identity

Connect = Callable[[], socket.socket]
_REQUEST = b"GET / HTTP/1.1\r\nhost: conformance\r\nconnection: close\r\n\r\n"


def roots_in(pem: str) -> list[x509.Certificate]:
    """All certificates of a PEM text; [] for an empty or broken one (an empty root is what a script that read too
    early leaves behind)."""
    if "-----BEGIN CERTIFICATE-----" not in pem:
        return []
    try:
        return x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        return []


def root_pem(config_map: Mapping[str, Any] | None) -> str:
    """The roots that a ConfigMap holds, PEM; '' for none, and where there is no such ConfigMap."""
    return ((config_map or {}).get("data") or {}).get(ROOT_KEY) or ""


def fingerprints(pem: str) -> frozenset[str]:
    """SHA-256 fingerprints of the certificates in a PEM text."""
    return frozenset(map(fingerprint, roots_in(pem)))


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 in hex, 64 characters."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def root_problem(pem: str, now: datetime) -> str | None:
    """Why a PEM text is not usable as a mesh's root at `now` (aware, UTC), or None."""
    certificates = roots_in(pem)
    if not certificates:
        return "contains no certificate"
    for certificate in certificates:
        try:
            is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            is_ca = False
        if not is_ca:
            return f"certificate {fingerprint(certificate)[:12]} is not a CA certificate"
        if now > certificate.not_valid_after_utc:
            return f"certificate {fingerprint(certificate)[:12]} expired at {certificate.not_valid_after_utc}"
        if now < certificate.not_valid_before_utc:
            return f"certificate {fingerprint(certificate)[:12]} is not valid before {certificate.not_valid_before_utc}"
    return None


@dataclass(frozen=True)
class Presented:
    """What a TLS server showed: its SPIFFE ids, issuer, end of validity, and why its chain does not verify ('')."""

    uris: tuple[str, ...]
    issuer: str
    not_after: datetime | None
    problem: str

    def __str__(self) -> str:
        who = ", ".join(self.uris) or "no SPIFFE identity"
        until = f", valid until {self.not_after:%Y-%m-%dT%H:%M:%SZ}" if self.not_after else ""
        return f"{who}, issued by {self.issuer or 'nobody known'}{until}{'; ' + self.problem if self.problem else ''}"


def _context(root_pem: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if root_pem is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=root_pem)
    return context


def _look(connect: Connect, server_name: str, context: ssl.SSLContext) -> x509.Certificate | None:
    with connect() as raw, context.wrap_socket(raw, server_hostname=server_name) as tls:
        der = tls.getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der) if der else None


def presented_chain(connect: Connect, server_name: str, root_pem: str) -> Presented:
    """Makes a TLS connection without a client certificate and verifies the chain shown against `root_pem`.

    TLS 1.3 servers show their chain before they ask for the client's, so this works on a gateway that refuses us.
    Raises OSError where no TLS connection is possible at all (refused, timeout, not TLS).
    """
    problem = ""
    if not roots_in(root_pem):
        leaf, problem = _look(connect, server_name, _context(None)), "there is no root to verify it against"
    else:
        try:
            leaf = _look(connect, server_name, _context(root_pem))
        except ssl.SSLCertVerificationError as error:
            problem = error.verify_message
            leaf = _look(connect, server_name, _context(None))
    if leaf is None:
        return Presented((), "", None, "the server showed no certificate")
    return Presented(_uris(leaf), leaf.issuer.rfc4514_string(), leaf.not_valid_after_utc.astimezone(UTC), problem)


def _uris(certificate: x509.Certificate) -> tuple[str, ...]:
    with contextlib.suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))
    return ()


@dataclass(frozen=True)
class Refusal:
    """How a TLS server sent a client away, in its own words, and the SPIFFE ids of the certificate it showed before.

    `shown` is () where it showed none: up to TLS 1.2 an alert ends the handshake before a client can look.
    """

    reason: str
    shown: tuple[str, ...] = ()


def refusal(connect: Connect, server_name: str) -> Refusal | None:
    """How a TLS server refuses a client without a certificate; None if it lets it in.

    Only an alert, or an end after the server showed its certificate, is a refusal: load balancers accept for gateways
    that do not listen, and then reset. In TLS 1.3 the refusal comes after the client's half of the handshake, so only
    a read shows it. A server that goes on silently until the socket's timeout counts as letting the client in. Raises
    OSError where there is no TLS server, so that nobody was refused.
    """
    with connect() as raw:
        try:
            tls = _context(None).wrap_socket(raw, server_hostname=server_name)
        except ssl.SSLError as error:
            if "ALERT" not in (error.reason or ""):
                raise
            return Refusal(error.reason)
        with tls:
            der = tls.getpeercert(binary_form=True)
            shown = _uris(x509.load_der_x509_certificate(der)) if der else ()
            try:
                tls.sendall(_REQUEST)
                answer = tls.recv(1)
            except TimeoutError:
                return None
            except (OSError, EOFError) as error:
                return Refusal(getattr(error, "reason", None) or str(error) or type(error).__name__, shown)
    return None if answer else Refusal("connection closed", shown)


def answers_plaintext(connect: Connect) -> bool:
    """Whether a server answers a client that speaks HTTP without TLS. Raises OSError where nothing listens."""
    with connect() as raw:
        try:
            raw.sendall(_REQUEST)
            return bool(raw.recv(1))
        except (TimeoutError, ConnectionError):
            return False


def spiffe_id(trust_domain: str, namespace: str, service_account: str) -> str:
    """`spiffe://<trust domain>/ns/<namespace>/sa/<service account>`."""
    return f"spiffe://{identity(trust_domain, namespace, service_account)}"
