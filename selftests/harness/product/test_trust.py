"""Trust checks against real TLS servers with certificates made for the test."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from datetime import UTC, datetime, timedelta

import pytest

from harness.product.trust import (
    answers_plaintext,
    fingerprint,
    presented_chain,
    refusal,
    root_problem,
    roots_in,
    spiffe_id,
)
from selftests.support.certificates import Authority, pem

NOW = datetime.now(UTC)
GATEWAY = spiffe_id("mesh1.local", "mesh1-system", "mesh2-ingress-service-account")


@pytest.fixture(scope="module")
def mesh1():
    return Authority.make("mesh1.local")


@pytest.fixture(scope="module")
def mesh2():
    return Authority.make("mesh2.local")


def hang_up_gently(tls: ssl.SSLSocket) -> None:
    """Reads what the client still sends: closing on unread data resets the connection before the alert is read."""
    with contextlib.suppress(OSError):
        tls.shutdown(socket.SHUT_WR)
        while socket.socket.recv(tls, 1000):
            pass


@pytest.fixture
def server(request, tmp_path, mesh1):
    """A TLS server with mesh1's gateway identity; parametrize with whether it demands a client certificate, or with
    the newest TLS version at which it does.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mesh1.write_leaf(tmp_path, GATEWAY))
    if isinstance(request.param, ssl.TLSVersion):
        context.maximum_version = request.param
    if request.param:
        context.load_verify_locations(cadata=pem(mesh1.root))
        context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            with context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as tls:
                try:
                    tls.do_handshake()
                    tls.recv(100)
                    tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                except OSError:
                    hang_up_gently(tls)

    thread = threading.Thread(target=serve)
    thread.start()
    yield lambda: socket.create_connection(listener.getsockname(), timeout=5)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


mutual = pytest.mark.parametrize("server", [True], indirect=True)
open_to_all = pytest.mark.parametrize("server", [False], indirect=True)


@mutual
def test_the_chain_of_a_server_that_refuses_us_is_still_seen_and_verified(server, mesh1):
    presented = presented_chain(server, "discovery.local", pem(mesh1.root))
    assert presented.uris == (GATEWAY,)
    assert presented.problem == ""


@mutual
def test_a_chain_of_another_mesh_does_not_verify_but_is_described(server, mesh2):
    presented = presented_chain(server, "discovery.local", pem(mesh2.root))
    assert "self" in presented.problem
    assert presented.uris == (GATEWAY,)
    assert "mesh1.local" in presented.issuer


@mutual
def test_an_empty_root_verifies_nothing(server):
    assert "no root" in presented_chain(server, "discovery.local", "").problem


@mutual
def test_a_client_without_certificate_is_refused_in_the_servers_words(server):
    refused = refusal(server, "discovery.local")
    assert "CERTIFICATE_REQUIRED" in refused.reason.upper().replace(" ", "_")
    assert refused.shown == (GATEWAY,)


@pytest.mark.parametrize("server", [ssl.TLSVersion.TLSv1_2], indirect=True)
def test_an_alert_refuses_before_the_client_can_see_who_the_server_is(server):
    refused = refusal(server, "discovery.local")
    assert "ALERT" in refused.reason
    assert refused.shown == ()


@pytest.fixture
def meeting(request):
    """Connections to somebody who accepts, runs the parameter with the connection, and closes it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                raw, _ = listener.accept()
                with raw, contextlib.suppress(OSError):
                    request.param(raw)

    thread = threading.Thread(target=serve)
    thread.start()
    yield lambda: socket.create_connection(listener.getsockname(), timeout=5)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def reset(raw: socket.socket) -> None:
    """As a load balancer does for a gateway that does not listen."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close_on_hello(raw: socket.socket) -> None:
    """As Envoy does for a server name that no filter chain matches."""
    raw.recv(2000)


def speak_http(raw: socket.socket) -> None:
    raw.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    raw.recv(2000)


@pytest.mark.parametrize("meeting", [reset, close_on_hello, speak_http], indirect=True)
def test_nobody_is_refused_where_no_server_shows_who_it_is(meeting):
    with pytest.raises(OSError):
        refusal(meeting, "discovery.local")


def test_an_end_after_the_certificate_is_a_refusal(tmp_path, mesh1):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mesh1.write_leaf(tmp_path, GATEWAY))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            raw, _ = listener.accept()
            with context.wrap_socket(raw, server_side=True) as tls:
                reset(tls)

        thread = threading.Thread(target=serve)
        thread.start()
        refused = refusal(lambda: socket.create_connection(listener.getsockname(), timeout=5), "ratings.local")
        thread.join()
    assert refused.shown == (GATEWAY,)
    assert refused.reason


@open_to_all
def test_a_server_that_lets_anybody_in_is_not_a_refusal(server):
    assert refusal(server, "discovery.local") is None


@mutual
def test_a_tls_server_does_not_answer_plaintext(server):
    assert not answers_plaintext(server)


def test_a_server_without_tls_is_told_by_its_answer():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            raw, _ = listener.accept()
            with raw:
                raw.recv(100)
                raw.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert answers_plaintext(lambda: socket.create_connection(listener.getsockname(), timeout=5))
        thread.join()


def test_a_closed_port_is_an_error_and_no_refusal():
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    with pytest.raises(ConnectionRefusedError):
        refusal(lambda: socket.create_connection(address, timeout=5), "discovery.local")


def test_a_valid_root_has_no_problem(mesh1):
    assert root_problem(pem(mesh1.root), NOW) is None


@pytest.mark.parametrize("text", ["", "\n", "-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n"])
def test_a_root_without_a_certificate_is_named_so(text):
    assert root_problem(text, NOW) == "contains no certificate"


def test_a_leaf_is_no_root():
    assert "not a CA" in root_problem(pem(Authority.make("x", ca=False).root), NOW)


def test_an_expired_and_a_future_root_are_told_apart():
    expired = Authority.make("x", start=timedelta(days=-9))
    future = Authority.make("x", start=timedelta(days=9))
    assert "expired" in root_problem(pem(expired.root), NOW)
    assert "not valid before" in root_problem(pem(future.root), NOW)


def test_the_captured_roots_are_different_ca_certificates(observed):
    def root(mesh: str) -> str:
        maps = observed(f"healthy/objects/{mesh}-bookinfo-configmaps.json")["items"]
        return next(m["data"]["root-cert.pem"] for m in maps if m["metadata"]["name"] == "istio-ca-root-cert")

    moment = datetime(2026, 11, 23, tzinfo=UTC)
    assert root_problem(root("mesh1"), moment) is None
    assert fingerprint(roots_in(root("mesh1"))[0]) != fingerprint(roots_in(root("mesh2"))[0])
