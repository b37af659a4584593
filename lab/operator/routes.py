"""Routes for users' Gateways, as the product's automatic route creation (IOR) makes them. No router admits them."""

from __future__ import annotations

import asyncio
import hashlib

from lab.client import ApiClient, Informer, Key, Object, Reconciler
from lab.operator import versions
from lab.operator.plane import MEMBER_OF, ControlPlane, dig
from lab.operator.versions import Release
from lab.resources import GATEWAY, ROUTE, SERVICE

_MANAGED = "maistra.io/manageRoute"


def service_for(gateway: Object, services: list[Object]) -> Object | None:
    """The Service whose pods the Gateway configures: of several the one with the plainest selector."""
    wanted = dig(gateway, "spec", "selector", default={}).items()
    fitting = [each for each in services if wanted and wanted <= dig(each, "spec", "selector", default={}).items()]
    return min(fitting, key=lambda each: (len(each["spec"]["selector"]), each["metadata"]["name"]), default=None)


def routes_of(gateway: Object, service: Object, home: str) -> list[Object]:
    """One Route in the control plane's namespace per host of the Gateway."""
    namespace, name = gateway["metadata"]["namespace"], gateway["metadata"]["name"]
    routes = []
    for server in dig(gateway, "spec", "servers", default=[]):
        tls = bool(server.get("tls") and not dig(server, "tls", "httpsRedirect"))
        for asked in server.get("hosts", []):
            host = asked.rpartition("/")[2]
            digest = hashlib.sha256(f"{namespace}/{name}/{host}".encode()).hexdigest()[:16]
            spec: Object = {
                "port": {"targetPort": "https" if tls else "http2"},
                "to": {"kind": "", "name": service["metadata"]["name"]},
                "wildcardPolicy": "None",
            }
            if host.startswith("*."):
                spec |= {"host": "wildcard." + host[2:], "wildcardPolicy": "Subdomain"}
            elif host != "*":
                spec["host"] = host
            if tls:
                spec["tls"] = {"termination": "passthrough"}
            labels = {
                "maistra.io/generated-by": "ior",
                "maistra.io/gateway-name": name,
                "maistra.io/gateway-namespace": namespace,
                "maistra.io/gateway-resourceVersion": gateway["metadata"].get("resourceVersion", ""),
            }
            metadata = {"name": f"{namespace}-{name}-{digest}", "namespace": home, "labels": labels}
            routes.append({"metadata": metadata, "spec": spec})
    return routes


class Routes:
    """Keeps one Route per host of every Gateway in a mesh that asks for it."""

    def __init__(self, api: ApiClient, release: Release, smcps: Informer, namespaces: Informer) -> None:
        self.api, self.release, self.smcps, self.namespaces = api, release, smcps, namespaces
        self.gateways, self.services = Informer(api, GATEWAY), Informer(api, SERVICE)
        self.queue = Reconciler("routes", self.reconcile, workers=1)
        self.gateways.on_change(lambda key, _old, _new: self.queue.add(key))
        self.services.on_change(lambda _key, _old, _new: self._all())
        namespaces.on_change(lambda _key, _old, _new: self._all())
        smcps.on_change(lambda _key, _old, _new: self._all())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.gateways.run())
            tasks.create_task(self.services.run())
            await self.gateways.synced.wait()
            await self.services.synced.wait()
            tasks.create_task(self.queue.run())

    def _all(self) -> None:
        for key in self.gateways.items:
            self.queue.add(key)

    def _wanted(self, gateway: Object | None) -> list[Object]:
        if gateway is None or dig(gateway, "metadata", "annotations", _MANAGED) == "false":
            return []
        namespace = self.namespaces.items.get(("", gateway["metadata"]["namespace"]))
        home = dig(namespace, "metadata", "labels", MEMBER_OF)
        smcp = next((smcp for (where, _), smcp in self.smcps.items.items() if where == home), None)
        if smcp is None or smcp["metadata"].get("deletionTimestamp"):
            return []
        plane = ControlPlane(smcp, self.release)
        by_default = versions.makes_routes_by_default(plane.version)
        if not plane.get("gateways", "openshiftRoute", "enabled", default=by_default):
            return []
        services = [service for (where, _), service in self.services.items.items() if where == home]
        service = service_for(gateway, services)
        return routes_of(gateway, service, home) if service else []

    async def reconcile(self, key: Key) -> None:
        wanted = {route["metadata"]["name"]: route for route in self._wanted(self.gateways.items.get(key))}
        selector = f"maistra.io/gateway-name={key[1]},maistra.io/gateway-namespace={key[0]}"
        found, _ = await self.api.list_objects(ROUTE, labelSelector=selector)
        known = {route["metadata"]["name"]: route for route in found}
        for name, route in known.items():
            if name not in wanted or wanted[name]["metadata"]["namespace"] != route["metadata"]["namespace"]:
                await self.api.delete(ROUTE, name, route["metadata"]["namespace"])
        for name, route in wanted.items():
            old = known.get(name)
            if old is None or old["spec"] != route["spec"] or old["metadata"]["labels"] != route["metadata"]["labels"]:
                await self.api.apply(ROUTE, route)
