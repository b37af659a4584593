"""Faults that were never captured, held against the rows of failure modes known of the product (facts, section 8).

One lab for all: each fault is put in force, looked at, and taken back. Flags are those of an Envoy as new as
the captures' (NC, without a cluster, for what OSSM 2.1's own Envoy calls NR; URX beside UF).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from harness.product.envoy import AccessLine
from lab.faults import CATALOGUE
from selftests.support.federation import ALL_STARS, LiveFederation, directory, federation, in_force

__all__ = ["directory", "federation"]
REFUSED = "503 Service Unavailable"
NO_HOST = (
    'Get "http://nope.mesh2-system.svc.cluster.local:8188/v1/watch": dial tcp: lookup '
    "nope.mesh2-system.svc.cluster.local: no such host"
)
DENIED = r"rbac_access_denied_matched_policy\[ns\[mesh1-system\]-policy\[federation-{}-mesh2\]-rule\[0\]\]"
STARS, NO_STARS = (200, "stars"), (200, "unavailable")
CONNECTED = ("active", True, "")
IMPORTED = "outbound|9080||ratings.mesh2-bookinfo.svc.mesh1-imports.local"
LOCAL = "outbound|9080||ratings.mesh2-bookinfo.svc.cluster.local"


@dataclass(frozen=True)
class Line:
    """A line of a gateway: of discovery (8188), or of a connection for services (15443, code 0).

    flag: one of its response flags, '' for any; details, failure: patterns.
    """

    code: int
    flag: str = ""
    details: str = ""
    failure: str = ""

    def fits(self, line: AccessLine) -> bool:
        details = line.response_code_details + line.connection_termination_details
        return (
            line.response_code == self.code
            and (not self.flag or self.flag in line.response_flags.split(","))
            and re.search(self.details, details) is not None
            and re.search(self.failure, line.upstream_transport_failure_reason, re.IGNORECASE) is not None
        )


@dataclass(frozen=True)
class Row:
    """What a row says. watches: per mesh list, connected, and a pattern for why not; None for no status at all.

    pages: what productpage shows; calls: (status, flags, cluster) of reviews' calls of ratings, those that fail;
    egress, ingress: lines of mesh2's way out and of mesh1's way in; log: patterns of lines of istiods, by mesh.
    """

    fault: str
    mesh1: tuple[str, bool, str] | None = CONNECTED
    mesh2: tuple[str, bool, str] | None = CONNECTED
    pages: frozenset[tuple[int, str]] = ALL_STARS
    calls: frozenset[tuple[int, str, str]] = frozenset()
    egress: tuple[Line, ...] = ()
    ingress: tuple[Line, ...] = ()
    log: dict[str, tuple[str, ...]] = field(default_factory=dict)


INACTIVE = ("inactive", False, REFUSED)
SOME = frozenset({STARS, NO_STARS})
WATCH_FAILED = r"watch failed: status code is not OK: 503 \(503 Service Unavailable\)"
UNVERIFIED = (Line(503, "UF", failure="certificate[_ ]verify[_ ]failed"),)
CLOSED = frozenset({(503, "UC", IMPORTED)})
# mesh2's own ratings v2 need mesh1's mongodb, which is reached the same way.
DEAD = CLOSED | {(500, "", LOCAL)}
# An Envoy that has nowhere to send a connection to ends it before its TLS handshake.
UNMET = frozenset({(503, "URX,UF", IMPORTED), (500, "", LOCAL)})
GIVEN_UP = r'Error processing mesh2-system/mesh1 \({}\): configmap "mesh1-ca-root-cert" not found'

ROWS = {
    "row 1": Row(
        "wrong-trust-domain-import", INACTIVE, INACTIVE, SOME, DEAD, UNVERIFIED, log={"mesh2": (WATCH_FAILED,)}
    ),
    "row 2": Row("own-trust-domain-import", INACTIVE, INACTIVE, SOME, DEAD, UNVERIFIED),
    "row 3": Row(
        "wrong-clientid-from-the-start",
        mesh2=("inactive", False, "403 Forbidden"),
        pages=SOME,
        calls=DEAD,
        ingress=(Line(403, details=DENIED.format("discovery")), Line(0, details=DENIED.format("exports"))),
        log={"mesh2": (r"watch failed: status code is not OK: 403 \(403 Forbidden\)",)},
    ),
    "row 4": Row(
        "root-missing-import",
        INACTIVE,
        None,
        frozenset({NO_STARS}) | SOME,
        log={"mesh2": (GIVEN_UP.format("will retry"), GIVEN_UP.format("giving up"))},
    ),
    "row 5": Row("root-foreign-import", INACTIVE, INACTIVE, SOME, DEAD, UNVERIFIED, log={"mesh2": (WATCH_FAILED,)}),
    "row 9": Row("unresolvable-address-import", mesh2=INACTIVE, egress=(Line(503, "UH", "no_healthy_upstream"),)),
    "row 12": Row(
        "wrong-egress-name-import",
        mesh2=("inactive", False, NO_HOST),
        log={"mesh2": (f"watch failed: {NO_HOST}",)},
    ),
    "row 15": Row("wrong-ingress-name-export", mesh2=INACTIVE, egress=(Line(503, "UF"),)),
    "row 26 (mongodb)": Row(
        "mongodb-down-export",
        pages=SOME,
        calls=frozenset({(500, "", IMPORTED), (500, "", LOCAL)}),
    ),
    "row 27": Row("split-missing-subset", pages=SOME, calls=frozenset({(503, "NC", "")})),
    "row 30": Row("ratings-down-export", pages=SOME, calls=CLOSED, ingress=(Line(0, "UH"),)),
    "F78": Row("ratings-down-import", pages=SOME, calls=frozenset({(503, "UH", LOCAL)})),
    "row 40": Row("network-view-wrong-import", pages=SOME, calls=UNMET, egress=(Line(0, "UH"),)),
}


def watch(status: Any, wanted: tuple[str, bool, str] | None) -> Any:
    """What the status says of the own watch, in the words of `wanted` where it says the same."""
    entries = [(name, entry) for name, found in (status.get("discoveryStatus") or {}).items() for entry in found or ()]
    if not entries:
        return None
    name, entry = entries[0]
    reason = "" if entry["watch"]["connected"] else entry["watch"].get("lastDisconnectStatus", "")
    if wanted and re.fullmatch(wanted[2], reason):
        reason = wanted[2]
    return name, entry["watch"]["connected"], reason


@dataclass
class Looks:
    """What a federation shows of a fault since it was put in force, in the form in which a Row has it."""

    federation: LiveFederation
    begin: datetime
    said: dict[str, int]

    @classmethod
    def from_now(cls, federation: LiveFederation) -> Looks:
        said = {mesh: len(federation.istiod_log(mesh)) for mesh in ("mesh1", "mesh2")}
        return cls(federation, datetime.now(UTC), said)

    def watch(self, mesh: str, wanted: tuple[str, bool, str] | None) -> Any:
        return watch(self.federation.status(mesh), wanted)

    def unseen(self, mesh: str, wanted: tuple[Line, ...]) -> list[Line]:
        """Those of the wanted lines that no gateway has written."""
        lines = [line for line in self.federation.gateway(mesh) if line.start_time >= self.begin]
        return [each for each in wanted if not any(map(each.fits, lines))]

    def traffic(self, row: Row) -> Any:
        pages, mark = self.federation.marked_pages()
        lines = [line for line in self.federation.ratings_calls(mark) if not line.succeeded] if row.calls else []
        calls = {(line.response_code, line.response_flags, line.upstream_cluster) for line in lines}
        return pages, calls, self.unseen("mesh1", row.ingress), self.unseen("mesh2", row.egress)

    def unsaid(self, row: Row) -> list[str]:
        """Those patterns of the row that no line of an istiod fits."""
        return [
            pattern
            for mesh, patterns in row.log.items()
            for pattern in patterns
            if not any(re.search(pattern, text) for text in self.federation.istiod_log(mesh)[self.said[mesh] :])
        ]


@pytest.mark.parametrize("row", ROWS.values(), ids=[f"{name}: {row.fault}" for name, row in ROWS.items()])
def test_a_fault_looks_as_the_product_does(directory, federation, row):
    federation.until(federation.healthy, True)
    looks = Looks.from_now(federation)
    with in_force(directory, CATALOGUE[row.fault]):
        for mesh, wanted in (("mesh1", row.mesh1), ("mesh2", row.mesh2)):
            federation.until(partial(looks.watch, mesh, wanted), wanted)
        federation.until(lambda: looks.traffic(row), (row.pages, set(row.calls), [], []))
        federation.until(lambda: looks.unsaid(row), [])
    federation.until(federation.healthy, True)
