"""One pod: its containers as processes, from start to removal."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import time
from dataclasses import dataclass, field

import aiohttp

from lab.client import ApiClient, ApiError, Object, key_of
from lab.node.environment import container_environment
from lab.node.images import PodContext, Program, UnknownImage, base_environment, program_for
from lab.node.logs import ContainerLog
from lab.node.process import Process, output_pipe
from lab.node.readiness import FIRST_POLLS, LATER_POLLS, PATIENCE, Readiness
from lab.node.services import ServiceNetwork
from lab.node.status import ContainerState, StatusBuilder, now
from lab.resources import CONFIG_MAP, POD

log = logging.getLogger(__name__)

STOP_GRACE = 2.0  # seconds between SIGTERM and SIGKILL
BACK_OFF_FIRST, BACK_OFF_MOST = 1.0, 30.0  # seconds before a crashed container starts again; the first time at once
FORGIVEN_AFTER = 60.0  # seconds of running after which earlier crashes are forgotten
MOUNT_FIRST, MOUNT_MOST = 0.1, 5.0  # seconds before a volume that could not be mounted is tried again
STATUS_COALESCE = 0.002


@dataclass
class Container:
    """One container of a pod; `log` is of its current run, `previous` of the one before."""

    spec: Object
    state: ContainerState
    program: Program | None = None
    env: dict[str, str] = field(default_factory=dict)
    process: Process | None = None
    log: ContainerLog | None = None
    previous: ContainerLog | None = None

    @property
    def name(self) -> str:
        return self.state.name


class PodRunner:
    """Runs one pod and keeps its status; `stop()` ends it."""

    def __init__(self, api: ApiClient, network: ServiceNetwork, context: PodContext, node_ip: str) -> None:
        self.api, self.network, self.context = api, network, context
        self.pod = context.pod
        self.namespace, self.name = key_of(self.pod)
        self.uid: str = self.pod["metadata"]["uid"]
        self._node_ip = node_ip
        self.containers = {
            spec["name"]: Container(spec, ContainerState(spec["name"], spec.get("image", "")))
            for spec in self.pod["spec"]["containers"]
        }
        self.helpers: set[Process] = set()
        self._builder = StatusBuilder(self.pod, context.ip, node_ip)
        self._dirty = asyncio.Event()
        self._mounted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Starts everything; returns at once."""
        self.context.directory.mkdir(parents=True, exist_ok=True)
        self._tasks = [asyncio.ensure_future(self._supervise(container)) for container in self.containers.values()]
        self._tasks += [asyncio.ensure_future(self._write_status()), asyncio.ensure_future(self._mount())]
        for task in self._tasks:
            task.add_done_callback(self._say_failure)
        self._dirty.set()

    def _say_failure(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("pod %s/%s", self.namespace, self.name, exc_info=error)

    async def stop(self, grace: float = STOP_GRACE) -> None:
        """Stops all containers (SIGTERM, after `grace` seconds SIGKILL) and removes the pod's files."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for helper in self.helpers:
            helper.kill()
        running = [container.process for container in self.containers.values() if container.process]
        await asyncio.gather(*(process.stop(grace) for process in running))
        # What a container said last is still in its pipe: one turn of the loop brings it to the log.
        await asyncio.sleep(0)
        for container in self.containers.values():
            for old in (container.log, container.previous):
                if old:
                    old.remove()
        await asyncio.to_thread(shutil.rmtree, self.context.directory, ignore_errors=True)

    def kill(self) -> None:
        """Kills all processes of the pod now."""
        for task in self._tasks:
            task.cancel()
        for process in [*self.helpers, *(container.process for container in self.containers.values())]:
            if process:
                process.kill()

    def changed(self) -> None:
        """The status is to be written again."""
        self._dirty.set()

    async def _write_status(self) -> None:
        written: Object | None = None
        while True:
            await self._dirty.wait()
            await asyncio.sleep(STATUS_COALESCE)
            self._dirty.clear()
            status = self._builder.build([container.state for container in self.containers.values()])
            if status == written:
                continue
            try:
                await self.api.merge(POD, self.name, self.namespace, {"status": status}, sub="status")
                written = status
            except ApiError as error:
                if error.status == 404:
                    return
                log.warning("status of pod %s/%s: %s", self.namespace, self.name, error)
                await asyncio.sleep(0.2)
                self._dirty.set()
            except (OSError, TimeoutError, aiohttp.ClientError):
                await asyncio.sleep(0.2)
                self._dirty.set()

    async def _mount(self) -> None:
        """Waits for what the pod's volumes need, without which no container is created."""
        pause = MOUNT_FIRST
        for volume in self.pod["spec"].get("volumes") or []:
            wanted = volume.get("configMap") or {"optional": True}
            while not wanted.get("optional") and (missing := await self._missing(wanted["name"])):
                message = f'MountVolume.SetUp failed for volume "{volume["name"]}": {missing}'
                await self.api.event(self.pod, "Warning", "FailedMount", message)
                await asyncio.sleep(pause)
                pause = min(pause * 2, MOUNT_MOST)
        self._mounted.set()

    async def _missing(self, config_map: str) -> str:
        """Why a ConfigMap of the pod's namespace cannot be had; '' where it can."""
        try:
            found = await self.api.find(CONFIG_MAP, config_map, self.namespace)
        except (ApiError, OSError, TimeoutError, aiohttp.ClientError) as error:
            return str(error)
        return "" if found else f'configmap "{config_map}" not found'

    async def _program(self, container: Container) -> Program | None:
        """The program of a container; None where it cannot be run."""
        try:
            own = container_environment(self.pod, container.spec, self.context.ip, self._node_ip)
            program = program_for(self.context, container.spec, own, self.network.gate)
        except UnknownImage:
            await self._image_pull_failure(container)
            return None
        except ValueError as error:
            container.state.waiting("CreateContainerConfigError", str(error))
            self.changed()
            return None
        container.env = base_environment(self.context, container.spec) | own | program.env
        return program

    async def _image_pull_failure(self, container: Container) -> None:
        image = container.state.image
        message = f'Failed to pull image "{image}": the lab has no program for it'
        container.state.waiting("ErrImagePull", message)
        self.changed()
        await self.api.event(self.pod, "Warning", "Failed", message)
        await asyncio.sleep(BACK_OFF_FIRST)
        container.state.waiting("ImagePullBackOff", f'Back-off pulling image "{image}"')
        self.changed()
        await self.api.event(self.pod, "Normal", "BackOff", f'Back-off pulling image "{image}"')

    async def _supervise(self, container: Container) -> None:
        crashes = 0
        await self._mounted.wait()
        while True:
            container.program = await self._program(container)
            if container.program is None:
                return
            began = time.monotonic()
            code = await self._run_once(container, container.program)
            if self._finished(code):
                return
            crashes = 1 if time.monotonic() - began > FORGIVEN_AFTER else crashes + 1
            if crashes > 1:
                delay = min(BACK_OFF_FIRST * 2 ** (crashes - 2), BACK_OFF_MOST)
                name = f"container={container.name} pod={self.name}_{self.namespace}({self.uid})"
                message = f"back-off {delay:g}s restarting failed {name}"
                container.state.waiting("CrashLoopBackOff", message)
                self.changed()
                await self.api.event(self.pod, "Warning", "BackOff", f"Back-off restarting failed {name}")
                await asyncio.sleep(delay)
            container.state.restarts += 1

    def _finished(self, code: int) -> bool:
        policy = self.pod["spec"].get("restartPolicy", "Always")
        return policy == "Never" or (policy == "OnFailure" and code == 0)

    async def _run_once(self, container: Container, program: Program) -> int:
        """Runs the container until it ends; returns its exit code as a kubelet shows it."""
        state = container.state
        if container.previous:
            container.previous.remove()
        run_log = ContainerLog(self.context.directory / f"{container.name}-{state.restarts}.log")
        container.previous, container.log = container.log, run_log
        ended = asyncio.Event()

        def output_ends() -> None:
            run_log.end()
            ended.set()

        writer = await output_pipe(run_log.append, output_ends)
        started_at = now()
        try:
            container.process = Process.start(program.argv, container.env, self.context.directory, writer)
        except OSError as error:
            run_log.append(f"cannot run {program.argv[0]}: {error}\n".encode())
            code = 128
        else:
            state.state = {"running": {"startedAt": started_at}}
            self.changed()
            look = asyncio.ensure_future(self._watch_readiness(container, program))
            try:
                returned = await asyncio.shield(container.process.exited)
            finally:
                look.cancel()
            code = returned if returned >= 0 else 128 - returned
        finally:
            os.close(writer)
        await ended.wait()
        state.ready = False
        terminated = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": started_at}
        state.state = {"terminated": {**terminated, "finishedAt": now()}}
        state.last = state.state
        self.changed()
        return code

    async def _watch_readiness(self, container: Container, program: Program) -> None:
        rule = Readiness(program.kind, container.spec, self.context.ip, self.context.app_address)
        began, failures = time.monotonic(), 0
        while True:
            ready = await rule.look()
            failures = 0 if ready else failures + 1
            if ready != container.state.ready and (ready or failures >= rule.failure_threshold):
                container.state.ready = ready
                self.changed()
                if not ready:
                    await self.api.event(self.pod, "Warning", "Unhealthy", "Readiness probe failed")
            if not container.state.ready:
                await asyncio.sleep(FIRST_POLLS if time.monotonic() - began < PATIENCE else LATER_POLLS)
            elif rule.period is None:
                return
            else:
                await asyncio.sleep(rule.period)
