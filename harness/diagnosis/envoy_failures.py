"""How proxies' log lines say that something stopped there: flags, reasons of failed connections, policies."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from harness.product.envoy import AccessLine, ClusterName

_POLICY = re.compile(r"matched_policy\[(?:none|ns\[(?P<namespace>[^\]]*)\]-policy\[(?P<name>[^\]]*)\])")
NO_POLICY = "none"


@dataclass(frozen=True)
class Stop:
    """Where requests stopped: a cause, the detail in the proxy's words, the address or host it is about, and how
    many lines say so."""

    cause: str
    detail: str
    about: str = ""
    count: int = 1


class Failure(StrEnum):
    """Why a connection to the next hop failed; `LOST`: the next hop closed it before the handshake was through."""

    NOT_MADE = "not made"
    OUR_REFUSAL = "we do not accept its certificate"
    OTHER_NAME = "its certificate is good, but somebody else's"
    THEIR_REFUSAL = "it does not accept our certificate"
    NO_TLS = "it does not speak TLS"
    LOST = "closed"


# In this order: Envoy's words for a wrong name say that the verification failed, too.
_REASONS = (
    (Failure.THEIR_REFUSAL, r"alert[_ ](unknown[_ ]ca|certificate[_ ]unknown|bad[_ ]certificate|access[_ ]denied)"),
    (Failure.OTHER_NAME, r"verify[_ ]san|san[_ ]match|subject[_ ]alt"),
    (Failure.OUR_REFUSAL, r"certificate[_ ]verify[_ ]failed|get[_ ](local[_ ])?issuer[_ ]certificate"),
    (Failure.NO_TLS, r"wrong[_ ]version[_ ]number"),
    (Failure.NOT_MADE, r"refused|no[_ ]route|unreachable|timeout|timed[_ ]out|connect_error"),
)


def flags(line: AccessLine) -> set[str]:
    """Envoy's response flags of a line."""
    return set(line.response_flags.split(",")) - {""}


def connection_failure(line: AccessLine) -> Failure | None:
    """Why the upstream connection of a line failed; None where it was made, also where it was cut afterwards."""
    found = flags(line) & {"UF", "URX", "UC"}
    if not found:
        return None
    reason = f"{line.upstream_transport_failure_reason} {line.response_code_details}"
    named = next((kind for kind, words in _REASONS if re.search(words, reason, re.IGNORECASE)), None)
    return named or (Failure.LOST if "UF" in found else None)


def unanswered(line: AccessLine) -> bool:
    """Whether a request got to the next hop, and nothing came back before its caller, or its route, gave up."""
    gave_up = line.is_http and bool(flags(line) & {"DC", "UT", "UMSDR"})
    return gave_up and bool(line.upstream_host) and line.upstream_service_time is None


def without_answer(line: AccessLine) -> bool:
    """Whether a connection took what was sent, and ended with nothing sent back."""
    return not line.is_http and line.bytes_received > 0 and not line.bytes_sent


def reason_of(line: AccessLine) -> str:
    """The failure in the proxy's words."""
    return (line.upstream_transport_failure_reason or line.response_code_details or line.response_flags).strip(":|")


def denial(line: AccessLine) -> str | None:
    """`namespace/name` of the AuthorizationPolicy that denied a request or a connection; None where none did.

    `NO_POLICY` where there are ALLOW policies and none of them matched; '' where the proxy does not say.
    """
    words = f"{line.connection_termination_details} {line.response_code_details}"
    if "rbac_access_denied" not in words:
        return None
    found = _POLICY.search(words)
    if not found:
        return ""
    return f"{found['namespace']}/{found['name']}" if found["name"] else NO_POLICY


def host_of(cluster: str) -> str:
    """Host of an Envoy cluster; the whole name where it is not named in Istio's way."""
    parsed = ClusterName.parse(cluster)
    return parsed.host if parsed else cluster


def most(stops: Iterable[Stop]) -> Stop | None:
    """The stop that most lines tell of, with their number."""
    counted = Counter(stops)
    if not counted:
        return None
    stop, count = counted.most_common(1)[0]
    return Stop(stop.cause, stop.detail, stop.about, count)
