"""The HTTP side: authentication, routing and the answers that are no objects."""

from __future__ import annotations

import asyncio
import logging
import platform
from typing import Any, NamedTuple
from urllib.parse import unquote

import orjson
import yaml
from aiohttp import web

from lab.api.http import discovery, openapi, relays, reviews, streams
from lab.api.http.faults import Faults, failure, hidden
from lab.api.objects import reads
from lab.api.objects.auth import User, Users, unauthorized
from lab.api.objects.calls import Call, truth
from lab.api.objects.kinds import register
from lab.api.objects.objects import Objects
from lab.api.objects.patch import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from lab.api.objects.registry import Registry
from lab.api.objects.scale import Scales
from lab.api.objects.webhooks import Webhooks
from lab.api.schema import errors
from lab.api.schema.errors import StatusError, bad_request
from lab.settings import ClusterSettings

log = logging.getLogger(__name__)
_BODY_LIMIT = 3 * 1024 * 1024
_PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH)
_OPEN_PATHS = {"version", "healthz", "livez", "readyz"}
_STREAMS = {"log", "exec", "attach", "portforward", "proxy"}


class _Strings(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: dates stay text."""


_Strings.yaml_implicit_resolvers = {
    key: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for key, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


class Target(NamedTuple):
    """A path of the API: what it names."""

    group: str
    version: str
    namespace: str
    plural: str
    name: str
    sub: str


def parse(path: str) -> Target | None:
    """The target of a path below /api or /apis; None for paths that name no resource."""
    parts = [unquote(part) for part in path.strip("/").split("/", 12)]
    if parts[0] == "api":
        group, parts = "", parts[1:]
    elif parts[0] == "apis" and len(parts) > 1:
        group, parts = parts[1], parts[2:]
    else:
        return None
    if len(parts) < 2:
        return None
    version, parts = parts[0], parts[1:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 2 and parts[2] not in ("status", "finalize"):
        namespace, parts = parts[1], parts[2:]
    plural, name, sub = [*parts, "", ""][:3]
    return Target(group, version, namespace, plural, name, sub)


def _minor(version: str) -> int:
    """21 for `v1.21.0`."""
    return int(version.split(".")[1])


class Server:
    """One API server; `handle` answers every request and never raises but for broken connections."""

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings
        self.registry = Registry()
        register(self.registry)
        self.webhooks = Webhooks(self.registry)
        self.objects = Objects(self.registry, self.webhooks, _minor(settings.kubernetes_version) >= 21)
        self.scales = Scales(self.objects)
        self.users = Users(settings.token)
        self.faults = Faults()
        self.streams = streams.Streams(self.registry, settings.block.node)
        self.documents = openapi.Documents(self.registry)

    async def close(self) -> None:
        await self.webhooks.close()
        await self.streams.close()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(request)
        except StatusError as error:
            return reads.reply(error.body(), error.code, error.headers)
        except (ConnectionError, web.HTTPException):
            raise
        except Exception:
            log.exception("%s %s", request.method, request.path_qs)
            return reads.reply(errors.internal("unexpected failure, see the log of the API server").body(), 500)

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.raw_path
        parts = [part for part in path.split("/") if part]
        if parts and parts[0] in _OPEN_PATHS:
            return self._open(parts[0])
        user = self._user(request)
        if not parts:
            return reads.reply({"paths": ["/api", "/apis", "/healthz", "/openapi/v3", "/readyz", "/version"]})
        if parts[0] == "lab":
            return await self._lab(request, parts[1:], user)
        if parts[0] == "openapi":
            return self._openapi(parts[1:])
        target = parse(path)
        if target is None or not target.plural:
            return await self._discovery(request, parts)
        return await self._resource(request, target, user)

    def _user(self, request: web.BaseRequest) -> User:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            user = self.users.by_token(token.strip())
        else:
            transport = request.transport
            user = self.users.by_certificate(transport.get_extra_info("peercert") if transport else None)
        if user is None:
            raise unauthorized()
        return user

    def _open(self, name: str) -> web.Response:
        if name != "version":
            return web.Response(text="ok")
        version = self.settings.kubernetes_version
        major, minor = version.lstrip("v").split(".")[:2]
        return reads.reply(
            {
                "major": major,
                "minor": minor,
                "gitVersion": version,
                "gitCommit": "",
                "gitTreeState": "clean",
                "buildDate": "2024-01-01T00:00:00Z",
                "goVersion": "go1.22",
                "compiler": "gc",
                "platform": f"linux/{'arm64' if platform.machine() == 'aarch64' else 'amd64'}",
            }
        )

    async def _lab(self, request: web.BaseRequest, parts: list[str], user: User) -> web.Response:
        """The lab's own switches: faults, users and the event log; only for the admin."""
        if not user.admin:
            raise errors.forbidden("lab", "", "", f'User "{user.name}" is not the admin')
        body = await self._body(request) if request.method in ("POST", "PUT", "DELETE") else {}
        match parts, request.method:
            case ["faults"], "GET":
                pass
            case ["faults"], "POST":
                self.faults.set(body)
            case ["users"], "POST":
                self.users.add(body)
                return reads.reply({"name": body["name"]}, 201)
            case ["users"], "DELETE":
                self.users.remove(str(body.get("token", "")))
                return reads.reply({})
            case ["forget-events"], "POST":
                for kind in self.registry:
                    kind.collection.forget(len(kind.collection.log))
                return reads.reply({})
            case _:
                raise errors.no_such_path()
        return reads.reply(self.faults.show())

    def _openapi(self, parts: list[str]) -> web.Response:
        if parts == ["v3"]:
            return reads.reply(self.documents.index())
        document = self.documents.document("/".join(parts[1:])) if parts[:1] == ["v3"] else None
        if document is None:
            raise StatusError(406, "NotAcceptable", "only OpenAPI v3 is served")
        return reads.reply(document)

    async def _discovery(self, request: web.BaseRequest, parts: list[str]) -> web.Response:
        if request.method != "GET":
            raise errors.method_not_allowed()
        if parts[-1] != "apis" and await self._hide(request, "discovery", "", ""):
            empty = {
                "kind": "APIResourceList",
                "apiVersion": "v1",
                "groupVersion": "/".join(parts[1:]),
                "resources": [],
            }
            return reads.reply(empty)
        accept = request.headers.get("Accept", "")
        if parts in (["api"], ["apis"]):
            for form in ("v2", "v2beta1"):
                media_type = f"application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList"
                if media_type in accept.replace(" ", ""):
                    body = orjson.dumps(discovery.aggregated(self.registry, parts == ["api"], form))
                    return web.Response(body=body, headers={"Content-Type": media_type})
            if parts == ["api"]:
                return reads.reply(discovery.api_versions(self.settings.server.removeprefix("https://")))
            return reads.reply(discovery.group_list(self.registry))
        found = None
        if parts[0] == "api" and len(parts) == 2:
            found = discovery.resource_list(self.registry, "", parts[1])
        elif parts[0] == "apis" and len(parts) == 2:
            found = discovery.group(self.registry, parts[1])
        elif parts[0] == "apis" and len(parts) == 3:
            found = discovery.resource_list(self.registry, parts[1], parts[2])
        if found is None:
            raise errors.no_such_path()
        return reads.reply(found)

    async def _resource(self, request: web.BaseRequest, target: Target, user: User) -> web.StreamResponse:
        params = _params(request)
        review = dict(discovery.REVIEWS.get(target.group, [])).get(target.plural)
        if review and target.version == "v1":
            if request.method != "POST":
                raise errors.method_not_allowed()
            body = await self._body(request)
            return reads.reply(reviews.answer(target.group, review, body, user, self.users), 201)
        found = self.registry.find(target.group, target.version, target.plural)
        if found is None:
            raise errors.no_such_path()
        kind, version = found
        if target.namespace and not kind.namespaced:
            raise errors.no_such_path()
        verb = _verb(request, target, params)
        resource = f"{target.plural}/{target.sub}" if target.sub else target.plural
        namespace = target.name if kind.kind == "Namespace" and not kind.custom else target.namespace
        user.require(verb, target.group, resource, namespace, target.name)
        if await self._hide(request, resource, target.group, target.name):
            return await self._nothing(request, target, params)
        fault = self.faults.draw(verb, "X-Lab-Component" in request.headers)
        if fault == "reset":
            if request.transport:
                request.transport.abort()
            raise ConnectionResetError
        if fault and (error := failure(fault, target.plural, target.group, target.name)):
            raise error
        if target.sub and not self._offers(kind.subresources, version, target.sub):
            raise errors.no_such_path()
        agent = request.headers.get("User-Agent", "")
        call = Call(kind, version, target.namespace, target.name, target.sub, params, user, agent)
        if target.sub in _STREAMS:
            return await self.streams.answer(request, call)
        return await self._objects(request, call, verb, fault)

    async def _hide(self, request: web.BaseRequest, resource: str, group: str, name: str) -> bool:
        """Whether the answer has to be empty; raises what else hides a resource, or never comes back."""
        how = self.faults.hides(resource, "X-Lab-Component" in request.headers)
        if how == "hang":
            await asyncio.Event().wait()
        if error := hidden(how, resource, group, name):
            raise error
        return how == "empty"

    async def _nothing(self, request: web.BaseRequest, target: Target, params: dict[str, str]) -> web.StreamResponse:
        """A log without a line, a command without a word, a list without an object."""
        if target.sub == "exec":
            return await relays.say_nothing(request)
        if target.name and not target.sub:
            raise errors.not_found(target.plural, target.group, target.name)
        response = web.StreamResponse(headers={"Content-Type": "text/plain" if target.sub else "application/json"})
        if truth(params.get("watch")) or truth(params.get("follow")):
            await response.prepare(request)
            await asyncio.Event().wait()
        if target.sub:
            return web.Response(text="")
        version = f"{target.group}/{target.version}".strip("/")
        return reads.reply({"kind": "List", "apiVersion": version, "metadata": {"resourceVersion": "1"}, "items": []})

    def _offers(self, subresources: tuple[str, ...], version: Any, sub: str) -> bool:
        return sub in subresources and (sub != "status" or version.status) and (sub != "scale" or version.scale)

    async def _objects(self, request: web.BaseRequest, call: Call, verb: str, fault: str) -> web.StreamResponse:
        accept = request.headers.get("Accept", "")
        if call.sub in ("scale", "token", "eviction"):
            return await self._special(request, call, verb)
        if verb == "watch":
            watch = reads.Watch(call, self.registry, accept)
            return await watch.run(request, fault == "watch-410", 0.3 if fault == "watch-end" else None)
        if call.kind.namespaced and not call.namespace and (call.name or verb == "create"):
            raise errors.no_such_path()
        match verb:
            case "get":
                return reads.one(call, self.objects.find(call), accept)
            case "list":
                return reads.listing(call, self.registry, accept)
            case "create":
                entry = await self.objects.create(call, await self._object(request))
                return reads.one(call, entry, accept, 201)
            case "update":
                return reads.one(call, await self.objects.replace(call, await self._object(request)), accept)
            case "patch":
                media_type = request.content_type
                if media_type not in _PATCHES:
                    text = ", ".join(_PATCHES)
                    raise errors.unsupported_media(
                        f"the body of the request was in an unknown format - accepted media types include: {text}"
                    )
                entry, created = await self.objects.patch(call, media_type, await self._body(request))
                return reads.one(call, entry, accept, 201 if created else 200)
            case "delete":
                body, _ = await self.objects.delete(call, await self._delete_options(request, call))
                return reads.reply(body)
            case "deletecollection":
                return await self._delete_all(request, call)
        raise errors.method_not_allowed()

    async def _delete_all(self, request: web.BaseRequest, call: Call) -> web.Response:
        options = await self._delete_options(request, call)
        for entry in reads.selected(call):
            namespace, name = entry.key
            single = Call(call.kind, call.version, namespace, name, "", call.params, call.user, call.agent)
            try:
                await self.objects.delete(single, options)
            except StatusError as error:
                if error.code != 404:
                    raise
        return reads.reply({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    async def _special(self, request: web.BaseRequest, call: Call, verb: str) -> web.Response:
        """Subresources with kinds of their own."""
        if call.sub == "scale":
            if verb == "get":
                return reads.reply(self.scales.get(call))
            return reads.reply(await self.scales.change(call, request.content_type, await self._body(request)))
        if verb != "create":
            raise errors.method_not_allowed()
        body = await self._body(request)
        entry = self.objects.find(call)
        if call.sub == "eviction":
            await self.objects.delete(call, body.get("deleteOptions") or {})
            return reads.reply({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201)
        token = self.users.service_account(call.namespace, call.name, entry.obj["metadata"]["uid"])
        status = {"token": token, "expirationTimestamp": "2099-01-01T00:00:00Z"}
        return reads.reply(
            {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", **body, "status": status}, 201
        )

    async def _delete_options(self, request: web.BaseRequest, call: Call) -> dict[str, Any]:
        body = await self._body(request, optional=True)
        options = body if isinstance(body, dict) else {}
        for name in ("propagationPolicy", "gracePeriodSeconds", "orphanDependents"):
            if name in call.params:
                options[name] = call.params[name]
        grace = options.get("gracePeriodSeconds")
        if isinstance(grace, str):
            if not grace.lstrip("-").isdigit():
                raise bad_request(f"gracePeriodSeconds must be a number: {grace!r}")
            options["gracePeriodSeconds"] = int(grace)
        if options.get("dryRun"):
            call.params["dryRun"] = "All"
        return options

    async def _object(self, request: web.BaseRequest) -> dict[str, Any]:
        body = await self._body(request)
        if not isinstance(body, dict):
            raise bad_request("the body of the request is not an object")
        return body

    async def _body(self, request: web.BaseRequest, optional: bool = False) -> Any:
        media_type = request.content_type
        if "protobuf" in media_type or media_type == "application/cbor":
            raise errors.unsupported_media(
                f"the body of the request was in an unknown format ({media_type}) - accepted media types include: "
                "application/json, application/yaml"
            )
        raw = await request.content.read()
        if len(raw) > _BODY_LIMIT:
            raise StatusError(413, "RequestEntityTooLarge", f"the request is larger than {_BODY_LIMIT} bytes")
        if not raw:
            if optional:
                return {}
            raise bad_request("the request has no body")
        try:
            return orjson.loads(raw)
        except ValueError as error:
            if "yaml" not in media_type:
                raise bad_request(f"the body of the request is not JSON: {error}") from None
        try:
            return yaml.load(raw, Loader=_Strings)
        except yaml.YAMLError as error:
            raise bad_request(f"error converting YAML to JSON: {error}") from None


def _params(request: web.BaseRequest) -> dict[str, str]:
    query = request.rel_url.query
    return {name: query[name] for name in query}


def _verb(request: web.BaseRequest, target: Target, params: dict[str, str]) -> str:
    match request.method:
        case "GET" | "HEAD":
            if target.name:
                return "get"
            return "watch" if truth(params.get("watch")) else "list"
        case "POST":
            return "create"
        case "PUT":
            return "update"
        case "PATCH":
            return "patch"
        case "DELETE":
            return "delete" if target.name else "deletecollection"
    raise errors.method_not_allowed()
