"""Review kinds: who am I, and what may I do."""

from __future__ import annotations

from typing import Any

from lab.api.objects.auth import User, Users
from lab.api.schema.errors import bad_request

Object = dict[str, Any]


def answer(group: str, kind: str, body: Object, user: User, users: Users) -> Object:
    """The review with its status filled in."""
    review: Object = {"kind": kind, "apiVersion": f"{group}/v1", "metadata": {"creationTimestamp": None}, **body}
    spec = body.get("spec") or {}
    if not isinstance(spec, dict):
        raise bad_request("spec must be a map")
    match kind:
        case "SelfSubjectReview":
            review["status"] = {"userInfo": _info(user)}
        case "SelfSubjectAccessReview" | "SubjectAccessReview":
            review["spec"] = spec
            review["status"] = _access(spec, user if kind.startswith("Self") else _named(spec, users))
        case "SelfSubjectRulesReview":
            everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
            paths = {"verbs": ["*"], "nonResourceURLs": ["*"]}
            review["spec"] = spec
            review["status"] = {
                "resourceRules": [everything],
                "nonResourceRules": [paths],
                "incomplete": bool(user.denied) or user.allowed is not None,
            }
        case "TokenReview":
            found = users.by_token(str(spec.get("token", "")))
            review["spec"] = spec
            review["status"] = {"authenticated": True, "user": _info(found)} if found else {"authenticated": False}
    return review


def _named(spec: Object, users: Users) -> User:
    return users.by_name(str(spec.get("user", "")))


def _info(user: User) -> Object:
    info: Object = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        info["uid"] = user.uid
    return info


def _access(spec: Object, user: User) -> Object:
    asked = spec.get("resourceAttributes")
    if not asked:
        return {"allowed": True}
    resource = asked.get("resource", "") + (f"/{asked['subresource']}" if asked.get("subresource") else "")
    allowed = user.may(asked.get("verb", ""), asked.get("group", ""), resource, asked.get("namespace", ""))
    return {"allowed": allowed} if allowed else {"allowed": False, "reason": "denied by the lab"}
