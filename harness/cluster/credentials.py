"""A kubeconfig as the official client reads it, made good where that one is silent or leaves something behind."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import Configuration
from kubernetes.config import ConfigException, kube_config, new_client_from_config

from harness.cluster.proxies import Proxy, proxy_for

_LOADING = threading.Lock()
_INSTEAD_OF_PROVIDERS = "Use an exec plugin (`exec`) or a `token`"
_NO_HOST = "-"  # for NO_PROXY: the client's websockets would look into the environment if it were empty


class Unusable(Exception):
    """A kubeconfig that cannot be used, and why."""


@dataclass(frozen=True, eq=False)
class Credentials:
    """The client's configuration, and its files: attributes and paths that exist as long as the process.

    asking: held by who reads the configuration, which asking for the token of now changes, and may run the plugin.
    """

    configuration: Configuration
    files: Mapping[str, str]
    asking: threading.RLock = field(default_factory=threading.RLock)

    def token(self) -> Mapping[str, Any]:
        """What authenticates a request now; an exec plugin is asked again when its token says that it expired."""
        with self.asking:
            found = self.configuration.auth_settings()
            for attribute, path in self.files.items():
                # The client puts back the names of files that are gone whenever it looks at its credentials.
                if not os.path.exists(getattr(self.configuration, attribute)):
                    setattr(self.configuration, attribute, path)
            return found


_shared: dict[str, Credentials] = {}
_SHARING = threading.Lock()


def load(kubeconfig: Path, context: str | None, refused: Credentials | None = None) -> Credentials:
    """What this kubeconfig gives for a context; `refused`: what it gave before, which the server takes no longer.

    What an exec plugin gave is shared by all who ask, as each run of it may ask a person or a rationed service.
    Raises Unusable, for a plugin that gives no credential too.
    """
    try:
        cluster, user = _entries(kubeconfig, context)
    except (OSError, yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise Unusable(str(error)) from error
    if not user.get("exec"):
        return _load(kubeconfig, context, cluster, user)
    key = repr((kubeconfig, context, cluster, user))
    with _SHARING:
        if (known := _shared.get(key)) is None or known is refused:
            known = _shared[key] = _load(kubeconfig, context, cluster, user)
        return known


def _load(kubeconfig: Path, context: str | None, cluster: dict[str, Any], user: dict[str, Any]) -> Credentials:
    try:
        with _LOADING, _logged() as words:
            configuration = new_client_from_config(str(kubeconfig), context).configuration
            files = _keep_no_files(configuration)
    except (ConfigException, OSError, yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise Unusable(str(error)) from error
    if plugin := user.get("exec"):
        _check_plugin(plugin, configuration, words)
    if (provider := (user.get("auth-provider") or {}).get("name")) and not _holds_credential(configuration):
        raise Unusable(f"the auth-provider {provider} gave no credential. {_INSTEAD_OF_PROVIDERS}")
    _use_proxy(configuration, cluster.get("proxy-url"))
    return Credentials(configuration, files)


def _keep_no_files(configuration: Configuration) -> dict[str, str]:
    # The client writes certificates that a kubeconfig embeds into temporary files and removes them at a normal exit;
    # a killed run would leave them. Files without a name (Linux) go away with the process, however it ends.
    files: dict[str, str] = {}
    if not hasattr(os, "memfd_create"):
        return files
    temporary = set(kube_config._temp_files.values())
    for attribute in ("ssl_ca_cert", "cert_file", "key_file"):
        if (path := getattr(configuration, attribute)) in temporary:
            descriptor = os.memfd_create(attribute)
            os.write(descriptor, Path(path).read_bytes())
            files[attribute] = f"/proc/{os.getpid()}/fd/{descriptor}"
            setattr(configuration, attribute, files[attribute])
    kube_config._cleanup_temp_files()
    return files


def _entries(kubeconfig: Path, context: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the file says of the context's cluster and of its user; what the client names well is left to it.

    Raises Unusable for a user that is not there, a removed auth-provider, or a cluster without `server`.
    """
    content = yaml.safe_load(kubeconfig.expanduser().read_text())
    if not isinstance(content, dict):
        return {}, {}

    def entries(kind: str) -> dict[str, dict[str, Any]]:
        listed = [item for item in content.get(f"{kind}s") or () if isinstance(item, dict)]
        return {item.get("name", ""): item.get(kind) or {} for item in listed}

    chosen = entries("context").get(context or content.get("current-context", ""), {})
    clusters, users = entries("cluster"), entries("user")
    # The client would go on as nobody, and the server's answers be blamed.
    if (name := chosen.get("user")) and name not in users:
        raise Unusable(f"the context's user {name} is not in it; users there are: {', '.join(users) or 'none'}")
    cluster, user = clusters.get(chosen.get("cluster", ""), {}), users.get(name or "", {})
    if chosen.get("cluster") in clusters and not cluster.get("server"):
        raise Unusable(f"the context's cluster {chosen['cluster']} has no `server`, the URL of its API server")
    # kubectl kept oidc.
    if (provider := (user.get("auth-provider") or {}).get("name", "oidc")) != "oidc":
        gone = "which was removed from Kubernetes clients in 1.26"
        raise Unusable(f"the context's user {name} has the auth-provider {provider}, {gone}. {_INSTEAD_OF_PROVIDERS}")
    return cluster, user


@contextlib.contextmanager
def _logged() -> Iterator[list[str]]:
    """What this thread's log says within the block: all that the client tells of a plugin that failed."""
    words: list[str] = []
    thread = threading.get_ident()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                words.append(record.getMessage().strip())

    handler = Handler(logging.ERROR)
    logging.getLogger().addHandler(handler)
    try:
        yield words
    finally:
        logging.getLogger().removeHandler(handler)


def _check_plugin(plugin: dict[str, Any], configuration: Configuration, words: list[str]) -> None:
    # The client goes on as nobody, and permissions would be blamed.
    if _holds_credential(configuration):
        return
    # On a terminal the plugin writes there itself.
    said = "see what it wrote above" if sys.stdout.isatty() else "; ".join(words) or "it said nothing"
    hint = f". {plugin['installHint'].strip()}" if plugin.get("installHint") else ""
    raise Unusable(f"the exec plugin {plugin.get('command')} gave no credential: {said}{hint}")


def _holds_credential(configuration: Configuration) -> bool:
    return any(configuration.api_key.values()) or bool(configuration.cert_file)


def _use_proxy(configuration: Configuration, given: str | None) -> None:
    """`given`: the kubeconfig's own, which as with kubectl counts whatever NO_PROXY says."""
    proxy = Proxy.of(given) if given else proxy_for(configuration.host)
    if proxy is None:
        configuration.no_proxy = "*"
        return
    configuration.no_proxy = _NO_HOST
    # A SOCKS proxy has no headers: its credentials stay in its URL.
    configuration.proxy = proxy.whole if proxy.scheme.startswith("socks") else proxy.url
    configuration.proxy_headers = proxy.headers or None
