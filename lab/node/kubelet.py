"""The node's kubelet API: logs and exec, for the API server."""

from __future__ import annotations

import time
from datetime import datetime

from aiohttp import web

from lab.node.exec import serve_exec
from lab.node.logs import ContainerLog, LogQuery
from lab.node.node import Node
from lab.node.pod import Container, PodRunner

PORT = 10250


def _true(value: str | None) -> bool:
    return value is not None and value not in ("false", "False", "0")


def _nanoseconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return int(moment.timestamp() * 1_000_000) * 1000


def log_query(query: dict[str, str]) -> LogQuery:
    """What a log request asks for; ValueError names the parameter that says nonsense."""

    def number(name: str, least: int) -> int | None:
        if name not in query:
            return None
        value = int(query[name])
        if value < least:
            raise ValueError(f"{name} must be greater than or equal to {least}")
        return value

    since: int | None = None
    if "sinceTime" in query:
        since = _nanoseconds(query["sinceTime"])
    elif (seconds := number("sinceSeconds", 1)) is not None:
        since = time.time_ns() - seconds * 1_000_000_000
    return LogQuery(
        follow=_true(query.get("follow")),
        tail=number("tailLines", 0),
        since=since,
        timestamps=_true(query.get("timestamps")),
        limit=number("limitBytes", 1),
    )


class Kubelet:
    """Serves http://<node address>:10250."""

    def __init__(self, node: Node) -> None:
        self.node = node
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_route("*", "/exec/{namespace}/{pod}/{container}", self._exec)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.2)

    async def start(self) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, self.node.address, PORT).start()

    async def close(self) -> None:
        await self._runner.cleanup()

    def _container(self, request: web.Request) -> tuple[PodRunner, Container]:
        names = request.match_info
        runner = self.node.runner(names["namespace"], names["pod"])
        if runner is None:
            raise web.HTTPNotFound(text=f'pod "{names["pod"]}" is not on node {self.node.name}')
        container = runner.containers.get(names["container"])
        if container is None:
            raise web.HTTPNotFound(text=f"container {names['container']} is not valid for pod {names['pod']}")
        return runner, container

    async def _health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    def _log(self, container: Container, pod: str, previous: bool) -> ContainerLog:
        name = container.name
        if previous:
            # While the next run is waited for, the one that ended last is both: the log and the previous log.
            if container.log and "waiting" in container.state.state:
                return container.log
            if container.previous is None:
                raise web.HTTPBadRequest(text=f'previous terminated container "{name}" in pod "{pod}" not found')
            return container.previous
        if container.log is None:
            reason = container.state.state.get("waiting", {}).get("reason", "ContainerCreating")
            raise web.HTTPBadRequest(text=f'container "{name}" in pod "{pod}" is waiting to start: {reason}')
        return container.log

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        runner, container = self._container(request)
        found = self._log(container, runner.name, _true(request.query.get("previous")))
        try:
            query = log_query(dict(request.query))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from None
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        answer.enable_chunked_encoding()
        await answer.prepare(request)
        async for block in found.read(query):
            await answer.write(block)
        await answer.write_eof()
        return answer

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        runner, container = self._container(request)
        if not container.state.running:
            text = f'unable to upgrade connection: container not found ("{container.name}")'
            raise web.HTTPInternalServerError(text=text)
        command = request.query.getall("command", [])
        if not command:
            raise web.HTTPBadRequest(text="you must specify at least 1 command for the container")
        wanted = {name for name in ("stdin", "stdout", "stderr", "tty") if _true(request.query.get(name))}
        return await serve_exec(request, runner, container, command, wanted)
