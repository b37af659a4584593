"""What one istiod knows: the objects of its mesh, kept current, and what federation adds to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import yaml

from lab import resources
from lab.client import ApiClient, Informer, Key, Object
from lab.istiod.knobs import CONFIG_MAP_NAME
from lab.istiod.model import FederationOutput, Service
from lab.istiod.registry import hostname_of, kubernetes_services
from lab.istiod.store import Mesh, objects_to_configs
from lab.settings import ClusterSettings

log = logging.getLogger("ads")
_COALESCE = 0.01
"""Seconds that changes are gathered before proxies hear of them; a rollout changes many objects at once."""


@dataclass(frozen=True)
class Informers:
    """Local copies of all kinds istiod looks at; member rolls, peers and sets are its own namespace's only."""

    services: Informer
    endpoints: Informer
    pods: Informer
    config_maps: Informer
    smmr: Informer
    peers: Informer
    exports: Informer
    imports: Informer
    virtual_services: Informer
    destination_rules: Informer
    gateways: Informer
    service_entries: Informer
    authorization_policies: Informer
    peer_authentications: Informer

    @classmethod
    def for_namespace(cls, api: ApiClient, namespace: str) -> Informers:
        return cls(
            services=Informer(api, resources.SERVICE),
            endpoints=Informer(api, resources.ENDPOINTS),
            pods=Informer(api, resources.POD),
            config_maps=Informer(api, resources.CONFIG_MAP),
            smmr=Informer(api, resources.SMMR, namespace),
            peers=Informer(api, resources.PEER, namespace),
            exports=Informer(api, resources.EXPORTS, namespace),
            imports=Informer(api, resources.IMPORTS, namespace),
            virtual_services=Informer(api, resources.VIRTUAL_SERVICE),
            destination_rules=Informer(api, resources.DESTINATION_RULE),
            gateways=Informer(api, resources.GATEWAY),
            service_entries=Informer(api, resources.SERVICE_ENTRY),
            authorization_policies=Informer(api, resources.AUTHORIZATION_POLICY),
            peer_authentications=Informer(api, resources.PEER_AUTHENTICATION),
        )

    def all(self) -> list[Informer]:
        return [getattr(self, field.name) for field in fields(self)]

    def istio(self) -> list[Informer]:
        """Those of the Istio API, which `/debug/configz` shows."""
        return [
            self.destination_rules,
            self.gateways,
            self.service_entries,
            self.virtual_services,
            self.authorization_policies,
            self.peer_authentications,
        ]


class MeshState:
    """The mesh as this istiod sees it; everything is read and changed in one event loop.

    `federation` maps a peer's name to what that peer adds; whoever changes it calls `changed()`.
    Values are computed when first asked for and kept until something changes.
    """

    def __init__(
        self, settings: ClusterSettings, api: ApiClient, namespace: str, revision: str, pod_name: str, pod_ip: str
    ) -> None:
        self.settings, self.api = settings, api
        self.namespace, self.revision = namespace, revision
        self.pod_name, self.pod_ip = pod_name, pod_ip
        self.informers = Informers.for_namespace(api, namespace)
        self.federation: dict[str, FederationOutput] = {}
        self._callbacks: list[Callable[[], None]] = []
        self._publishers: list[Callable[[], None]] = []
        self._cache: dict[str, Any] = {}
        self._objects_changed = self._proxies_concerned = False
        self._timer: asyncio.TimerHandle | None = None
        self._holders = 0
        for informer in self.informers.all():
            informer.on_change(self._object_changed)

    async def run(self) -> None:
        """Keeps the copies current until cancelled."""
        await asyncio.gather(*(informer.run() for informer in self.informers.all()))

    async def synced(self) -> None:
        """Returns when every kind was listed once."""
        await asyncio.gather(*(informer.synced.wait() for informer in self.informers.all()))

    async def until_configured(self) -> None:
        """Returns when the operator's mesh configuration is there; without it nothing of this class is right."""
        there = asyncio.Event()
        self.informers.config_maps.on_change(lambda *_: there.set() if self._configured else None)
        if not self._configured:
            await there.wait()

    def changed(self) -> None:
        """Says that `federation` changed: proxies are configured anew within about 10 ms."""
        self._proxies_concerned = True
        self._schedule()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """No proxy is configured anew while this lasts; what changed meanwhile reaches them afterwards."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._schedule()

    def on_change(self, callback: Callable[[], None]) -> None:
        """`callback` runs in the event loop after objects of the cluster changed, bursts gathered into one call.

        It is not called for `changed()`, so it may call that itself.
        """
        self._callbacks.append(callback)

    def on_publish(self, publish: Callable[[], None]) -> None:
        """`publish` runs after changes of cluster or federation that proxies may notice, after their callbacks."""
        self._publishers.append(publish)

    def _object_changed(self, _: Key, old: Object | None, new: Object | None) -> None:
        self._objects_changed = True
        self._proxies_concerned |= old is None or new is None or _gist(old) != _gist(new)
        self._schedule()

    def _schedule(self) -> None:
        self._cache.clear()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_COALESCE, self._publish)

    def _publish(self) -> None:
        self._timer = None
        if self._objects_changed:
            self._objects_changed = False
            _call(self._callbacks)
        if self._proxies_concerned and not self._holders:
            self._proxies_concerned = False
            _call(self._publishers)

    @property
    def _configured(self) -> bool:
        return (self.namespace, f"istio-{self.revision}") in self.informers.config_maps.items

    @property
    def trust_domain(self) -> str:
        return str(self._mesh_config().get("trustDomain") or "cluster.local")

    @property
    def access_log(self) -> str:
        """Encoding of the access log, TEXT or JSON; empty where none is kept."""
        config = self._mesh_config()
        return str(config.get("accessLogEncoding") or "TEXT") if config.get("accessLogFile") else ""

    @property
    def metrics(self) -> bool:
        """Whether sidecars count requests for Prometheus."""
        providers = self._mesh_config().get("defaultProviders") or {}
        return "prometheus" in (providers.get("metrics") or ())

    @property
    def knobs(self) -> Mapping[str, str]:
        """What this istiod is told to do wrong (lab/istiod/knobs.py)."""
        found = self.informers.config_maps.items.get((self.namespace, CONFIG_MAP_NAME)) or {}
        return found.get("data") or {}

    @property
    def members(self) -> frozenset[str]:
        """The namespaces of the mesh without the control plane's own."""
        roll = self.informers.smmr.items.get((self.namespace, "default")) or {}
        configured = (roll.get("status") or {}).get("configuredMembers") or ()
        return frozenset(configured) - {self.namespace}

    @property
    def namespaces(self) -> frozenset[str]:
        """The namespaces istiod looks at: members and its own."""
        return self.members | {self.namespace}

    def services(self) -> list[Service]:
        """The Kubernetes services of the mesh, sorted by host name, without federated ones."""
        return self._cached("services", self._kubernetes_services)

    def mesh(self) -> Mesh:
        """The view that proxies are configured from, as of now."""
        return self._cached("view", self._view)

    def objects(self, informer: Informer) -> list[Object]:
        """The copies of one kind that are in the mesh, sorted by namespace and name."""
        return [informer.items[key] for key in sorted(informer.items) if key[0] in self.namespaces]

    def _view(self) -> Mesh:
        major, minor, *_ = self.settings.ossm_version.split(".")
        return Mesh(
            trust_domain=self.trust_domain,
            root_namespace=self.namespace,
            version=(int(major), int(minor)),
            services=self.services(),
            configs=objects_to_configs(item for informer in self.informers.istio() for item in self.objects(informer)),
            federation=self.federation,
            workload_services=self.objects(self.informers.services),
            access_log=self.access_log,
            metrics=self.metrics,
            cluster_ips=self._cluster_ips(),
            knobs=self.knobs,
        )

    def _cluster_ips(self) -> dict[str, str]:
        found = {}
        for (namespace, name), service in self.informers.services.items.items():
            address = (service.get("spec") or {}).get("clusterIP") or "None"
            if address != "None":
                found[hostname_of(name, namespace)] = address
        return found

    def _kubernetes_services(self) -> list[Service]:
        informers = self.informers
        return kubernetes_services(
            self.objects(informers.services), informers.endpoints.items, informers.pods.items, self.trust_domain
        )

    def _mesh_config(self) -> dict[str, Any]:
        return self._cached("mesh", self._read_mesh_config)

    def _read_mesh_config(self) -> dict[str, Any]:
        config_map = self.informers.config_maps.items.get((self.namespace, f"istio-{self.revision}")) or {}
        loaded = yaml.safe_load((config_map.get("data") or {}).get("mesh", "")) or {}
        return loaded if isinstance(loaded, dict) else {}

    def _cached(self, name: str, compute: Callable[[], Any]) -> Any:
        if name not in self._cache:
            self._cache[name] = compute()
        return self._cache[name]


def _gist(obj: Object) -> tuple[Any, ...]:
    """The part of an object that proxies are configured from; statuses change often and mostly mean nothing to them."""
    status = obj.get("status") or {}
    return (
        obj["metadata"].get("labels"),
        obj.get("spec"),
        obj.get("data"),
        obj.get("subsets"),
        status.get("configuredMembers"),
    )


def _call(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:
            log.exception("a change could not be worked on")
