"""Admission webhooks: asks what Mutating- and ValidatingWebhookConfigurations name, by URL or by Service."""

from __future__ import annotations

import base64
import errno
import ssl
import uuid
from typing import Any

import aiohttp
import jsonpatch
import jsonpointer
import orjson

from lab.api.objects import selectors
from lab.api.objects.calls import Call
from lab.api.objects.registry import Registry
from lab.api.schema.errors import StatusError, internal

Object = dict[str, Any]
_GROUP = "admissionregistration.k8s.io"


class Webhooks:
    """All configured webhooks; failures are StatusErrors as clients of a real API see them."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[str, list[Object]] | None = None
        self._tls: dict[str, ssl.SSLContext] = {}
        self._session: aiohttp.ClientSession | None = None
        self.broken = False

    def forget(self) -> None:
        """Called when a configuration changed."""
        self._known = None

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def mutate(self, call: Call, operation: str, obj: Object, old: Object | None) -> Object:
        """The object as the mutating webhooks leave it; the same one where nobody changed it."""
        for webhook in self._matching("mutatingwebhookconfigurations", call, operation, obj, old):
            response = await self._ask(webhook, call, operation, obj, old)
            if response is None:
                continue
            self._require_allowed(webhook, response)
            if patch := response.get("patch"):
                try:
                    obj = jsonpatch.apply_patch(obj, orjson.loads(base64.b64decode(patch)))
                except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, ValueError) as error:
                    raise internal(f"webhook {webhook['name']!r} answered a patch that fails: {error}") from None
        return obj

    async def validate(self, call: Call, operation: str, obj: Object | None, old: Object | None) -> None:
        for webhook in self._matching("validatingwebhookconfigurations", call, operation, obj, old):
            response = await self._ask(webhook, call, operation, obj, old)
            if response is not None:
                self._require_allowed(webhook, response)

    def _matching(
        self, plural: str, call: Call, operation: str, obj: Object | None, old: Object | None
    ) -> list[Object]:
        if call.kind.group == _GROUP:
            return []
        if self._known is None:
            self._known = {}
            for name in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
                kind = self._registry.get(_GROUP, name)
                entries = kind.collection.select(None) if kind else ()
                self._known[name] = [hook for entry in entries for hook in entry.obj.get("webhooks") or []]
        known = self._known[plural]
        return [hook for hook in known if self._applies(hook, call, operation, obj or old or {})] if known else []

    def _applies(self, webhook: Object, call: Call, operation: str, obj: Object) -> bool:
        resource = f"{call.kind.plural}/{call.sub}" if call.sub else call.kind.plural
        for rule in webhook.get("rules") or []:
            if (
                _listed(rule.get("operations"), operation)
                and _listed(rule.get("apiGroups"), call.kind.group)
                and _listed(rule.get("apiVersions"), call.version.name)
                and (_listed(rule.get("resources"), resource) or "*/*" in rule.get("resources", ()))
                and rule.get("scope", "*") in ("*", "Namespaced" if call.kind.namespaced else "Cluster")
            ):
                break
        else:
            return False
        if not selectors.label_selector_object(webhook.get("objectSelector"))(obj["metadata"].get("labels") or {}):
            return False
        return selectors.label_selector_object(webhook.get("namespaceSelector"))(self._namespace_labels(call, obj))

    def _namespace_labels(self, call: Call, obj: Object) -> dict[str, str]:
        if call.kind.kind == "Namespace":
            return obj["metadata"].get("labels") or {}
        found = self._object("namespaces", "", call.namespace) if call.namespace else None
        return (found["metadata"].get("labels") or {}) if found else {}

    async def _ask(
        self, webhook: Object, call: Call, operation: str, obj: Object | None, old: Object | None
    ) -> Object | None:
        """The webhook's response; None where it failed and its failure is to be ignored."""
        name = webhook["name"]
        review = self._review(call, operation, obj, old)
        try:
            if self.broken:
                raise OSError("connection refused")
            return await self._post(webhook, review)
        except (aiohttp.ClientError, OSError, ValueError, KeyError) as error:
            if webhook.get("failurePolicy") == "Ignore":
                return None
            raise internal(f'failed calling webhook "{name}": failed to call webhook: {error}') from None

    def _review(self, call: Call, operation: str, obj: Object | None, old: Object | None) -> Object:
        kind = {"group": call.kind.group, "version": call.version.name, "kind": call.kind.kind}
        resource = {"group": call.kind.group, "version": call.version.name, "resource": call.kind.plural}
        meta = (obj or old or {})["metadata"]
        return {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": str(uuid.uuid4()),
                "kind": kind,
                "resource": resource,
                "requestKind": kind,
                "requestResource": resource,
                "name": meta.get("name", ""),
                "namespace": meta.get("namespace", ""),
                "operation": operation,
                "userInfo": {"username": call.user.name, "groups": list(call.user.groups)},
                "object": obj,
                "oldObject": old,
                "dryRun": call.dry_run,
                "options": None,
            },
        }

    async def _post(self, webhook: Object, review: Object) -> Object:
        config = webhook["clientConfig"]
        patience = webhook.get("timeoutSeconds", 10)
        target, shown, host = config.get("url", ""), config.get("url", "no url in clientConfig"), None
        if service := config.get("service"):
            host = f"{service['name']}.{service['namespace']}.svc"
            port, path = service.get("port", 443), service.get("path", "/")
            target, shown = f"https://{self._endpoint(service, port)}{path}", f"https://{host}:{port}{path}"
        if self._session is None:
            self._session = aiohttp.ClientSession()
        try:
            answer = await self._session.post(
                target,
                params={"timeout": f"{patience}s"},
                data=orjson.dumps(review),
                headers={"Content-Type": "application/json"},
                ssl=self._context(config.get("caBundle", "")),
                server_hostname=host,
                timeout=aiohttp.ClientTimeout(total=patience),
            )
            async with answer:
                if answer.status != 200:
                    raise ValueError(f"answered {answer.status}")
                return orjson.loads(await answer.read())["response"]
        except (aiohttp.ClientError, OSError, ValueError, KeyError) as error:
            raise OSError(f'Post "{shown}?timeout={patience}s": {_words(error)}') from error

    def _endpoint(self, service: Object, port: int) -> str:
        """Address and port of one that is ready behind a Service."""
        namespace, name = service["namespace"], service["name"]
        found = self._object("services", namespace, name)
        if found is None:
            raise OSError(f'service "{name}" not found')
        names = [entry.get("name", "") for entry in found["spec"].get("ports") or [] if entry["port"] == port]
        for subset in (self._object("endpoints", namespace, name) or {}).get("subsets") or []:
            for entry in subset.get("ports") or []:
                if entry.get("name", "") in names and subset.get("addresses"):
                    return f"{subset['addresses'][0]['ip']}:{entry['port']}"
        raise OSError(f'no endpoints available for service "{name}"')

    def _object(self, plural: str, namespace: str, name: str) -> Object | None:
        kind = self._registry.get("", plural)
        entry = kind.collection.get((namespace, name)) if kind else None
        return entry.obj if entry else None

    def _context(self, bundle: str) -> ssl.SSLContext:
        found = self._tls.get(bundle)
        if found is None:
            pem = base64.b64decode(bundle).decode() if bundle else None
            found = self._tls[bundle] = ssl.create_default_context(cadata=pem)
        return found

    def _require_allowed(self, webhook: Object, response: Object) -> None:
        if response.get("allowed"):
            return
        status = response.get("status") or {}
        text = status.get("message") or status.get("reason") or "without explanation"
        code = status.get("code") or 400
        code = code if 400 <= code < 500 else 400
        reason = status.get("reason") or {403: "Forbidden", 409: "Conflict", 422: "Invalid"}.get(code, "")
        raise StatusError(code, reason, f'admission webhook "{webhook["name"]}" denied the request: {text}')


def _words(error: Exception) -> str:
    """What went wrong, as Go says it where it has words of its own."""
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno == errno.ECONNREFUSED:
        return f"dial tcp {error.host}:{error.port}: connect: connection refused"
    return "context deadline exceeded" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def _listed(values: list[str] | None, wanted: str) -> bool:
    return values is not None and ("*" in values or wanted in values)
