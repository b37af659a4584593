"""The services of the bookinfo application: `python -m lab.apps.bookinfo SERVICE VERSION`.

SERVICE is productpage, details, reviews, ratings or mongodb; VERSION such as `v1` decides what it does
(reviews v1 asks no ratings, v2 shows black stars, v3 red ones; ratings v2 asks mongodb).

Environment: LAB_LISTEN (address to listen on), LAB_OUTBOUND (where the sidecar takes requests; without it they go
to their targets directly), LAB_HOSTS (hosts file), POD_IP (address to send from), MONGO_DB_URL,
PRODUCTPAGE_PORT and the like are fixed as in the product: 9080, mongodb 27017.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

from lab.apps.pages import INDEX_PAGE, NO_DETAILS, NO_RATINGS, NO_REVIEWS, PRODUCT, product_page
from lab.apps.wire import Dialer, Handler, HttpClient, HttpServer, Names, Request, Response

HTTP_PORT = 9080
MONGO_PORT = 27017
# What the bookinfo of OSSM 2.1 to 2.3 hands on from request to request.
_FORWARDED = """
x-request-id x-ot-span-context x-datadog-trace-id x-datadog-parent-id x-datadog-sampling-priority traceparent
tracestate x-cloud-trace-context grpc-trace-bin user-agent end-user x-b3-traceid x-b3-spanid x-b3-parentspanid
x-b3-sampled x-b3-flags b3
"""
FORWARDED = frozenset(_FORWARDED.split())
CALL_TIMEOUT = 3.0  # seconds productpage waits for each of details, reviews and ratings
RATINGS_TIMEOUT = {"black": 10.0}  # seconds reviews waits, by star colour; every other colour:
RATINGS_TIMEOUT_OTHER = 2.5
MONGO_TIMEOUT = 5.0
# The line protocol that stands for MongoDB's: a line asks, 4 bytes answer. The question is as long as the header of
# every MongoDB message: a sidecar's TLS inspector waits for 5 bytes before it takes a connection for plaintext.
MONGO_QUESTION = b"ratings, please\n"
MONGO_ANSWER = b"5 4\n"


def say(line: str) -> None:
    """One line of the container's log."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def as_json(status: int, value: Any) -> Response:
    return Response(status, json.dumps(value).encode())


def forwarded(request: Request) -> dict[str, str]:
    """The headers that go on to the next service."""
    return {name: value for name, value in request.headers.items() if name in FORWARDED}


def not_found(request: Request) -> Response:
    return as_json(404, {"error": f"{request.target} is not here"})


class ProductPage:
    """The page and the JSON API in front of details, reviews and ratings."""

    def __init__(self, client: HttpClient) -> None:
        self.client = client

    async def _call(self, service: str, headers: dict[str, str], tries: int, apology: str) -> tuple[int, Any]:
        status = 500
        for _ in range(tries):
            try:
                status, body = await self.client.get(service, HTTP_PORT, f"/{service}/0", headers, CALL_TIMEOUT)
                if status == 200:
                    return 200, json.loads(body)
            except (OSError, ValueError):
                status = 500
        return status, {"error": apology}

    async def details(self, headers: dict[str, str]) -> tuple[int, Any]:
        return await self._call("details", headers, 1, NO_DETAILS)

    async def reviews(self, headers: dict[str, str]) -> tuple[int, Any]:
        return await self._call("reviews", headers, 2, NO_REVIEWS)

    async def ratings(self, headers: dict[str, str]) -> tuple[int, Any]:
        return await self._call(
            "ratings", headers, 1, "Sorry, product ratings are currently unavailable for this book."
        )

    async def _page(self, headers: dict[str, str]) -> Response:
        details = await self.details(headers)
        reviews = await self.reviews(headers)
        page = product_page(details, reviews, headers.get("end-user"))
        return Response(200, page, "text/html; charset=utf-8")

    async def _api(self, name: str, headers: dict[str, str]) -> Response:
        return as_json(*await {"": self.details, "reviews": self.reviews, "ratings": self.ratings}[name](headers))

    def __call__(self, request: Request) -> Any:
        path = urlsplit(request.target).path.rstrip("/")
        headers = forwarded(request)
        if user := _session_user(request):
            headers["end-user"] = user
        if path == "/productpage":
            return self._page(headers)
        if path == "/api/v1/products":
            return as_json(200, [PRODUCT])
        product, _, part = path.removeprefix("/api/v1/products/").partition("/")
        if path.startswith("/api/v1/products/") and product == "0" and part in ("", "reviews", "ratings"):
            return self._api(part, headers)
        if path in ("/login", "/logout"):
            return _session(request, path)
        if path in ("", "/index.html"):
            return Response(200, INDEX_PAGE, "text/html; charset=utf-8")
        if path == "/health":
            return Response(200, b"Product page is healthy", "text/html; charset=utf-8")
        return not_found(request)


def _session_user(request: Request) -> str | None:
    for pair in request.headers.get("cookie", "").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == "session" and value:
            return value
    return None


def _session(request: Request, path: str) -> Response:
    user = parse_qs(request.body.decode("latin-1")).get("username", [""])[0] if path == "/login" else ""
    user = "".join(letter for letter in user if letter.isalnum() or letter in "-_.@")
    back = request.headers.get("referer", "/productpage")
    return Response(302, b"", "text/html", (("location", back), ("set-cookie", f"session={user}; HttpOnly; Path=/")))


def details(request: Request) -> Response:
    """The details service."""
    parts = urlsplit(request.target).path.split("/")
    if parts[1:] == ["health"]:
        return as_json(200, {"status": "Details is healthy"})
    if len(parts) != 3 or parts[1] != "details":
        return not_found(request)
    if not parts[2].isdigit():
        return as_json(400, {"error": "please provide numeric product id"})
    book = {"id": int(parts[2]), "author": "William Shakespeare", "year": 1595, "type": "paperback", "pages": 200}
    book |= {"publisher": "PublisherA", "language": "English", "ISBN-10": "1234567890", "ISBN-13": "123-1234567890"}
    return as_json(200, book)


class Reviews:
    """The reviews service; `colour` of its stars, None where it does not ask for ratings."""

    def __init__(self, client: HttpClient, colour: str | None) -> None:
        self.client, self.colour = client, colour
        self.timeout = RATINGS_TIMEOUT.get(colour or "", RATINGS_TIMEOUT_OTHER)

    def __call__(self, request: Request) -> Any:
        parts = urlsplit(request.target).path.split("/")
        if parts[1:] == ["health"]:
            return as_json(200, {"status": "Reviews is healthy"})
        if len(parts) != 3 or parts[1] != "reviews":
            return not_found(request)
        if self.colour is None:
            return as_json(200, self._answer(parts[2], None))
        return self._with_ratings(parts[2], forwarded(request))

    def _answer(self, product: str, ratings: Any) -> Any:
        reviews: list[dict[str, Any]] = [
            {"reviewer": "Reviewer1", "text": "Two pairs of twins, one town, and not a dull page."},
            {"reviewer": "Reviewer2", "text": "Light and quick; the merchant's sorrow gives it weight."},
        ]
        if ratings is not None:
            for review in reviews:
                stars = ratings.get(review["reviewer"]) if isinstance(ratings, dict) else None
                found = {"stars": stars, "color": self.colour} if stars is not None else {"error": NO_RATINGS}
                review["rating"] = found
        return {"id": product, "reviews": reviews}

    async def _with_ratings(self, product: str, headers: dict[str, str]) -> Response:
        failure = ""
        ratings: Any = {}
        try:
            status, body = await self.client.get("ratings", HTTP_PORT, f"/ratings/{product}", headers, self.timeout)
            if status == 200:
                ratings = json.loads(body)["ratings"]
            else:
                failure = f"got status of {status}"
        except (OSError, ValueError, KeyError, TypeError) as error:
            failure = f"got exception {error or type(error).__name__}"
        if failure:
            say(f"Error: unable to contact http://ratings:{HTTP_PORT}/ratings {failure}")
        return as_json(200, self._answer(product, ratings))


class Ratings:
    """The ratings service; with a `dialer` it asks mongodb over a fresh connection each time."""

    def __init__(self, dialer: Dialer | None = None, mongo: tuple[str, int] = ("mongodb", MONGO_PORT)) -> None:
        self.dialer, self.mongo = dialer, mongo

    def __call__(self, request: Request) -> Any:
        parts = urlsplit(request.target).path.split("/")
        if parts[1:] == ["health"]:
            return as_json(200, {"status": "Ratings is healthy"})
        if len(parts) != 3 or parts[1] != "ratings":
            return not_found(request)
        say(f"{request.method} {request.target}")
        if not parts[2].isdigit():
            return as_json(400, {"error": "please provide numeric product ID"})
        product = int(parts[2])
        return self._answer(product, 5, 4) if self.dialer is None else self._from_mongo(self.dialer, product)

    def _answer(self, product: int, first: int, second: int) -> Response:
        return as_json(200, {"id": product, "ratings": {"Reviewer1": first, "Reviewer2": second}})

    async def _from_mongo(self, dialer: Dialer, product: int) -> Response:
        try:
            async with asyncio.timeout(MONGO_TIMEOUT):
                raw = await _ask_mongo(dialer, self.mongo)
        except OSError as error:
            say(f"MongoNetworkError: {error or 'timed out'}")
            return as_json(500, {"error": "could not connect to ratings database"})
        try:
            first, second = map(int, raw.split())
        except ValueError:
            return as_json(500, {"error": "could not load ratings from database"})
        return self._answer(product, first, second)


async def _ask_mongo(dialer: Dialer, mongo: tuple[str, int]) -> bytes:
    loop = asyncio.get_running_loop()
    with await dialer.connect(*mongo) as sock:
        await loop.sock_sendall(sock, MONGO_QUESTION)
        raw = b""
        while not raw.endswith(b"\n"):
            more = await loop.sock_recv(sock, 64)
            if not more:
                raise ConnectionResetError(f"connection to {mongo[0]}:{mongo[1]} closed")
            raw += more
        return raw


class MongoServer(asyncio.Protocol):
    """Answers every question, which is a line, with the ratings of the two reviewers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for _ in range(data.count(b"\n")):
            self.transport.write(MONGO_ANSWER)


def handler(service: str, version: str, dialer: Dialer, environment: dict[str, str]) -> Handler:
    """The HTTP service of that name and version; ValueError for others."""
    number = version.partition("-")[0]
    if service == "productpage":
        return ProductPage(HttpClient(dialer))
    if service == "details":
        return details
    if service == "reviews":
        colour = {"v1": None, "v2": "black", "v3": "red"}.get(number, "red")
        return Reviews(HttpClient(dialer), colour)
    if service == "ratings":
        if number == "v1":
            return Ratings()
        url = urlsplit(environment.get("MONGO_DB_URL", "mongodb://mongodb:27017/test"))
        return Ratings(dialer, (url.hostname or "mongodb", url.port or MONGO_PORT))
    raise ValueError(f"bookinfo has no service {service}")


async def serve(service: str, version: str, environment: dict[str, str]) -> None:
    """Serves until SIGTERM or SIGINT; open requests are finished."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    host = environment.get("LAB_LISTEN", "127.0.0.1")
    if service == "mongodb":
        mongo = await loop.create_server(MongoServer, host, MONGO_PORT, backlog=1024)
        say(f"waiting for connections on port {MONGO_PORT}")
        await stop.wait()
        mongo.close()
        return
    dialer = Dialer(Names(environment.get("LAB_HOSTS")), environment.get("LAB_OUTBOUND"), environment.get("POD_IP"))
    server = HttpServer(handler(service, version, dialer, environment))
    await server.start(host, HTTP_PORT)
    say(f"Server listening on: http://0.0.0.0:{HTTP_PORT}")
    await stop.wait()
    await server.close()


def main() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1], sys.argv[2], dict(os.environ)))


if __name__ == "__main__":
    main()
