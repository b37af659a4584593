"""The watch of one peer: an endless request, begun again whenever it ends, and full resyncs beside it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import aiohttp
import orjson

from lab.istiod.federation.client import DiscoveryClient, DiscoveryError, status_line
from lab.istiod.federation.logs import ComponentLog
from lab.istiod.federation.messages import ExportedService, Gateways, decode_list
from lab.istiod.federation.objects import PeerSpec
from lab.istiod.federation.status import PeerStatus

log = ComponentLog("federation-registry")
_FIRST_PAUSE, _GROWTH, _JITTER, _LONGEST_PAUSE = 0.5, 1.5, 0.5, 60.0
_RETRY_EVERY = 1.0


class Backoff:
    """Seconds to wait between attempts: from 0.5, each time half as much again, at most 60; spread by half."""

    def __init__(self) -> None:
        self._pause = _FIRST_PAUSE

    def reset(self) -> None:
        self._pause = _FIRST_PAUSE

    def next(self) -> float:
        pause = self._pause * random.uniform(1 - _JITTER, 1 + _JITTER)
        self._pause = min(self._pause * _GROWTH, _LONGEST_PAUSE)
        return pause


@dataclass(frozen=True)
class Resyncs:
    """How the services of a peer are polled.

    every: seconds between two resyncs that nobody asked for; retry_for: seconds one that fails is tried again;
    allowed: while it says no, nothing is polled; held: entered for as long as a resync lasts.
    """

    every: float
    retry_for: float
    allowed: Callable[[], bool]
    held: Callable[[], AbstractContextManager[None]]


class PeerWatch:
    """Keeps the list of a peer's services current; `received` gets every list that was polled."""

    def __init__(
        self,
        peer: PeerSpec,
        client: DiscoveryClient,
        status: PeerStatus,
        received: Callable[[list[ExportedService], Gateways], Awaitable[None]],
        resyncs: Resyncs,
    ) -> None:
        self.peer = peer
        self._client, self._status, self._received, self._resyncs = client, status, received, resyncs
        self._backoff = Backoff()
        self._events: asyncio.Queue[int | None] = asyncio.Queue()
        self._syncing = asyncio.Lock()
        self._watch: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        addresses = " ".join(self.peer.addresses)
        log.info('initializing Federation service registry for "%s" at [%s]', self.peer.name, addresses)
        self._watch = asyncio.create_task(self._watch_forever(None))
        self._tasks = [asyncio.create_task(self._handle_events()), asyncio.create_task(self._resync_regularly())]

    def update(self, peer: PeerSpec) -> None:
        """Takes over an edited peer; the watch begins anew when it now leads elsewhere."""
        before, self.peer = self.peer, peer
        if (before.remote_checksum, before.egress) != (peer.remote_checksum, peer.egress):
            log.info("restarting watch for cluster %s", peer.name)
            old = self._watch
            if old:
                old.cancel()
            self._watch = asyncio.create_task(self._watch_forever(old))

    async def stop(self) -> None:
        tasks = [task for task in (self._watch, *self._tasks) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _watch_forever(self, predecessor: asyncio.Task[None] | None) -> None:
        if predecessor:
            await asyncio.wait([predecessor])
        try:
            while True:
                log.info("starting watch")
                try:
                    await self._watch_once()
                except DiscoveryError as error:
                    log.error("watch failed: %s", error)
                    await asyncio.sleep(self._backoff.next())
                else:
                    self._backoff.reset()
                    log.info("watch closed")
        except asyncio.CancelledError:
            log.info("watch cancelled")
            raise
        finally:
            log.info("watch stopped")

    async def _watch_once(self) -> None:
        self._status.watch_initiated()
        ended = "context canceled"
        try:
            async with self._client.get(self.peer, "/v1/watch") as response:
                ended = status_line(response)
                self._status.watching()
                self._backoff.reset()
                # Before anything is read, as in the product: a stream that is cut while no poll succeeds goes on being
                # shown as connected until the resync gives up.
                await self.resync()
                await self._read(response)
        except DiscoveryError as error:
            ended = error.status or ended
            raise
        finally:
            self._status.watch_terminated(ended)

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        status = status_line(response)
        try:
            while line := await response.content.readline():
                if line.strip():
                    self._events.put_nowait(int(orjson.loads(line).get("checksum", 0)))
        except (ValueError, AttributeError) as error:
            raise DiscoveryError(f"invalid event: {error}", status) from error
        except (aiohttp.ClientError, OSError) as error:
            raise DiscoveryError("unexpected EOF", status) from error

    async def _handle_events(self) -> None:
        while True:
            announced = await self._events.get()
            if await self.resync() not in (announced, None) and announced is not None:
                log.error("checksum mismatch after resync")

    def resync_soon(self) -> None:
        """Has the services polled as soon as that is possible."""
        self._events.put_nowait(None)

    async def _resync_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._resyncs.every)
            await self.resync()

    async def resync(self) -> int | None:
        """Polls until there is an answer, or for `retry_for` seconds; the checksum of the list, None without one.

        As in the product no proxy is configured anew meanwhile: who wants to know the mesh's services waits.
        """
        if not self._resyncs.allowed():
            return None
        async with self._syncing:
            with self._resyncs.held():
                return await self._resync()

    async def _resync(self) -> int | None:
        deadline = asyncio.get_running_loop().time() + self._resyncs.retry_for
        while True:
            try:
                services, gateways, total = await self._poll()
                break
            except DiscoveryError as error:
                if asyncio.get_running_loop().time() + _RETRY_EVERY > deadline:
                    log.warning("resync failed: timeout while waiting (last error: %s)", error)
                    return None
                await asyncio.sleep(_RETRY_EVERY)
        await self._received(services, gateways)
        self._status.full_sync()
        return total

    async def _poll(self) -> tuple[list[ExportedService], Gateways, int]:
        async with self._client.get(self.peer, "/v1/services/") as response:
            try:
                return decode_list(await response.read())
            except (ValueError, aiohttp.ClientError, OSError) as error:
                raise DiscoveryError(f"failed to unmarshal response bytes: {error}", "") from error
