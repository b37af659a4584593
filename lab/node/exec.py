"""exec over WebSocket: the channel protocol v4 and v5 of Kubernetes, one byte of channel before each message."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
from typing import Any

from aiohttp import WSMsgType, web

from lab.node.pod import Container, PodRunner
from lab.node.process import Process, output_pipe

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, STDOUT, STDERR, ERROR, CLOSE = 0, 1, 2, 3, 255
_PIECE = 32 * 1024


def final_status(code: int) -> dict[str, Any]:
    """What channel 3 says at the end of a command with this exit code."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def failed_start(command: str) -> dict[str, Any]:
    """What channel 3 says where the command is not there."""
    message = f'error executing command in container: exec: "{command}": executable file not found in $PATH'
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


class _Stdin:
    """Feeds the command; writing never blocks the node."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._transport: asyncio.WriteTransport | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(self._fd, "wb", 0))

    def write(self, data: bytes) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.close()


async def serve_exec(
    request: web.Request, runner: PodRunner, container: Container, command: list[str], wanted: set[str]
) -> web.StreamResponse:
    """Runs `command` beside a container; `wanted` of stdin, stdout, stderr, tty (a tty joins both outputs)."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=0)
    if not socket.can_prepare(request).ok:
        raise web.HTTPBadRequest(text="unable to upgrade: missing upgrade headers in request")
    await socket.prepare(request)
    if "tty" in wanted:
        wanted = wanted - {"stderr"}
    if shutil.which(command[0], path=container.env["PATH"]) is None:
        await _say_error(socket, failed_start(command[0]))
        return socket
    output: asyncio.Queue[bytes | None] = asyncio.Queue()
    writers: dict[int, int] = {}
    for channel, name in ((STDOUT, "stdout"), (STDERR, "stderr")):
        if name in wanted:
            writers[channel] = await _channel_pipe(channel, output)
    stdin: _Stdin | None = None
    stdin_end = subprocess.DEVNULL
    if "stdin" in wanted:
        stdin_end, feeding = os.pipe()
        stdin = _Stdin(feeding)
        await stdin.open()
    joined = subprocess.STDOUT if "tty" in wanted else subprocess.DEVNULL
    try:
        process = Process.start(
            command,
            container.env,
            runner.context.directory,
            stdout=writers.get(STDOUT, subprocess.DEVNULL),
            stderr=writers.get(STDERR, joined),
            stdin=stdin_end,
        )
    except OSError:
        await _say_error(socket, final_status(126))
        return socket
    finally:
        for fd in [*writers.values(), *([stdin_end] if stdin else [])]:
            os.close(fd)
    runner.helpers.add(process)
    listener = asyncio.ensure_future(_listen(socket, process, stdin))
    try:
        open_pipes = len(writers)
        while open_pipes:
            piece = await output.get()
            if piece is None:
                open_pipes -= 1
            else:
                await socket.send_bytes(piece)
        returned = await asyncio.shield(process.exited)
        code = returned if returned >= 0 else 128 - returned
        await _say_error(socket, final_status(code))
    except ConnectionError:
        process.kill()
    finally:
        listener.cancel()
        process.kill()
        runner.helpers.discard(process)
        if stdin:
            stdin.close()
    return socket


async def _say_error(socket: web.WebSocketResponse, status: dict[str, Any]) -> None:
    await socket.send_bytes(bytes([ERROR]) + json.dumps(status).encode())
    await socket.close()


async def _channel_pipe(channel: int, output: asyncio.Queue[bytes | None]) -> int:
    def on_data(data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            output.put_nowait(bytes([channel]) + data[start : start + _PIECE])

    return await output_pipe(on_data, lambda: output.put_nowait(None))


async def _listen(socket: web.WebSocketResponse, process: Process, stdin: _Stdin | None) -> None:
    """Takes stdin from the client; a client that leaves takes the command with it."""
    with contextlib.suppress(ConnectionError):
        async for message in socket:
            if message.type is not WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == STDIN and stdin:
                stdin.write(data)
            elif channel == CLOSE and data[:1] == bytes([STDIN]) and stdin:
                stdin.close()
    process.kill()
