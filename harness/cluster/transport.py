"""HTTP to one API server: the kubeconfig's credentials, timeouts, retries of what is safe to repeat, errors for people.

The official client reads the kubeconfig (tokens, client certificates, exec plugins, proxies) and holds the
connections; requests are plain paths and dicts, so nothing depends on generated models.
"""

from __future__ import annotations

import contextlib
import copy
import json
import random
import re
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import urllib3
from kubernetes.client import ApiClient, Configuration

from harness.cluster import credentials
from harness.cluster.clock import ServerClock
from harness.cluster.credentials import Credentials
from harness.cluster.errors import (
    FAILED_WEBHOOK,
    CertificateError,
    CertificateNotInForce,
    CertificateOfAnotherHost,
    ClusterError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    KubeconfigError,
    NotFound,
    QuotaExceeded,
    ServerError,
    Unauthorized,
    Unreachable,
    WebhookFailed,
)
from harness.run.redact import redacted_text
from harness.run.waiting import Cancelled, Deadline, pause

Object = dict[str, Any]
Objects = list[Object]
T = TypeVar("T")
CONNECT_SECONDS = 10
READ_SECONDS = 30
RETRY_SECONDS = 30.0  # patience with an API server that restarts or is overloaded
GONE_SECONDS = 2.0  # time for a try once all patience was in vain: until there is an answer again
_GONE_PATIENCE = 1.0
_TRANSIENT = frozenset({429, 500, 502, 503, 504})
# Server-side apply answers 500 to an object that does not fit its schema; asking again would not help.
_WRONG_OBJECT = "failed to create typed patch object"


# X509_V_ERR_* of OpenSSL; what is not here has to do with who signed the certificate.
_BY_VERIFY_CODE: dict[int, type[CertificateError]] = {
    9: CertificateNotInForce,
    10: CertificateNotInForce,
    62: CertificateOfAnotherHost,
    64: CertificateOfAnotherHost,
}


_CONNECTION = re.compile(r"^HTTPS?Connection(Pool)?\(host='[^']*', port=[^)]*\): ")

# Takes an error that is passed over while something is tried again, and None when that has succeeded.
Told = Callable[[ClusterError | None], object]
_BY_STATUS = {400: Invalid, 401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict, 410: Gone, 422: Invalid}


class Transport:
    """One authenticated way to one API server. Thread-safe.

    mesh: name used in every error; patience: for how many seconds a request that is safe to repeat is repeated;
    clock: how far the server's is ahead of ours, by its answers.
    Raises KubeconfigError where the file or the context cannot be used.
    """

    def __init__(
        self, mesh: str, kubeconfig: Path, context: str | None = None, patience: float = RETRY_SECONDS
    ) -> None:
        self.mesh, self.kubeconfig, self.context, self.patience = mesh, kubeconfig, context, patience
        self._lock = threading.RLock()  # a signal handler may interrupt its own thread in here
        self._open: set[urllib3.BaseHTTPResponse] = set()
        self._asked: dict[Future[Any], bool] = {}
        self.cancelled = threading.Event()
        self.clock = ServerClock()
        self.closed = False
        self.gone: set[str] = set()  # resources asked for in vain and not answered since, '' for the server
        self._credentials, self._client = self._load()

    def _load(self, refused: Credentials | None = None) -> tuple[Credentials, ApiClient]:
        try:
            found = credentials.load(self.kubeconfig, self.context, refused)
        except credentials.Unusable as error:
            where = f"{self.kubeconfig}" + (f", context {self.context}" if self.context else "")
            raise KubeconfigError(self.mesh, f"read kubeconfig {where}", str(error)) from error
        found.configuration.retries = False
        found.configuration.connection_pool_maxsize = 64
        with found.asking:
            return found, ApiClient(found.configuration)

    @property
    def configuration(self) -> Configuration:
        """A copy for one stream; its certificate files exist."""
        with self._credentials.asking:
            return copy.copy(self._credentials.configuration)

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self._client.configuration.host

    def headers(self) -> dict[str, str]:
        """The authentication headers of now; an exec plugin is asked again when its token says that it expired."""
        found = {"user-agent": "ossm-federation-conformance"}
        for setting in self._credentials.token().values():
            if setting["in"] == "header" and setting["value"]:
                found[setting["key"].lower()] = setting["value"]
        return found

    def interrupt(self, writes: bool = False) -> None:
        """Ends every open stream, wait and request, from any thread: they raise Cancelled. Later ones are not affected.

        A write in flight is left to end by itself, as what comes next must know what it did; with `writes` it is not.
        """
        with self._lock:
            streams, ended, self.cancelled = list(self._open), self.cancelled, threading.Event()
            asked = [answer for answer, safe in self._asked.items() if safe or writes]
        ended.set()
        for answer in asked:
            with contextlib.suppress(InvalidStateError):
                answer.set_exception(Cancelled())
        for stream in streams:
            self.release(stream)

    def close(self) -> None:
        self.closed = True
        self.interrupt()
        self._client.close()

    def release(self, response: urllib3.BaseHTTPResponse) -> None:
        """Ends one stream, from any thread: its reader wakes up."""
        with self._lock:
            self._open.discard(response)
        with contextlib.suppress(ValueError, RuntimeError, OSError):
            response.shutdown()
        response.close()

    def open(
        self,
        path: str,
        params: dict[str, str],
        read_timeout: float | None,
        cancelled: threading.Event | None = None,
        within: float | None = None,
        told: Told = lambda _: None,
    ) -> urllib3.BaseHTTPResponse:
        """A streaming GET; the caller ends it with `release`. Its opening is repeated as a request is.

        The stream is ended at once where `cancelled` was set before it could be known to `interrupt`. Raises
        ClusterError, Cancelled.
        """

        about = resource_of(path)

        def ask() -> urllib3.BaseHTTPResponse:
            response = self._send("GET", path, params, None, "", self._timeout(read_timeout, about))
            if response.status >= 400:
                raise self._refusal("GET", path, response)
            return response

        def open_once() -> urllib3.BaseHTTPResponse:
            return self.interruptible(ask, lambda response: response.close())

        response = self.persist(open_once, passes_by, within, cancelled, told, about)
        with self._lock:
            self._open.add(response)
        if cancelled and cancelled.is_set():
            self.release(response)
        return response

    def request(
        self,
        method: str,
        path: str,
        params: dict[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        repeat: bool | None = None,
        races: bool = False,
        within: float | None = None,
        cancelled: threading.Event | None = None,
        prompt: bool = False,
        told: Told = lambda _: None,
    ) -> Object:
        """One request and its decoded answer.

        `repeat`: whether it is safe to send twice (default: all but POST). What is, is sent again as `persist` says
        on 429, 5xx and lost connections. `races`: a conflict (409) can only mean that somebody else wrote at the same
        moment, so it is sent again too. `prompt`: the answer has to be there before the patience is over, while
        otherwise each try has its time. Raises ClusterError, Cancelled.
        """
        repeat, about = method != "POST" if repeat is None else repeat, resource_of(path)

        def ask() -> bytes:
            timeout = self._timeout(min(READ_SECONDS, max(self.patience, GONE_SECONDS)), about)
            response = self._send(method, path, params or {}, body, content_type, timeout)
            if response.status >= 400:
                raise self._refusal(method, path, response)
            return self._content(method, path, response)

        def again(error: ClusterError) -> bool:
            return error.status == 429 or (repeat and (passes_by(error) or (races and error.status == 409)))

        deadline, last = Deadline(self.patience), None

        def ask_once() -> bytes:
            nonlocal last
            try:
                seconds = deadline.left if prompt else None
                return self.interruptible(ask, safe=method in ("GET", "DELETE"), seconds=seconds)
            except TimeoutError as error:
                detail = f"no answer within {deadline.timeout:.0f} s"
                raise last or Unreachable(self.mesh, self._what(method, path), detail) from error
            except ClusterError as error:
                last = error
                raise

        raw = self.persist(ask_once, again, within, cancelled, told, about)
        return json.loads(raw) if raw else {}

    def interruptible(
        self,
        ask: Callable[[], T],
        discard: Callable[[T], object] = lambda _: None,
        safe: bool = True,
        seconds: float | None = None,
    ) -> T:
        """What `ask` gives, which runs in a thread of its own so that `interrupt` need not wait for it.

        `discard`: what becomes of an answer that nobody waits for any more; `safe`: no write, see `interrupt`. Raises
        what `ask` raises, Cancelled, or TimeoutError after `seconds`.
        """
        answer: Future[T] = Future()

        def send() -> None:
            try:
                found = ask()
            except BaseException as error:
                with contextlib.suppress(InvalidStateError):
                    answer.set_exception(error)
                return
            try:
                answer.set_result(found)
            except InvalidStateError:
                discard(found)

        with self._lock:
            if self.closed:
                raise Cancelled
            self._asked[answer] = safe
        try:
            threading.Thread(target=send, daemon=True, name=f"request {self.mesh}").start()
            return answer.result(seconds)
        finally:
            answer.cancel()
            with self._lock:
                del self._asked[answer]

    def persist(
        self,
        attempt: Callable[[], T],
        again: Callable[[ClusterError], bool],
        within: float | None = None,
        cancelled: threading.Event | None = None,
        told: Told = lambda _: None,
        about: str = "",
    ) -> T:
        """What `attempt` gives, tried again after each error that `again` says yes to, as long as the patience lasts.

        At the server's Retry-After where it gives one; `within`: seconds, where there is less time than the patience.
        Where all patience was in vain, a server gets little of it until the resource that this was `about` is answered:
        what was found unanswered once is not waited for again, and other resources do not wait one after the other.
        After a refused token (401) the kubeconfig is read again, once. `cancelled`: of whom this is done for, if that
        began earlier; `told` of each error that is passed over, and of None when that is over. Raises the last one, or
        Cancelled.
        """
        gone = about in self.gone
        patience = self.patience_left if gone or within is None else self.patience
        deadline = Deadline(patience if within is None else min(patience, within))
        cancelled, renewed, tries = cancelled or self.cancelled, False, 0
        while True:
            tries += 1
            used = self._credentials
            try:
                found = attempt()
                self.gone -= {"", about}
                if tries > 1:
                    told(None)
                return found
            except Unauthorized:
                if renewed:
                    raise
                renewed, wait = True, 0.0
                self._renew(used)
            except ClusterError as error:
                if deadline.passed or not again(error):
                    if not passes_by(error):
                        self.gone -= {"", about}
                    elif deadline.passed and (gone or within is None) and not isinstance(error, WebhookFailed):
                        self.gone |= {"", about}
                        error.lasting = True
                    raise
                wait = min(0.1 * 2**tries, 5.0) * random.uniform(0.5, 1)
                wait = min(wait if error.retry_after is None else error.retry_after, deadline.left)
                told(error)
            pause(wait, cancelled)

    @property
    def patience_left(self) -> float:
        """For how many seconds something is asked for again: little while anything was asked for in vain."""
        return min(max(self.patience / 30, 0.3), self.patience, _GONE_PATIENCE) if self.gone else self.patience

    def try_seconds(self, about: str, seconds: float) -> float:
        """How long one try may take that has `seconds` as long as all is well."""
        if self.gone & {"", about}:
            return min(seconds, GONE_SECONDS, max(self.patience / 3, 0.5))
        return min(seconds, CONNECT_SECONDS) if self.gone else seconds

    def _timeout(self, read: float | None, about: str) -> urllib3.Timeout:
        return urllib3.Timeout(
            connect=self.try_seconds(about, CONNECT_SECONDS), read=read and self.try_seconds(about, read)
        )

    def _renew(self, refused: Credentials) -> None:
        fresh = self._load(refused)
        with self._lock:
            self._credentials, self._client = fresh

    def _send(
        self, method: str, path: str, params: dict[str, str], body: Any, content_type: str, timeout: urllib3.Timeout
    ) -> urllib3.BaseHTTPResponse:
        client, headers = self._client, self.headers()
        if body is not None:
            headers["content-type"] = content_type
        query, asked = f"?{urlencode(params)}" if params else "", time.time()
        try:
            response = client.rest_client.pool_manager.request(
                method,
                client.configuration.host + path + query,
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=timeout,
                preload_content=False,
                retries=False,
            )
            self._read_clock(response, asked)
            return response
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(method, path, error) from error

    def _read_clock(self, response: urllib3.BaseHTTPResponse, asked: float) -> None:
        with contextlib.suppress(KeyError, ValueError, TypeError):
            told = parsedate_to_datetime(response.headers["date"])
            self.clock.heard(told.timestamp(), asked, time.time())

    def _content(self, method: str, path: str, response: urllib3.BaseHTTPResponse) -> bytes:
        try:
            return response.data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._unreachable(method, path, error) from error

    def _what(self, method: str, path: str) -> str:
        context = f" (context {self.context})" if self.context else ""
        return f"{method} {self.server}{path}{context}"

    def _unreachable(self, method: str, path: str, error: Exception) -> Unreachable:
        what = self._what(method, path)
        if cause := _verification(error):
            kind = _BY_VERIFY_CODE.get(cause.verify_code, CertificateError)
            return kind(self.mesh, what, f"its certificate is not believed: {cause.verify_message.rstrip('.')}")
        return Unreachable(self.mesh, what, f"no answer: {redacted_text(_words(error))}")

    def _refusal(self, method: str, path: str, response: urllib3.BaseHTTPResponse) -> ClusterError:
        raw = self._content(method, path, response)
        return self.refusal(self._what(method, path), response.status, raw, response.headers.get("retry-after", ""))

    def refusal(self, what: str, status: int, raw: bytes, retry_after: str = "") -> ClusterError:
        """The error for an answer of 400 and more: `raw` is its body, `retry_after` its header of that name."""
        unserved = status == 404
        try:
            said = json.loads(raw)
            detail, unserved = said.get("message", ""), unserved and not (said.get("details") or {}).get("name")
        except (ValueError, AttributeError):
            detail = raw[:300].decode(errors="replace").strip()
        error = _class_of(status, detail)(self.mesh, what, f"{status} {detail}".strip(), status)
        error.lasting |= unserved
        error.retry_after = float(retry_after) if retry_after.isdigit() else None
        return error


def _class_of(status: int, detail: str) -> type[ClusterError]:
    """Which error an answer of 400 and more is, by its status and message."""
    if _WRONG_OBJECT in detail:
        return Invalid
    if status == 403 and "exceeded quota" in detail:
        return QuotaExceeded
    if status >= 500 and FAILED_WEBHOOK.search(detail):
        return WebhookFailed
    return _BY_STATUS.get(status, ServerError)


def resource_of(path: str) -> str:
    """Of a path of the API what it is about, without names: `pods`, `pods/exec`, a group's own path."""
    parts = path.strip("/").split("/")
    parts = parts[2:] if parts[0] == "api" else parts[3:]
    if parts[:1] == ["namespaces"] and len(parts) > 2:
        parts = parts[2:]
    return "/".join([*parts[:1], *parts[2:3]]) or path


def passes_by(error: ClusterError) -> bool:
    """Whether asking again may help where that is safe: an API server that is busy, restarts or was not reached."""
    if isinstance(error, Unreachable):
        return not isinstance(error, CertificateError)
    return error.status in _TRANSIENT and not isinstance(error, Invalid)


def _words(error: BaseException) -> str:
    """What urllib3 says, without its own connection before it: host and port are told anyway."""
    if not isinstance(error, urllib3.exceptions.HTTPError):
        return str(error)
    said = [str(part).rstrip(".") for part in error.args if not isinstance(part, urllib3.connection.HTTPConnection)]
    return _CONNECTION.sub("", ": ".join(said))


def _verification(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """What Python says of a certificate that it did not believe: urllib3 wraps it, behind a proxy more than once."""
    found: BaseException | None = error
    while found:
        if isinstance(found, ssl.SSLCertVerificationError):
            return found
        found = next((part for part in found.args if isinstance(part, BaseException)), found.__context__)
    return None
