"""bookinfo alone: the real programs, in front of upstreams that do as they are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.apps.bookinfo import FORWARDED, handler
from lab.apps.wire import Dialer, HttpClient, HttpServer, Names, Request, Response
from lab.node.readiness import accepts, http_get
from selftests.support.loopback import loopback_address
from selftests.support.stories import told_in

ROOT = Path(__file__).parents[3]
STARS = {"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}
BOOK = {"id": 0, "type": "paperback", "pages": 200}
Answer = Response | Exception


def reply(status: int, value: Any) -> Response:
    return Response(status, json.dumps(value).encode())


def reviews_with(rating: dict[str, Any]) -> Response:
    return reply(200, {"id": "0", "reviews": [{"reviewer": "Reviewer1", "text": "a text", "rating": rating}]})


class Upstream:
    """Answers with one thing after another, the last one for ever; remembers what it was asked."""

    def __init__(self, *answers: Response) -> None:
        self.answers = list(answers)
        self.seen: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.seen.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Town:
    """A hosts file and servers that its names lead to."""

    def __init__(self, directory: Path) -> None:
        self.hosts = directory / "hosts"
        self.hosts.touch()
        self.servers: list[HttpServer] = []

    def name(self, name: str, address: str) -> None:
        fresh = self.hosts.with_suffix(".new")
        fresh.write_text(self.hosts.read_text() + f"{address} {name}\n")
        fresh.replace(self.hosts)

    async def serve(self, name: str, handler: Any, port: int = 9080) -> str:
        address = loopback_address()
        server = HttpServer(handler)
        await server.start(address, port)
        self.servers.append(server)
        self.name(name, address)
        return address

    def dialer(self, outbound: str | None = None) -> Dialer:
        return Dialer(Names(str(self.hosts)), outbound)

    async def app(self, service: str, version: str = "v1", outbound: str | None = None) -> Callable[[str], Any]:
        """Serves the service in this process; returns an async getter of (status, body)."""
        address = await self.serve(f"the-{service}", handler(service, version, self.dialer(outbound), {}))
        return lambda path: http_get(address, 9080, path, 20)


@contextlib.asynccontextmanager
async def town(tmp_path: Path) -> AsyncIterator[Town]:
    place = Town(tmp_path)
    try:
        yield place
    finally:
        for server in place.servers:
            await server.close(0)


in_town = told_in(town)


@in_town
async def test_the_page_shows_the_stars_of_both_reviewers(place):
    await place.serve("details", Upstream(reply(200, BOOK)))
    await place.serve("ratings", Upstream(reply(200, STARS)))
    await place.serve("reviews", handler("reviews", "v3", place.dialer(), {}))
    status, page = await (await place.app("productpage"))("/productpage")
    assert status == 200
    assert page.count(b'<font color="red">') == 2
    assert (page.count(b'glyphicon-star"'), page.count(b"glyphicon-star-empty")) == (9, 1)


@pytest.mark.parametrize(("version", "color"), [("v2", "black"), ("v3", "red")])
@in_town
async def test_reviews_versions_differ_in_colour(place, version, color):
    await place.serve("ratings", Upstream(reply(200, STARS)))
    _, body = await (await place.app("reviews", version))("/reviews/0")
    found = [review["rating"] for review in json.loads(body)["reviews"]]
    assert found == [{"stars": 5, "color": color}, {"stars": 4, "color": color}]


@in_town
async def test_reviews_v1_asks_nobody(place):
    ratings = Upstream(reply(200, STARS))
    await place.serve("ratings", ratings)
    status, body = await (await place.app("reviews", "v1"))("/reviews/0")
    assert (status, ratings.seen) == (200, [])
    assert all("rating" not in review for review in json.loads(body)["reviews"])


@pytest.mark.parametrize("answer", [reply(503, {}), reply(500, {"error": "x"}), reply(200, {"no": "ratings"})])
@in_town
async def test_a_failed_rating_becomes_a_text_and_the_page_stays_200(place, answer):
    ratings = Upstream(answer)
    await place.serve("ratings", ratings)
    await place.serve("details", Upstream(reply(200, BOOK)))
    await place.serve("reviews", handler("reviews", "v3", place.dialer(), {}))
    status, page = await (await place.app("productpage"))("/productpage")
    assert (status, page.count(b"Ratings service is currently unavailable")) == (200, 2)
    assert len(ratings.seen) == 1


@in_town
async def test_an_unknown_name_fails_even_where_a_sidecar_would_take_the_request(place):
    sidecar = Upstream(reply(200, STARS))
    address = await place.serve("somebody-else", sidecar)
    _, body = await (await place.app("reviews", "v3", outbound=address))("/reviews/0")
    assert (sidecar.seen, b"currently unavailable" in body) == ([], True)
    place.name("ratings", "127.255.0.9")
    _, body = await (await place.app("reviews", "v3", outbound=address))("/reviews/0")
    assert (sidecar.seen[0].headers["host"], b"unavailable" in body) == ("ratings:9080", False)


@in_town
async def test_reviews_are_asked_twice_before_the_page_gives_up(place):
    reviews = Upstream(reply(503, {}))
    await place.serve("reviews", reviews)
    await place.serve("details", Upstream(reply(200, BOOK)))
    productpage = await place.app("productpage")
    status, page = await productpage("/productpage")
    assert (status, len(reviews.seen)) == (200, 2)
    assert b"Sorry, product reviews are currently unavailable for this book." in page
    assert (await productpage("/api/v1/products/0/reviews"))[0] == 503


@in_town
async def test_a_second_try_of_reviews_saves_the_page(place):
    reviews = Upstream(reply(503, {}), reviews_with({"stars": 3, "color": "red"}))
    await place.serve("reviews", reviews)
    await place.serve("details", Upstream(reply(200, BOOK)))
    _, page = await (await place.app("productpage"))("/productpage")
    assert (len(reviews.seen), page.count(b'glyphicon-star"')) == (2, 3)


class Silent:
    """An upstream that never answers; `asked` is set as soon as it was asked."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def __call__(self, _request: Request) -> Response:
        self.asked.set()
        await asyncio.Event().wait()
        raise AssertionError


@in_town
async def test_a_slow_upstream_is_given_up(place):
    silent = Silent()
    await place.serve("ratings", silent)
    with pytest.raises(TimeoutError):
        await HttpClient(place.dialer()).get("ratings", 9080, "/ratings/0", {}, timeout=0.05)
    assert silent.asked.is_set()


@in_town
async def test_headers_go_on_as_the_originals_hand_them_on(place):
    sent = {name: f"value-{name}" for name in FORWARDED} | {"x-secret": "no", "connection": "close"}
    ratings = Upstream(reply(200, STARS))
    await place.serve("ratings", ratings)
    address = await place.serve("reviews", handler("reviews", "v3", place.dialer(), {}))
    client = HttpClient(place.dialer())
    await client.get(address, 9080, "/reviews/0", sent, 5)
    got = ratings.seen[0].headers
    assert {name: got.get(name) for name in FORWARDED} == {name: f"value-{name}" for name in FORWARDED}
    assert "x-secret" not in got


@in_town
async def test_the_user_who_logged_in_is_the_end_user_of_every_call(place):
    reviews = Upstream(reviews_with({"stars": 1, "color": "red"}))
    await place.serve("reviews", reviews)
    await place.serve("details", Upstream(reply(200, BOOK)))
    address = await place.serve("productpage", handler("productpage", "v1", place.dialer(), {}))
    await HttpClient(place.dialer()).get(address, 9080, "/productpage", {"cookie": "a=b; session=jason"}, 5)
    assert reviews.seen[0].headers["end-user"] == "jason"


@in_town
async def test_a_kept_connection_that_was_closed_is_replaced_without_an_error(place):
    address = await place.serve("ratings", Upstream(reply(200, STARS)))
    client = HttpClient(place.dialer())
    assert (await client.get("ratings", 9080, "/ratings/0", {}, 5))[0] == 200
    first = place.servers.pop()
    await first.close()
    again = HttpServer(Upstream(reply(201, STARS)))
    await again.start(address, 9080)
    place.servers.append(again)
    assert (await client.get("ratings", 9080, "/ratings/0", {}, 5))[0] == 201


@contextlib.asynccontextmanager
async def answering_once(last_words: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """(address, requests that came) of a server that answers once on a connection; the next time it says less."""
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        with contextlib.suppress(asyncio.IncompleteReadError):
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(last_words)
        writer.close()

    address = loopback_address()
    async with await asyncio.start_server(answer, address, 9080):
        yield address, seen


@in_town
async def test_a_request_is_repeated_if_a_kept_connection_ended_without_a_word(place):
    async with answering_once(b"") as (address, seen):
        client = HttpClient(place.dialer())
        assert await client.get(address, 9080, "/", {}, 5) == (200, b"{}")
        assert await client.get(address, 9080, "/", {}, 5) == (200, b"{}")
    assert len(seen) == 3


@in_town
async def test_a_request_is_not_repeated_once_an_answer_has_begun(place):
    async with answering_once(b"HTTP/1.1 200 OK\r\n") as (address, seen):
        client = HttpClient(place.dialer())
        assert await client.get(address, 9080, "/", {}, 5) == (200, b"{}")
        with pytest.raises(ConnectionError):
            await client.get(address, 9080, "/", {}, 5)
    assert len(seen) == 2


@pytest.fixture
def hosts(tmp_path) -> dict[str, str]:
    addresses = {name: loopback_address() for name in ("ratings", "mongodb")}
    (tmp_path / "hosts").write_text("".join(f"{address} {name}\n" for name, address in addresses.items()))
    return addresses


@contextlib.contextmanager
def program(service: str, version: str, directory: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """The real program of one container."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LAB_LISTEN": address, "LAB_HOSTS": str(directory / "hosts")}
    argv = [sys.executable, "-s", "-S", "-m", "lab.apps.bookinfo", service, version]
    process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def line_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout
    return process.stdout.readline().decode().rstrip("\n")


@pytest.fixture
def ratings_v2(tmp_path, hosts) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], tuple[int, bytes]]]]:
    """(the program of ratings v2, what it answers)."""
    with program("ratings", "v2", tmp_path, hosts["ratings"]) as ratings:
        assert line_of(ratings) == "Server listening on: http://0.0.0.0:9080"
        yield ratings, lambda: asyncio.run(http_get(hosts["ratings"], 9080, "/ratings/0", 10))


def test_ratings_v2_reads_mongodb_and_says_when_it_cannot(ratings_v2, tmp_path, hosts):
    ratings, get = ratings_v2
    status, body = get()
    assert (status, json.loads(body)) == (500, {"error": "could not connect to ratings database"})
    assert line_of(ratings) == "GET /ratings/0"
    with program("mongodb", "v1", tmp_path, hosts["mongodb"]) as mongo:
        line_of(mongo)
        assert asyncio.run(accepts(hosts["mongodb"], 27017, 5))
        status, body = get()
    # 54 bytes of body: what the captured access logs of the ratings sidecars show.
    assert (status, json.loads(body), len(body)) == (200, STARS, 54)


def test_sigterm_ends_a_service_politely(tmp_path, hosts):
    with program("ratings", "v1", tmp_path, hosts["ratings"]) as ratings:
        line_of(ratings)
        ratings.terminate()
        assert ratings.wait(10) == 0
