"""The operator's admission webhooks: an HTTPS server and the objects that tell the API about it."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from aiohttp import web

from lab.client import ApiClient, Object
from lab.operator import validation
from lab.operator.versions import Release
from lab.resources import ENDPOINTS, POD, SERVICE, SMCP, SMMR, Resource
from lab.settings import ClusterSettings

NAMESPACE = "openshift-operators"
_SERVICE = "maistra-admission-controller"
_PORT, _TARGET = 443, 11999
MUTATING = Resource(
    "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False
)
VALIDATING = Resource(
    "admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False
)
_RULES = {
    "smcp": ("v2", "servicemeshcontrolplanes"),
    "smmr": ("v1", "servicemeshmemberrolls"),
    "smm": ("v1", "servicemeshmembers"),
}
_REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_REASONS = {400: "BadRequest", 403: "Forbidden"}


class Verdict(NamedTuple):
    """refused: why, None where the object is accepted; patch: JSON patch of what it gets; code: of the refusal."""

    refused: str | None = None
    patch: Iterable[Object] = ()
    code: int = 400


# Of the request in an AdmissionReview.
Review = Callable[[Object], Awaitable[Verdict]]


class Webhooks:
    """Answers admission reviews; what is already in the cluster is read from the API at every review."""

    def __init__(self, api: ApiClient, settings: ClusterSettings, release: Release) -> None:
        self.api, self.settings, self.release = api, settings, release

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serves while the context lasts; `register` tells the API."""
        app = web.Application()
        app.add_routes(
            [
                web.post("/mutate-smcp", self._handler(self._default_smcp)),
                web.post("/validate-smcp", self._handler(self._check_smcp)),
                web.post("/validate-smmr", self._handler(self._check_smmr)),
                web.post("/validate-smm", self._handler(self._check_smm)),
            ]
        )
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(self.settings.path / "webhook.crt", self.settings.path / "webhook.key")
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, self.settings.block.node, _TARGET, ssl_context=tls)
        starting = asyncio.ensure_future(site.start())
        try:
            await asyncio.shield(starting)  # a start that is cancelled would leave its socket listening
            yield
        finally:
            await asyncio.wait([starting])
            await runner.cleanup()

    async def register(self) -> None:
        """Makes the API call these webhooks, by a Service that has its endpoint whether they listen or not.

        The endpoint is the node's address: no pod of the lab's operator listens, its process does.
        """
        meta = {"name": _SERVICE, "namespace": NAMESPACE}
        port = {"name": "validation", "port": _PORT, "protocol": "TCP", "targetPort": _TARGET}
        subset = {
            "addresses": [{"ip": self.settings.block.node}],
            "ports": [{"name": port["name"], "port": _TARGET, "protocol": "TCP"}],
        }
        await self.api.apply(SERVICE, {"metadata": meta, "spec": {"ports": [port]}})
        await self.api.apply(ENDPOINTS, {"metadata": meta, "subsets": [subset]})
        name = {"metadata": {"name": f"{NAMESPACE}.servicemesh-resources.maistra.io"}}
        mutating = [self._webhook("smcp", "mutation", "/mutate-smcp")]
        validating = [self._webhook(kind, "validation", f"/validate-{kind}") for kind in _RULES]
        await self.api.apply(MUTATING, {**name, "webhooks": mutating})
        await self.api.apply(VALIDATING, {**name, "webhooks": validating})

    def _webhook(self, kind: str, purpose: str, path: str) -> Object:
        version, plural = _RULES[kind]
        return {
            "name": f"{kind}.{purpose}.maistra.io",
            "clientConfig": {
                "service": {"namespace": NAMESPACE, "name": _SERVICE, "path": path, "port": _PORT},
                "caBundle": base64.b64encode(self.settings.ca_file.read_bytes()).decode(),
            },
            "rules": [
                {
                    "apiGroups": ["maistra.io"],
                    "apiVersions": [version],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": [plural],
                    "scope": "*",
                }
            ],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "admissionReviewVersions": ["v1"],
        }

    def _handler(self, review: Review) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            asked = (await request.json())["request"]
            going = asked["object"]["metadata"].get("deletionTimestamp")
            verdict = Verdict() if going else await review(asked)
            answer: dict[str, Any] = {"uid": asked["uid"], "allowed": verdict.refused is None}
            if verdict.refused is not None:
                reason = _REASONS[verdict.code]
                answer["status"] = {"code": verdict.code, "reason": reason, "message": verdict.refused}
            elif patch := list(verdict.patch):
                answer |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
            return web.json_response(
                {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
            )

        return handle

    async def _default_smcp(self, asked: Object) -> Verdict:
        return Verdict(patch=validation.defaults(asked["object"], self.release))

    async def _check_smcp(self, asked: Object) -> Verdict:
        others, _ = await self.api.list_objects(SMCP)
        return Verdict(validation.control_plane(asked["object"], others, self.release, NAMESPACE))

    async def _check_smmr(self, asked: Object) -> Verdict:
        smmr = asked["object"]
        others, _ = await self.api.list_objects(SMMR)
        if refused := validation.member_roll(smmr, others, self.release):
            return Verdict(refused)
        added = validation.added_members(smmr, asked.get("oldObject"))
        closed = [name for name in added if not await self._allowed(asked, "update", POD, name)]
        return Verdict(validation.no_access(asked["userInfo"]["username"], closed), code=403)

    async def _check_smm(self, asked: Object) -> Verdict:
        smm = asked["object"]
        if refused := validation.member(smm, asked.get("oldObject")):
            return Verdict(refused)
        plane = smm["spec"]["controlPlaneRef"]
        if await self._allowed(asked, "use", SMCP, plane["namespace"], plane["name"]):
            return Verdict()
        return Verdict(validation.no_use(asked["userInfo"]["username"], plane), code=403)

    async def _allowed(self, asked: Object, verb: str, kind: Resource, namespace: str, name: str = "") -> bool:
        """Whether the user whose request is reviewed may do this, as the API server sees it."""
        user = asked["userInfo"]
        group = kind.api_version.rpartition("/")[0]
        attributes = {"verb": verb, "group": group, "resource": kind.plural, "namespace": namespace, "name": name}
        spec = {"user": user["username"], "groups": user["groups"], "resourceAttributes": attributes}
        return (await self.api.request("POST", _REVIEWS, {"spec": spec}))["status"]["allowed"]
