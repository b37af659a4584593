"""Streams to pods: logs, exec, port-forward and the HTTP proxy of pods and Services."""

from __future__ import annotations

from typing import Any

import aiohttp
from aiohttp import web

from lab.api.http.relays import forward_ports, listening, relay_websocket
from lab.api.objects.calls import Call
from lab.api.objects.registry import Registry
from lab.api.schema import errors
from lab.api.schema.errors import StatusError, bad_request

Object = dict[str, Any]
_KUBELET_PORT = 10250
_DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
_HOP_HEADERS = {
    "authorization",
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "transfer-encoding",
    "upgrade",
    "content-encoding",
    "accept-encoding",
}


class Streams:
    """Relays to the node's kubelet API and to pods."""

    def __init__(self, registry: Registry, node: str) -> None:
        self._registry, self._kubelet = registry, f"http://{node}:{_KUBELET_PORT}"
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector, auto_decompress=False)
        return self._session

    async def answer(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """Answers one of the streaming subresources; 404 and 400 as Kubernetes has them."""
        if call.sub == "proxy":
            return await self._proxy(request, call)
        entry = call.kind.collection.get(call.key)
        if entry is None:
            raise errors.not_found(call.kind.plural, call.kind.group, call.name)
        match call.sub:
            case "log":
                return await self._log(request, call, entry.obj)
            case "exec":
                return await self._exec(request, call, entry.obj)
            case "portforward":
                return await self._port_forward(request, entry.obj)
        raise errors.no_such_path()

    def _container(self, call: Call, pod: Object, choose: bool) -> str:
        """The container a call is about: named, the only one, the default one, else (`choose`) the first."""
        spec, name = pod["spec"], call.params.get("container")
        names = [c["name"] for c in spec["containers"]]
        others = [c["name"] for c in spec.get("initContainers") or []]
        if name:
            if name not in names + others:
                raise bad_request(f"container {name} is not valid for pod {call.name}")
            return name
        default = (pod["metadata"].get("annotations") or {}).get(_DEFAULT_CONTAINER)
        if default in names:
            return str(default)
        if len(names) == 1 or choose:
            return names[0]
        text = f"a container name must be specified for pod {call.name}, choose one of: [{' '.join(names)}]"
        if others:
            text += f" or one of the init containers: [{' '.join(others)}]"
        raise bad_request(text)

    async def _log(self, request: web.BaseRequest, call: Call, pod: Object) -> web.StreamResponse:
        container = self._container(call, pod, choose=False)
        if not pod["spec"].get("nodeName"):
            return web.Response(text="")
        url = f"{self._kubelet}/containerLogs/{call.namespace}/{call.name}/{container}"
        names = ("follow", "tailLines", "sinceSeconds", "sinceTime", "timestamps", "limitBytes", "previous")
        params = {name: call.params[name] for name in names if name in call.params}
        try:
            async with self._client().get(url, params=params) as answer:
                if answer.status != 200:
                    text = (await answer.text()).strip()
                    raise StatusError(answer.status, "BadRequest" if answer.status == 400 else "InternalError", text)
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                await response.prepare(request)
                async for chunk in answer.content.iter_any():
                    await response.write(chunk)
                await response.write_eof()
                return response
        except aiohttp.ClientConnectorError as error:
            raise self._no_kubelet(url, error) from None

    def _no_kubelet(self, url: str, error: Exception) -> StatusError:
        return errors.internal(f'Get "{url}": {error}')

    async def _exec(self, request: web.BaseRequest, call: Call, pod: Object) -> web.StreamResponse:
        container = self._container(call, pod, choose=True)
        if "command" not in call.params:
            raise bad_request("you must specify at least 1 command for the container")
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            raise bad_request(
                f"cannot exec into a container in a completed pod; current phase is {pod['status']['phase']}"
            )
        query = [(k, v) for k, v in request.rel_url.query.items() if k != "container"]
        url = f"{self._kubelet}/exec/{call.namespace}/{call.name}/{container}"
        return await relay_websocket(request, self._client(), url, query)

    async def _port_forward(self, request: web.BaseRequest, pod: Object) -> web.StreamResponse:
        address = pod.get("status", {}).get("podIP")
        if not address:
            phase = pod.get("status", {}).get("phase", "Pending")
            raise bad_request(f"unable to forward port because pod is not running. Current status={phase}")
        return await forward_ports(request, address)

    async def _proxy(self, request: web.BaseRequest, call: Call) -> web.StreamResponse:
        """HTTP to a pod or Service, `name:port` and `http:name:port` as names."""
        parts = call.name.split(":")
        if len(parts) == 3:
            parts = parts[1:]
        name, port = (*parts, "")[:2]
        host, number = (
            self._pod_target(call, name, port) if call.kind.kind == "Pod" else self._service(call, name, port)
        )
        raw = request.rel_url.raw_path.split("/proxy", 1)[1] or "/"
        query = request.rel_url.raw_query_string
        try:
            host = await listening(host, number)
        except OSError as error:
            text = f"error trying to reach service: dial tcp {host}:{number}: {error.strerror or error}"
            raise StatusError(503, "ServiceUnavailable", text) from None
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_HEADERS}
        body = await request.content.read()
        url = f"http://{host}:{number}{raw}" + (f"?{query}" if query else "")
        async with self._client().request(request.method, url, headers=headers, data=body) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_HEADERS - {"content-encoding"}}
            return web.Response(body=await answer.read(), status=answer.status, headers=kept)

    def _pod_target(self, call: Call, name: str, port: str) -> tuple[str, int]:
        entry = call.kind.collection.get((call.namespace, name))
        if entry is None:
            raise errors.not_found("pods", "", name)
        ports = [p["containerPort"] for c in entry.obj["spec"]["containers"] for p in c.get("ports") or []]
        number = int(port) if port.isdigit() else next(iter(ports), 80)
        return entry.obj.get("status", {}).get("podIP") or "127.0.0.1", number

    def _service(self, call: Call, name: str, port: str) -> tuple[str, int]:
        entry = call.kind.collection.get((call.namespace, name))
        if entry is None:
            raise errors.not_found("services", "", name)
        kind = self._registry.get("", "endpoints")
        endpoints = kind.collection.get((call.namespace, name)) if kind else None
        wanted = next(
            (
                p.get("name", "")
                for p in entry.obj["spec"].get("ports") or []
                if port in (str(p["port"]), p.get("name"), "")
            ),
            None,
        )
        for subset in (endpoints.obj.get("subsets") or []) if endpoints else []:
            for found in subset.get("ports") or []:
                if found.get("name", "") == wanted and subset.get("addresses"):
                    return subset["addresses"][0]["ip"], found["port"]
        raise StatusError(503, "ServiceUnavailable", f'no endpoints available for service "{name}"')
