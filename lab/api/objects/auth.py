"""Who asks, and what is denied to them. The admin may do everything."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Any

from lab.api.schema.errors import StatusError, bad_request, qualified

ADMIN_GROUPS = ("system:masters", "system:authenticated")


@dataclass(frozen=True)
class Rule:
    """What a restricted user may do, or may not; `*` stands for all of them, resources may be `pods/exec`."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    namespaces: frozenset[str]

    def covers(self, verb: str, group: str, resource: str, namespace: str) -> bool:
        return (
            _in(verb, self.verbs)
            and _in(group, self.groups)
            and _in(resource, self.resources)
            and _in(namespace, self.namespaces)
        )


def _rules(listed: list[dict[str, Any]]) -> tuple[Rule, ...]:
    fields = ("verbs", "groups", "resources", "namespaces")
    return tuple(Rule(*(frozenset(rule.get(field) or ["*"]) for field in fields)) for rule in listed)


def _in(value: str, allowed: frozenset[str]) -> bool:
    return "*" in allowed or value in allowed


@dataclass(frozen=True)
class User:
    """An authenticated user; `allowed`: all that may be done, None for everything that is not denied."""

    name: str
    groups: tuple[str, ...] = ("system:authenticated",)
    uid: str = ""
    denied: tuple[Rule, ...] = ()
    admin: bool = False
    allowed: tuple[Rule, ...] | None = None

    def may(self, verb: str, group: str, resource: str, namespace: str) -> bool:
        def covered(rules: tuple[Rule, ...]) -> bool:
            return any(rule.covers(verb, group, resource, namespace) for rule in rules)

        return not covered(self.denied) and (self.allowed is None or covered(self.allowed))

    def require(self, verb: str, group: str, resource: str, namespace: str, name: str) -> None:
        """403 as RBAC words it, where this is denied."""
        if self.may(verb, group, resource, namespace):
            return
        where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
        plural, _, sub = resource.partition("/")
        subject = qualified(plural, group) + (f"/{sub}" if sub else "")
        if name:
            subject += f' "{name}"'
        text = f'{subject} is forbidden: User "{self.name}" cannot {verb} resource "{resource}" '
        text += f'in API group "{group}"{where}'
        details = {"name": name, "group": group, "kind": resource}
        raise StatusError(403, "Forbidden", text, {k: v for k, v in details.items() if v})


class Users:
    """Bearer tokens and the users they stand for."""

    def __init__(self, admin_token: str) -> None:
        self._admin_token = admin_token
        self._admin = User("system:admin", ADMIN_GROUPS, admin=True)
        self._tokens: dict[str, User] = {}

    def by_token(self, token: str) -> User | None:
        if hmac.compare_digest(token.encode(), self._admin_token.encode()):
            return self._admin
        return self._tokens.get(token)

    def by_certificate(self, certificate: dict[str, Any] | None) -> User | None:
        """The user a verified client certificate names: common name and organizations."""
        if not certificate:
            return None
        fields = [pair for part in certificate.get("subject", ()) for pair in part]
        name = next((value for key, value in fields if key == "commonName"), "")
        groups = tuple(value for key, value in fields if key == "organizationName")
        return User(name, (*groups, "system:authenticated"), admin="system:masters" in groups)

    def add(self, body: dict[str, Any]) -> User:
        """A further user: {"token", "name", "deny": [{"verbs", "groups", "resources", "namespaces"}]}, or "allow"."""
        try:
            allowed = _rules(body["allow"]) if "allow" in body else None
            groups = tuple(body.get("groups") or ("system:authenticated",))
            user = User(body["name"], groups, denied=_rules(body.get("deny") or []), allowed=allowed)
            self._tokens[body["token"]] = user
        except (KeyError, TypeError, AttributeError) as error:
            raise bad_request(f"a user has token, name, and allow or deny: {error!r}") from None
        return user

    def by_name(self, name: str) -> User:
        """The user of that name; one nobody knows has nothing denied."""
        return next((user for user in self._tokens.values() if user.name == name), User(name))

    def remove(self, token: str) -> None:
        self._tokens.pop(token, None)

    def service_account(self, namespace: str, name: str, uid: str) -> str:
        """A token of a ServiceAccount."""
        token = secrets.token_urlsafe(32)
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        self._tokens[token] = User(f"system:serviceaccount:{namespace}:{name}", groups, uid)
        return token


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized", headers={"WWW-Authenticate": "Bearer"})
