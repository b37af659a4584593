"""A verdict as people and pipelines read it: `outages.yaml`, and ten lines for a terminal."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from harness.run.redact import redacted
from harness.watch.before_after import Comparison
from harness.watch.verdict import LastingLoss, Outage, State, Verdict

EXIT = {State.SAFE: 0, State.NOT_SAFE: 1, State.INCONCLUSIVE: 2}
NAME = "outages.yaml"
_SHOWN = 8  # lines of a summary


def moment(at: float) -> str:
    """Seconds since 1970 as RFC 3339 with milliseconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def document(found: Verdict) -> dict[str, Any]:
    """The verdict as plain data, without secrets; `after` is in seconds since the begin."""
    return redacted(
        {
            "verdict": found.state.value,
            "summary": headline(found),
            "watched": {
                "from": moment(found.start),
                "to": moment(found.end),
                "seconds": round(found.end - found.start, 1),
            },
            "versions": [
                {
                    "mesh": one.mesh,
                    "before": one.before,
                    "after": one.after,
                    "asked": one.asked,
                    "reached": one.reached,
                    "lagging_proxies": dict(one.lagging),
                }
                for one in found.versions
            ],
            "streams": {name: _count(count.sent, count.lost, count.bound) for name, count in found.counts.items()},
            "outages": [_outage(outage, found.start) for outage in found.outages],
            "degradations": [_loss(loss, found.start) for loss in found.losses],
            "comparisons": [_comparison(one) for one in found.comparisons],
            "differences": [
                {
                    "since": moment(one.at),
                    "after": round(one.at - found.start, 2),
                    "mesh": one.mesh,
                    "what": one.what,
                    "harms": one.harms,
                }
                for one in found.differences
            ],
            "gaps": [
                {"from": moment(gap.start), "to": moment(gap.end), "why": gap.why, "mesh": gap.mesh or "all"}
                for gap in found.gaps
            ],
            "marks": [
                {"at": moment(at), "after": round(at - found.start, 2), "text": text} for at, text in found.marks
            ],
            "unread_lines": found.unread,
        }
    )


def _count(sent: int, lost: int, bound: float | None) -> dict[str, Any]:
    counted: dict[str, Any] = {"sent": sent, "lost": lost}
    if bound is not None:
        counted["could_fail_unseen"] = float(f"{bound:.3g}")
    return counted


def _outage(found: Outage, begin: float) -> dict[str, Any]:
    change = found.explained_by
    explanation = {
        "cause": change.cause.value,
        "mesh": change.mesh,
        "what": change.what,
        "at": moment(change.start),
    } if change else None  # fmt: skip
    return {
        "stream": f"{found.mesh} {found.stream}".strip(),
        "from": moment(found.start),
        "to": None if found.open_end else moment(found.end),
        "after": round(found.start - begin, 2),
        "seconds": round(found.lasted, 2),
        "lost": found.lost,
        "sent": found.sent,
        "saw": list(found.saw[:5]),
        "hop": found.hop or None,
        "flag": found.flag or None,
        "explained_by": explanation,
        "allowed_seconds": found.allowed,
        "judgement": found.judgement.value,
    }


def _loss(found: LastingLoss, begin: float) -> dict[str, Any]:
    loss = found.found
    low, high = loss.interval
    return {
        "stream": found.stream,
        "from": moment(loss.start),
        "from_earliest": moment(loss.earliest),
        "to": moment(loss.end),
        "after": round(loss.earliest - begin, 2),
        "lost": loss.lost,
        "sent": loss.sent,
        "share": round(loss.share, 4),
        "interval_95": [round(low, 4), round(high, 4)],
        "p_value": float(f"{loss.p_value:.2g}"),
        "saw": list(loss.saw[:5]),
        "cause": found.cause or None,
        "evidence": found.evidence or None,
        "hop": found.hop or None,
        "flag": found.flag or None,
        "began_after": str(found.explained_by) if found.explained_by else None,
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    interval = found.interval and [round(bound, 4) for bound in found.interval]
    told = {
        "row": found.row,
        "before": _number(found.before),
        "after": _number(found.after),
        "margin": round(found.margin, 4),
        "interval": interval,
        "p_worse": found.p_worse if found.p_worse is None else float(f"{found.p_worse:.2g}"),
        "outcome": found.outcome.value,
        "wants": found.wants,
    }
    return {key: value for key, value in told.items() if value not in (None, "")}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.4g}")


def headline(found: Verdict) -> str:
    """The verdict in one line: what was longest, how many outages nothing explains."""
    unexplained = sum(outage.explained_by is None for outage in found.outages)
    pages = [outage for outage in found.outages if not outage.mesh]
    longest = max(pages, key=lambda outage: outage.lasted, default=None)
    parts = [f"{found.state.value}"]
    if longest:
        why = longest.explained_by or "nothing explains it"
        parts.append(f"longest interruption {longest.lasted:.1f} s ({longest.stream}; {why})")
    elif found.counts:
        parts.append("no interruption")
    parts.append(f"{unexplained} unexplained")
    if found.losses:
        worst = max(found.losses, key=lambda loss: loss.found.share)
        parts.append(f"{worst.found.share:.0%} of {worst.stream} lost for {worst.found.lasted:.0f} s")
    unseen = sum(gap.lasted for gap in found.gaps)
    if unseen:
        parts.append(f"{unseen:.0f} s not watched")
    return "; ".join(parts)


def summary(found: Verdict) -> list[str]:
    """The verdict in at most ten lines, what is worst first."""
    lines = []
    for loss in found.losses:
        low, high = loss.found.interval
        since = f"from {loss.found.earliest - found.start:.0f} s on"
        what = f"{loss.stream}: {loss.found.share:.1%} lost ({low:.1%} to {high:.1%}) {since}"
        lines.append(f"{what}; {loss.cause or 'no cause known'}{f': {loss.evidence}' if loss.evidence else ''}")
    for outage in sorted(found.beyond, key=lambda one: -one.lasted):
        until = "to the end" if outage.open_end else f"{outage.lasted:.1f} s"
        why = outage.explained_by or "nothing explains it"
        where = f" at {outage.hop} ({outage.flag})" if outage.hop else ""
        name = f"{outage.mesh} {outage.stream}".strip()
        at = f"at {outage.start - found.start:.1f} s"
        lines.append(f"{name}: out {at}, {until}{where}; {why}; {outage.allowed:g} s allowed")
    lines += [f"{one.mesh}: {one.what}" for one in found.differences if one.harms]
    lines += [f"worse than before: {one.row}, {one.before:.3g} before and {one.after:.3g} after" for one in found.worse]
    lines += [f"not watched for {gap.lasted:.0f} s: {gap.why}{gap.mesh and f' ({gap.mesh})'}" for gap in found.gaps]
    lines += [str(one) for one in found.versions if one.lagging or not one.reached or one.before != one.after]
    shown = lines[:_SHOWN] + ([f"and {len(lines) - _SHOWN} more in {NAME}"] if len(lines) > _SHOWN else [])
    return [headline(found), *shown]
