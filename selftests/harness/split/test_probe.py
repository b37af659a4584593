"""The probe client against servers that answer slowly, in the wrong order, badly, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest

from harness.cluster import proxies
from harness.split import probe as probe_module
from harness.split.probe import Page, Probe, ProbeClient, look_at

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstars"


@contextlib.contextmanager
def serving(handler: Handler) -> Iterator[str]:
    """URL of a server on 127.0.0.1 that hands every connection to `handler`."""
    ready, ended = threading.Event(), asyncio.Event()
    found: dict = {}

    async def serve() -> None:
        server = await asyncio.start_server(handler, "127.0.0.1", 0, backlog=512)
        found["loop"], found["port"] = asyncio.get_running_loop(), server.sockets[0].getsockname()[1]
        ready.set()
        await ended.wait()
        server.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{found['port']}/productpage"
    finally:
        found["loop"].call_soon_threadsafe(ended.set)
        thread.join()


def answering(raw: bytes, requests: list[str] | None = None) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if requests is not None:
            requests.append(head)
        writer.write(raw)
        writer.close()

    return handle


def probed(url: str, count: int = 1, concurrency: int = 4, timeout: float = 5) -> list[Probe]:
    delivered: list[Probe] = []
    with ProbeClient(url, "t", delivered.append, count, concurrency, timeout) as client:
        client.wait()
    assert client.sent == count
    return delivered


def test_every_probe_has_a_name_an_id_and_a_connection_of_its_own():
    requests: list[str] = []
    with serving(answering(OK, requests)) as url:
        probes = probed(url, 40)
    assert len(requests) == 40
    assert {f"User-Agent: probe/t/{i}" for i in range(40)} == {
        line for head in requests for line in head.split("\r\n") if line.startswith("User-Agent")
    }
    ids = {line for head in requests for line in head.split("\r\n") if line.lower().startswith("x-request-id")}
    assert ids == {f"X-Request-Id: {probe.request_id}" for probe in probes}
    assert len(ids) == 40
    assert all(head.startswith("GET /productpage HTTP/1.1\r\nHost: 127.0.0.1:") for head in requests)


def test_answers_are_delivered_in_the_order_of_sending():
    """Four requests at a time are answered only when all four are there, the last one first."""
    waiting: list[asyncio.StreamWriter] = []

    async def reverse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        waiting.append(writer)
        if len(waiting) == 4:
            together = [waiting.pop() for _ in range(4)]
            for last in together:
                last.write(OK)
                last.close()
                await last.wait_closed()

    with serving(reverse) as url:
        probes = probed(url, 40)
    assert [probe.index for probe in probes] == list(range(40))
    assert [probe.sent_at for probe in probes] == sorted(probe.sent_at for probe in probes)
    assert {probe.page for probe in probes} == {Page.STARS}


def test_no_more_than_the_asked_requests_are_in_flight():
    now, most = 0, 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        await reader.readuntil(b"\r\n\r\n")
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.001)
        now -= 1
        writer.write(OK)
        writer.close()

    with serving(count) as url:
        probed(url, 100, concurrency=7)
    assert most == 7


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", "the connection was closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "the answer was cut off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nstars", "the answer was cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nstars\r\n", "the answer was cut off"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not an HTTP answer: SSH-2.0-OpenSSH"),
    ],
)
def test_a_bad_answer_is_told_and_never_asked_for_again(raw, error):
    requests: list[str] = []
    with serving(answering(raw, requests)) as url:
        (probe,) = probed(url)
    assert (probe.status, probe.page, probe.connected, probe.error) == (0, Page.NONE, True, error)
    assert len(requests) == 1


def test_no_answer_ends_with_the_timeout():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    with serving(silent) as url:
        (probe,) = probed(url, timeout=0.2)
    assert (probe.status, probe.error) == (0, "no answer within 0.2 s")


def test_a_port_where_nothing_listens_is_not_connected():
    (probe,) = probed("http://127.0.0.1:1/productpage")
    assert not probe.connected
    assert "refused" in probe.error.lower() or "connect" in probe.error.lower()


def test_stop_waits_for_what_is_in_flight():
    release = threading.Event()
    arrived = threading.Event()

    async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await asyncio.get_running_loop().run_in_executor(None, release.wait)
        writer.write(OK)
        writer.close()

    delivered: list[Probe] = []
    with serving(held) as url:
        client = ProbeClient(url, "t", delivered.append, limit=1000, concurrency=3)
        client.start()
        arrived.wait(5)
        threading.Timer(0.05, release.set).start()
        client.stop()
    assert [probe.index for probe in delivered] == list(range(client.sent))
    assert all(probe.status == 200 for probe in delivered)


def test_what_the_ledger_raises_comes_out_of_stop():
    def refuse(_: Probe) -> None:
        raise LookupError("no such book")

    with serving(answering(OK)) as url:
        client = ProbeClient(url, "t", refuse, 3)
        client.start()
        client.wait()
        with pytest.raises(ExceptionGroup, match="unhandled"):
            client.stop()


@pytest.mark.parametrize(
    ("status", "body", "page"),
    [
        (200, b'<span class="glyphicon glyphicon-star"></span>', Page.STARS),
        (200, b"Ratings service is currently unavailable", Page.UNAVAILABLE),
        (200, b"glyphicon-star and the other: Ratings service is currently unavailable", Page.UNAVAILABLE),
        (200, b"Sorry, product reviews are currently unavailable for this book.", Page.UNAVAILABLE),
        (200, b"a review without any rating", Page.NO_RATINGS),
        (503, b"glyphicon-star", Page.NONE),
    ],
)
def test_the_page_is_read_as_a_reader_would(status, body, page):
    assert look_at(status, body) is page


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;x=1\r\nsta\r\n2\r\nrs\r\n0\r\n"


@pytest.mark.parametrize(
    ("raw", "page"),
    [
        (OK, Page.STARS),
        (CHUNKED + b"\r\n", Page.STARS),
        (CHUNKED + b"x-trailer: 1\r\n\r\n", Page.STARS),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Page.NONE),
    ],
    ids=["Content-Length", "chunks", "chunks with trailers", "no content"],
)
def test_an_answer_ends_where_it_ends_and_not_with_the_connection(raw, page):
    async def staying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(raw)
        await reader.read(-1)  # until the other side closes
        writer.close()

    with serving(staying) as url:
        (probe,) = probed(url, timeout=10)
    assert (probe.error, probe.page) == ("", page)


@pytest.mark.parametrize("silent", [False, True], ids=["refuses", "takes no connection"])
def test_every_address_of_a_name_is_tried(monkeypatch, silent):
    """As of a load balancer with an address in each zone, one of which is down."""
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(serving(answering(OK)))
        port = int(url.rpartition(":")[2].partition("/")[0])
        if silent:
            monkeypatch.setattr(probe_module, "_CONNECT_SECONDS", 1.0)
            full = stack.enter_context(socket.socket())
            full.bind(("127.0.0.2", port))
            full.listen(0)
            for _ in range(2):  # whoever comes after them gets no answer
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.2", port))

        def addresses(host, *_, **__):
            found = ("127.0.0.2", "127.0.0.1") if host == "balancer.localhost" else (host,)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        async def connect(address, *arguments, **more):
            tried.append(address)
            return await open_connection(address, *arguments, **more)

        tried: list[str] = []
        open_connection = asyncio.open_connection
        monkeypatch.setattr(asyncio, "open_connection", connect)
        monkeypatch.setattr(socket, "getaddrinfo", addresses)
        first, second = probed(f"http://balancer.localhost:{port}/productpage", 2, concurrency=1)
    assert (first.page, second.page) == (Page.STARS, Page.STARS), first.error
    assert tried == ["127.0.0.2", "127.0.0.1", "127.0.0.1"], "the address that answered is tried first from then on"


def test_only_http_urls_can_be_probed():
    with pytest.raises(ValueError, match="http://"):
        ProbeClient("https://example.org/", "t", lambda _: None, 1)


@pytest.fixture
def environment(monkeypatch):
    """Sets the proxies of the environment; none to begin with."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    return monkeypatch.setenv


PAGE = "http://productpage.example/productpage"


def test_a_page_elsewhere_is_asked_for_by_the_proxy_which_is_told_its_user(environment):
    requests: list[str] = []
    with serving(answering(OK, requests)) as url:
        environment("HTTP_PROXY", url.replace("http://", "http://user:p%40ss@").removesuffix("/productpage"))
        (probe,) = probed(PAGE)
        answer = proxies.get(PAGE, 5)
    assert (probe.page, answer.content) == (Page.STARS, b"stars")
    for head in requests:
        assert head.startswith(f"GET {PAGE} HTTP/1.1\r\n")
        assert "\r\nHost: productpage.example\r\n" in head
        assert "\r\nproxy-authorization: Basic dXNlcjpwQHNz\r\n" in head.replace("Proxy-A", "proxy-a")
    assert len(requests) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_never_asked_for_by_a_proxy(environment, host):
    environment("HTTP_PROXY", "http://127.0.0.1:9")
    with serving(answering(OK)) as url:
        url = url.replace("127.0.0.1", host)
        (probe,) = probed(url)
        assert (probe.page, proxies.get(url, 5).content) == (Page.STARS, b"stars")


@pytest.mark.parametrize("spared", ["productpage.example", ".example", "10.0.0.0/8", "*"])
def test_no_proxy_spares_names_domains_and_networks(environment, spared):
    environment("HTTP_PROXY", "http://proxy.example:3128")
    url = "http://10.1.2.3/productpage" if "/" in spared else PAGE
    assert proxies.proxy_for(url) == proxies.Proxy.of("http://proxy.example:3128")
    environment("NO_PROXY", f"other.test, {spared}" if spared != "*" else spared)
    assert proxies.proxy_for(url) is None


def test_a_proxy_shows_no_credentials():
    found = proxies.Proxy.of("user:secret@proxy.example:3128")
    assert found.url == "http://proxy.example:3128"
    assert "secret" not in repr(found)


def test_a_proxy_that_probes_cannot_use_is_refused_with_what_to_do(environment):
    environment("ALL_PROXY", "socks5://user:secret@proxy.example:1080")
    with pytest.raises(ValueError, match=r"not socks5://proxy.example:1080: name productpage.example in NO_PROXY"):
        ProbeClient(PAGE, "t", lambda _: None, 1)
