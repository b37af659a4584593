"""Takes secrets out of what is written down; everything that leaves a run goes through here.

Rules: values of keys that name a secret, whole (`token`, `DB_PASS`, `client-key-data`, `authorization`, ...); values of
environment variables, but for names known to hold none; data of Secret objects; in any text: private keys in PEM,
bearer and basic credentials, JSON web tokens, passwords in URLs, `key: value` and `key=value` of such keys, and what
follows a flag of such a name, as a word of its own or as the next entry of a list (`--db-password`, `x`).
Certificates and public keys stay, and so do names of things (`secretName`, `clientID`, trust domains).
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

GONE = "[redacted]"

_WORDS = (
    r"(?:[\w.-]*(?:token|password|passwd|passphrase|secret|credentials?|secret[-_]?access[-_]?key"
    r"|(?:secret|private|api|client|access|session|signing|encryption)[-_]?key)(?:[-_]?data)?"
    r"|[\w.-]+[-_.](?:pass|pwd)|(?:proxy-|x-)?authorization|(?:set-)?cookie|inline_bytes)"
)
# Too common a word to be one in any sentence: what pull secrets hold.
_PULL_SECRET = r"(?:auth|\.dockerconfigjson|\.dockercfg)"
_KEY = re.compile(_WORDS, re.IGNORECASE)
_FLAG = rf"--?(?!-){_WORDS}"
_FLAG_KEY = re.compile(_FLAG, re.IGNORECASE)
_PULL_SECRET_KEY = re.compile(_PULL_SECRET)
# Names of objects, and what they point to, say nothing secret.
_HARMLESS = re.compile(r".*(name|path|file|ref|expiration|audience|url|type)s?", re.IGNORECASE)
# What the product and bookinfo are told by their environment; anything else may be a secret, whatever its name.
_OPEN_VARIABLE = re.compile(
    r"ISTIO_META(?:JSON)?_\w+|PILOT_\w+|ENABLE_\w+|CANONICAL_\w+|POD_NAME|POD_NAMESPACE|NODE_NAME|INSTANCE_IP|HOST_IP"
    r"|SERVICE_ACCOUNT|REVISION|CLUSTER_ID|TRUST_DOMAIN|CA_ADDR|ISTIOD_ADDR|JWT_POLICY|PROXY_CONFIG|LOG_DIR|DB_TYPE"
    r"|MONGO_DB_URL|SERVICES_DOMAIN|\w+_HOSTNAME|OPERATOR_NAME"
)
_SCHEME = r"(?:(?:bearer|basic|digest|negotiate)[ \t]+)?"
# Every pattern reads a run of characters from its beginning only, and does not give back what it has read
# (`*+`, `++`): else a long run, such as 20 kB of backslashes, would be read anew from each of its characters.
_QUOTE = r"\\*+[\"']"  # also as it stands inside other quotes
_FIRST_QUOTE = rf"(?<!\\){_QUOTE}"  # where nothing stands before it in the pattern
# Up to the same quote again, or to the end of the line; without quotes up to what separates values.
_DONE = rf"(?!{_SCHEME}(?:{_QUOTE})?{_SCHEME}{re.escape(GONE)})"
_QUOTED = rf"(?P<open>{_QUOTE}){_SCHEME}(?:(?!(?P=open))(?:\\*+[^\\\n]|\\++))++(?P<close>(?P=open))?"
_BARE = r"[^\s\"'\\,;&{[][^\s\"',;&]*"
_VALUE = rf"(?:{_QUOTED}|{_BARE})"
# Between a flag and its value: blanks, also over lines that a shell joins; the commas or dashes of a list.
_NEXT = rf"(?:(?:[ \t]|\\++\n)++|{_QUOTE}\s*+,\s*+|(?:{_QUOTE})?[^\S\n]*+\n\s*+-[ \t]++)"
_ARGUMENT = rf"(?!(?:{_QUOTE})?--)(?:{_QUOTED}|[^\s\"'\\;&|]+)"
_JWT = "[A-Za-z0-9_-]"
_TEXT = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
            re.DOTALL,
        ),
        GONE,
    ),
    (re.compile(rf"\b(bearer|basic)(\s+(?:{_QUOTE})?)[A-Za-z0-9._~+/=-]{{6,}}", re.IGNORECASE), rf"\1\2{GONE}"),
    (re.compile(rf"(?<!{_JWT})(?={_JWT}++\.{_JWT})({_JWT}*?)\beyJ{_JWT}{{6,}}+(?:\.{_JWT}++){{1,2}}"), rf"\1{GONE}"),
    (re.compile(r"\bsha256~[A-Za-z0-9_-]{10,}"), GONE),
    (re.compile(r"(?<![a-z0-9+.-])([a-z][a-z0-9+.-]*://[^/\s:@\"']*:)[^/\s\"']+@", re.IGNORECASE), rf"\1{GONE}@"),
    # PEM, and what pull secrets hold, as base64: the way kubeconfigs and Secrets carry them.
    (re.compile(r"\b(?:LS0tLS1CRUdJTi|eyJhdXRocyI)[A-Za-z0-9+/=]{20,}"), GONE),
    (re.compile(r"((?:set-)?cookie(?:\\*[\"'])?[ \t]*[:=][ \t]*)[^\s\"'\\][^\n\"']*", re.IGNORECASE), rf"\1{GONE}"),
    (
        re.compile(
            rf"(?P<key>(?:{_FIRST_QUOTE}){_PULL_SECRET}(?:{_QUOTE})[ \t]*:[ \t]*|(?<![\w-]){_PULL_SECRET}=)"
            rf"{_DONE}{_VALUE}",
            re.IGNORECASE,
        ),
        rf"\g<key>\g<open>{GONE}\g<close>",
    ),
    (
        re.compile(
            rf"(?P<key>{_FIRST_QUOTE}name{_QUOTE}:\s*{_QUOTE}{_WORDS}{_QUOTE},\s*{_QUOTE}value{_QUOTE}:\s*){_DONE}{_QUOTED}",
            re.IGNORECASE,
        ),
        rf"\g<key>\g<open>{GONE}\g<close>",
    ),
    (
        re.compile(
            rf"(?<![\w.-])(?P<key>(?:{_FIRST_QUOTE})?{_WORDS}(?:{_QUOTE})?[ \t]*[:=][ \t]*{_DONE}{_SCHEME}){_VALUE}",
            re.IGNORECASE,
        ),
        rf"\g<key>\g<open>{GONE}\g<close>",
    ),
    (
        re.compile(rf"(?<![\w.-])(?P<key>{_FLAG}{_NEXT}){_DONE}{_ARGUMENT}", re.IGNORECASE),
        rf"\g<key>\g<open>{GONE}\g<close>",
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
        # Headers and parameters: the key is a value of its own.
        named = "value" in value and _names_secret(value.get("name") or value.get("key") or "")
        return {
            key: _environment(entry)
            if key == "env"
            else redacted(entry, _holds_secret(key, entry) or (named and key == "value") or (secret and not _open(key)))
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [
            redacted(entry, secret or _follows_flag(before, entry))
            for before, entry in zip([None, *value], value, strict=False)
        ]
    if not isinstance(value, str):
        return value
    return GONE if secret and value else _redacted_string(value)


def _environment(value: Any) -> Any:
    """Variables of a container: a list of names and values, a mapping, or one of these as JSON."""
    if isinstance(value, list):
        return [_variable(entry) for entry in value]
    if isinstance(value, dict):
        return {key: redacted(entry, secret=not _open_variable(key)) for key, entry in value.items()}
    if isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            return json.dumps(_environment(json.loads(value)))
    return redacted(value)


def _variable(entry: Any) -> Any:
    if not isinstance(entry, dict) or "value" not in entry:
        return redacted(entry)
    return {**redacted(entry), "value": redacted(entry["value"], secret=not _open_variable(entry.get("name")))}


def _open_variable(name: Any) -> bool:
    return bool(_OPEN_VARIABLE.fullmatch(str(name))) and not _names_secret(name)


def _redacted_string(text: str) -> str:
    if text[:1] in ("{", "["):
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(text)
            clean = redacted(found)
            return text if clean == found else json.dumps(clean)
    return redacted_text(text)


def _holds_secret(key: Any, entry: Any) -> bool:
    """A key that names a secret, unless what stands there only says which one (`secret: {secretName: ...}`)."""
    if isinstance(entry, str) and _PULL_SECRET_KEY.fullmatch(str(key)):
        return True
    return _names_secret(key) and not (isinstance(entry, dict) and {"name", "secretName"} & entry.keys())


def _names_secret(key: Any) -> bool:
    return bool(_KEY.fullmatch(str(key))) and not _open(key)


def _follows_flag(flag: Any, entry: Any) -> bool:
    """Whether an entry of a list is the value of a flag before it that names a secret; `--` begins the next flag."""
    named = isinstance(flag, str) and _FLAG_KEY.fullmatch(flag) and not _open(flag)
    return bool(named) and isinstance(entry, str) and not entry.startswith("--")


def _open(key: Any) -> bool:
    return bool(_HARMLESS.fullmatch(str(key)))
