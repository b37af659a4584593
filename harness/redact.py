"""Takes secrets out of what is written down; everything that leaves a run goes through here.

Rules: values of keys that name a secret, whole (`token`, `password`, `client-key-data`, `authorization`, ...); data of
Secret objects; in any text: private keys in PEM, bearer and basic credentials, JSON web tokens, passwords in URLs,
`key: value` and `key=value` of such keys. Certificates and public keys stay.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

GONE = "[redacted]"

_WORDS = (
    r"(?:[\w.-]*(?:token|password|passwd|secret[-_]?key|private[-_]?key|api[-_]?key|client[-_]?key|client[-_]?secret)"
    r"(?:[-_]?data)?|(?:proxy-|x-)?authorization|(?:set-)?cookie|inline_bytes)"
)
_KEY = re.compile(_WORDS, re.IGNORECASE)
# Names of objects, and what they point to, say nothing secret.
_HARMLESS = re.compile(r".*(name|path|file|ref|expiration|audience|url|type)s?", re.IGNORECASE)
_TEXT = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), GONE),
    (re.compile(r"\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE), rf"\1\2{GONE}"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]+){1,2}"), GONE),
    (re.compile(r"\bsha256~[A-Za-z0-9_-]{10,}"), GONE),
    (re.compile(r"([a-z][a-z0-9+.-]*://[^/\s:@\"']*:)[^/\s@\"']+@", re.IGNORECASE), rf"\1{GONE}@"),
    # PEM as base64, the way kubeconfigs and Secrets carry keys.
    (re.compile(r"\bLS0tLS1CRUdJTi[A-Za-z0-9+/=]{20,}"), GONE),
    (
        re.compile(
            rf"""(?<![\w.-])(["']?{_WORDS}["']?[ \t]*[:=][ \t]*["']?(?:(?:bearer|basic)[ \t]+)?)"""
            rf"""(?!{re.escape(GONE)})[^\s"',;&{{[][^\s"',;&]*""",
            re.IGNORECASE,
        ),
        rf"\1{GONE}",
    ),
)


def redacted_text(text: str) -> str:
    """The text without secrets."""
    for pattern, replacement in _TEXT:
        text = pattern.sub(replacement, text)
    return text


def redacted(value: Any, secret: bool = False) -> Any:
    """A copy of plain data (dicts, lists, texts, numbers) without secrets; `secret`: what it stands under is one."""
    if isinstance(value, dict):
        if value.get("kind") == "Secret" or str(value.get("type", "")).startswith("kubernetes.io/"):
            value = {key: entry for key, entry in value.items() if key not in ("data", "stringData")}
        # Environment variables and headers: the key is a value of its own.
        named = "value" in value and _names_secret(value.get("name") or value.get("key") or "")
        return {
            key: redacted(entry, _names_secret(key) or (named and key == "value") or (secret and not _harmless(key)))
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(entry, secret) for entry in value]
    if not isinstance(value, str):
        return value
    return GONE if secret and value else _redacted_string(value)


def _redacted_string(text: str) -> str:
    if text[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            found = json.loads(text)
            clean = redacted(found)
            return text if clean == found else json.dumps(clean)
    return redacted_text(text)


def _names_secret(key: Any) -> bool:
    return bool(_KEY.fullmatch(str(key))) and not _harmless(key)


def _harmless(key: Any) -> bool:
    return bool(_HARMLESS.fullmatch(str(key)))
