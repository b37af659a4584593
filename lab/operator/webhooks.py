"""The operator's admission webhooks: an HTTPS server and the objects that tell the API about it."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from lab.client import ApiClient, Object
from lab.operator import validation
from lab.operator.versions import Release
from lab.resources import SMCP, SMMR, Resource
from lab.settings import ClusterSettings

PORT = 9443
NAMESPACE = "openshift-operators"
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
Review = Callable[[Object, Object | None], Awaitable[tuple[str | None, list[Object]]]]


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
        try:
            await web.TCPSite(runner, self.settings.block.node, PORT, ssl_context=tls).start()
            yield
        finally:
            await runner.cleanup()

    async def register(self) -> None:
        """Makes the API call these webhooks."""
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
                "url": f"https://{self.settings.block.node}:{PORT}{path}",
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
            refused, patch = await review(asked["object"], asked.get("oldObject"))
            answer: dict[str, Any] = {"uid": asked["uid"], "allowed": refused is None}
            if refused is not None:
                answer["status"] = {"code": 400, "reason": "BadRequest", "message": refused}
            elif patch:
                answer |= {"patchType": "JSONPatch", "patch": base64.b64encode(json.dumps(patch).encode()).decode()}
            return web.json_response(
                {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
            )

        return handle

    async def _default_smcp(self, smcp: Object, _old: Object | None) -> tuple[str | None, list[Object]]:
        if smcp["metadata"].get("deletionTimestamp"):
            return None, []
        return None, validation.defaults(smcp, self.release)

    async def _check_smcp(self, smcp: Object, _old: Object | None) -> tuple[str | None, list[Object]]:
        if smcp["metadata"].get("deletionTimestamp"):
            return None, []
        others, _ = await self.api.list_objects(SMCP)
        return validation.control_plane(smcp, others, self.release, NAMESPACE), []

    async def _check_smmr(self, smmr: Object, _old: Object | None) -> tuple[str | None, list[Object]]:
        if smmr["metadata"].get("deletionTimestamp"):
            return None, []
        others, _ = await self.api.list_objects(SMMR)
        return validation.member_roll(smmr, others, self.release), []

    async def _check_smm(self, smm: Object, old: Object | None) -> tuple[str | None, list[Object]]:
        return validation.member(smm, old), []
