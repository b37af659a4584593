"""A measured split as plain data: what was asked, what came out, how it got there, who called whom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from harness.report.service_graph import service_graph
from harness.split.independence import Independence
from harness.split.ledger import Account, Fate, Record
from harness.split.meter import WARM_UP, Measurement
from harness.split.sequential import INTERVAL_LEVEL, Verdict

_LOOKS_SHOWN = 100
_EXAMPLES_SHOWN = 5
COURSE = ("n", "hits", "unattributed", "low", "high", "failLow", "passLow", "passHigh", "failHigh", "seconds")


def figures(found: Measurement) -> dict[str, Any]:
    """One entry of the report's `split`; shares are between 0 and 1, evidence is the common logarithm of e-values."""
    exporter, importer = found.asked
    return {
        "asked": {mesh: float(weight) for mesh, weight in found.asked.items()},
        "outcome": found.outcome,
        "headline": found.headline,
        "problem": found.problem,
        "test": {
            "margin": found.test.margin,
            "tolerance": found.test.tolerance,
            "alpha": found.test.alpha,
            "beta": found.test.beta,
            "batch": found.test.batch,
            "cap": found.test.cap,
        },
        "verdict": _verdict(found, found.verdict) if found.verdict else None,
        "independence": _independence(found.independence) if found.independence else None,
        "account": _account(found.account) if found.account else None,
        "rate": round(found.rate, 1),
        "seconds": round(found.elapsed, 2),
        "notes": list(found.notes),
        "course": {"columns": list(COURSE), "rows": list(_course(found))},
        "traffic": [
            {
                "from": {"mesh": edge.source.mesh, "name": edge.source.name},
                "to": {"mesh": edge.target.mesh, "name": edge.target.name},
                "requests": edge.requests,
                "failed": edge.failed,
            }
            for edge in service_graph(found.records, (exporter, importer))
        ],
        "examples": [_example(record) for record in _unexplained(found)],
    }


def _verdict(found: Measurement, verdict: Verdict) -> dict[str, Any]:
    return {
        "outcome": verdict.outcome.value,
        "reason": verdict.reason.value if verdict.reason else "",
        "n": verdict.n,
        "unattributed": verdict.unattributed,
        "level": INTERVAL_LEVEL,
        "backends": [
            {
                "mesh": mesh,
                "weight": weight,
                "count": count,
                "share": number(share),
                "interval": [round(low, 6), round(high, 6)],
            }
            for mesh, weight, count, share, (low, high) in zip(
                found.asked, found.test.weights, verdict.counts, verdict.shares, verdict.intervals, strict=True
            )
        ],
        "evidence": {
            "for": _log10(verdict.ln_evidence_for),
            "forNeeded": round(-math.log10(found.test.beta), 3),
            "against": _log10(verdict.ln_evidence_against),
            "againstNeeded": round(-math.log10(found.test.alpha), 3),
        },
    }


def _independence(found: Independence) -> dict[str, Any]:
    return {
        "phi": number(found.phi),
        "order": _log10(found.ln_order),
        "connection": _log10(found.ln_connection),
        "dependent": list(found.dependent),
        "regular": list(found.regular),
    }


def _account(found: Account) -> dict[str, Any]:
    return {
        "sent": found.sent,
        "served": dict(found.served),
        "failed": found.failed,
        "unattributed": found.unattributed,
        "balanced": found.balanced,
        "reasons": dict(found.reasons),
        "foreign": dict(found.foreign),
        "connections": dict(found.connections),
    }


def number(value: float) -> float | None:
    """None for what is no number: YAML and JSON readers disagree about it."""
    return None if math.isnan(value) or math.isinf(value) else round(value, 6)


def _log10(ln: float) -> float | str:
    if math.isinf(ln):
        return "infinite" if ln > 0 else "none"
    return round(ln / math.log(10), 4)


def _course(found: Measurement) -> Iterator[list[float | int | None]]:
    """The looks of the test, thinned out; none where picks have no order (counters) or there are not two backends."""
    verdict, test = found.verdict, found.test
    if verdict is None or not found.records or len(test.weights) != 2:
        return
    judged = [r for r in found.records if WARM_UP <= r.probe.index < WARM_UP + verdict.n]
    first_mesh, begin = next(iter(found.asked)), found.records[0].probe.sent_at
    looks = range(test.batch, len(judged) + 1, test.batch)
    shown = {*looks[:: max(1, math.ceil(len(looks) / _LOOKS_SHOWN))], *looks[-1:]}
    hits = unattributed = 0
    for n, record in enumerate(judged, 1):
        settlement = record.settlement
        hits += settlement.fate is Fate.SERVED and settlement.mesh == first_mesh
        unattributed += settlement.fate is not Fate.SERVED
        if n in shown:
            low, high = test.interval(hits, n, unattributed)
            edge = test.boundaries(n)
            seconds = round(record.probe.answered_at - begin, 2)
            yield [
                *(n, hits, unattributed, round(low, 4), round(high, 4)),
                *(edge.fail_low, edge.pass_low, edge.pass_high, edge.fail_high, seconds),
            ]


def _unexplained(found: Measurement) -> list[Record]:
    """The first records of each way to fail."""
    seen: dict[str, Record] = {}
    for record in found.records:
        if record.settlement.fate is not Fate.SERVED:
            seen.setdefault(record.settlement.why, record)
    return list(seen.values())[:_EXAMPLES_SHOWN]


def _example(record: Record) -> dict[str, Any]:
    return {
        "request": record.probe.request_id,
        "sentAt": record.probe.sent_at,
        "status": record.probe.status,
        "page": record.probe.page.value,
        "fate": record.settlement.fate.value,
        "why": record.settlement.why,
        "path": list(record.path),
        "lines": [{"proxy": str(logged.source), "line": logged.text} for logged in record.lines],
    }
