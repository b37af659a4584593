"""Failures as the API answers them: `Status` objects with the reason that clients branch on."""

from __future__ import annotations

from typing import Any, NamedTuple


class Cause(NamedTuple):
    """One finding about a field; `message` is without the field's path."""

    reason: str
    message: str
    field: str


class StatusError(Exception):
    """An answer that is not a success; `body()` is the Status object, `headers` go with the answer."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code} {reason}: {message}")
        self.code, self.reason, self.message = code, reason, message
        self.details, self.headers = details, headers or {}

    def body(self) -> dict[str, Any]:
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status


def qualified(plural: str, group: str) -> str:
    """`deployments.apps`, and just `pods` for the core group."""
    return f"{plural}.{group}" if group else plural


def _about(name: str, group: str, kind: str) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name}
    if group:
        details["group"] = group
    details["kind"] = kind
    return details


def not_found(plural: str, group: str, name: str) -> StatusError:
    text = f'{qualified(plural, group)} "{name}" not found'
    return StatusError(404, "NotFound", text, _about(name, group, plural))


def no_such_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(plural: str, group: str, name: str) -> StatusError:
    text = f'{qualified(plural, group)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", text, _about(name, group, plural))


def conflict(plural: str, group: str, name: str, why: str = "") -> StatusError:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    text = f'Operation cannot be fulfilled on {qualified(plural, group)} "{name}": {why}'
    return StatusError(409, "Conflict", text, _about(name, group, plural))


def invalid(kind: str, group: str, name: str, causes: list[Cause]) -> StatusError:
    """422 with every finding, once each."""
    unique = list(dict.fromkeys(causes))
    texts = [f"{cause.field}: {cause.message}" if cause.field else cause.message for cause in unique]
    joined = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = _about(name, group, kind)
    details["causes"] = [cause._asdict() for cause in unique]
    return StatusError(422, "Invalid", f'{qualified(kind, group)} "{name}" is invalid: {joined}', details)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def forbidden(plural: str, group: str, name: str, why: str, causes: list[Cause] | None = None) -> StatusError:
    details = _about(name, group, plural)
    if causes:
        details["causes"] = [cause._asdict() for cause in causes]
    subject = f'{qualified(plural, group)} "{name}"' if name else qualified(plural, group)
    return StatusError(403, "Forbidden", f"{subject} is forbidden: {why}", details)


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def unsupported_media(message: str) -> StatusError:
    return StatusError(415, "UnsupportedMediaType", message)


def method_not_allowed() -> StatusError:
    return StatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


def internal(message: str) -> StatusError:
    return StatusError(500, "InternalError", f"Internal error occurred: {message}")


def invalid_value(field: str, value: Any, why: str) -> Cause:
    return Cause("FieldValueInvalid", f"Invalid value: {show(value)}: {why}", field)


def required(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", "Required value" + (f": {why}" if why else ""), field)


def forbidden_value(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {why}", field)


def show(value: Any) -> str:
    """A value as error texts show it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + value.replace('"', '\\"') + '"'
    if isinstance(value, dict):
        return "map[" + " ".join(f"{k}:{v}" for k, v in value.items()) + "]"
    return str(value)
