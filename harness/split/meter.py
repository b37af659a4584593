"""Measures a split: probes are judged in send order, over what is settled, until the verdict is final."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.split.independence import Independence, examine
from harness.split.ledger import Account, Fate, Ledger, Record, Settlement
from harness.split.probe import ProbeClient
from harness.split.request_counters import CounterBook
from harness.split.sequential import INTERVAL_LEVEL, Outcome, Reason, SplitTest, Verdict

# Probes at the start of a run whose outcome is not looked at, so that connections and pools are warm.
WARM_UP = 64
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Measurement:
    """One measured split, or why it was not measured.

    `asked` maps meshes to weights, in the order of the verdict's counts; `problem` is set instead of the verdict when
    nothing was measured: the weights were not programmed or, with `untraceable`, nothing tells who served a request.
    `rate` is in requests/s, `elapsed` in seconds.
    """

    asked: Mapping[str, float]
    test: SplitTest
    verdict: Verdict | None = None
    independence: Independence | None = None
    account: Account | None = None
    records: tuple[Record, ...] = ()
    rate: float = 0.0
    elapsed: float = 0.0
    problem: str = ""
    untraceable: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return self.verdict is not None and self.verdict.outcome is Outcome.PASS

    @property
    def outcome(self) -> str:
        """PASS, FAIL, INCONCLUSIVE:reason or NOT PROGRAMMED."""
        if self.verdict:
            return str(self.verdict)
        return f"{Outcome.INCONCLUSIVE}:{Reason.UNATTRIBUTED}" if self.untraceable else "NOT PROGRAMMED"

    @property
    def headline(self) -> str:
        """What came out, in one line without statistics."""
        split = "/".join(f"{100 * weight:g}" for weight in self.test.weights)
        if self.verdict is None and self.untraceable:
            return f"Whether the {split} split is in force cannot be told: {self.problem}."
        if self.verdict is None:
            return f"The {split} split was not measured: {self.problem}."
        verdict = self.verdict
        shares = ", ".join(
            f"{mesh} served {_percent(share)}" for mesh, share in zip(self.asked, verdict.shares, strict=True)
        )
        if verdict.outcome is Outcome.PASS:
            return f"The {split} split is in force: {shares} of {verdict.n} requests."
        if verdict.outcome is Outcome.FAIL:
            return f"The traffic is not split {split}: {shares} of {verdict.n} requests."
        return f"Whether the {split} split is in force cannot be told: {self._doubt(verdict, shares)}."

    def _doubt(self, verdict: Verdict, shares: str) -> str:
        if verdict.reason is Reason.UNATTRIBUTED:
            reasons = self.account.reasons if self.account else {}
            main = max(reasons, key=lambda why: reasons[why], default="for no known reason")
            return f"{verdict.unattributed} of {verdict.n} requests failed or left no trace (most often: {main})"
        if verdict.reason is Reason.DEPENDENT and self.independence:
            return f"requests were not independent of each other ({'; '.join(self.independence.dependent)})"
        return f"{shares} of {verdict.n} requests, neither close enough to the weights nor far enough off"

    @property
    def numbers(self) -> str:
        """All figures in one line."""
        if self.verdict is None:
            return f"{self.outcome}; {'; '.join(self.notes)}".rstrip("; ")
        verdict, test = self.verdict, self.test
        parts = [f"{verdict}, n={verdict.n} of at most {verdict.cap}"]
        for mesh, count, share, (low, high) in zip(
            self.asked, verdict.counts, verdict.shares, verdict.intervals, strict=True
        ):
            interval = f"{100 * INTERVAL_LEVEL:g} % interval {_percent(low)} to {_percent(high)}"
            parts.append(f"{mesh} {count} ({_percent(share)}, {interval})")
        bound = test.interval(verdict.unattributed, verdict.n)[1]
        parts.append(f"failed or unattributed {verdict.unattributed} (at most {_percent(bound)})")
        parts.append(
            f"evidence for {_e(verdict.ln_evidence_for)} (PASS from {_e(-math.log(test.beta))}), "
            f"against {_e(verdict.ln_evidence_against)} (FAIL from {_e(-math.log(test.alpha))})"
        )
        parts.append(
            f"margin {100 * test.margin:g} and tolerance {100 * test.tolerance:g} points, "
            f"alpha {test.alpha:g}, beta {test.beta:g}"
        )
        if self.independence:
            found = self.independence
            parts.append(f"phi {found.phi:.2f}, order {_e(found.ln_order)}, connections {_e(found.ln_connection)}")
            parts += [f"more regular than random (round robin?): {note}" for note in found.regular]
        parts.append(f"{self.elapsed:.1f} s, {self.rate:.0f} requests/s")
        if self.account:
            parts.append(str(self.account))
        return "; ".join([*parts, *self.notes])

    @property
    def report(self) -> str:
        """Headline and numbers: what a failed test shows."""
        return f"{self.headline}\n{self.numbers}"


def _percent(share: float) -> str:
    return "no share" if math.isnan(share) else f"{100 * share:.1f} %"


def _e(ln: float) -> str:
    """An e-value, as a power of ten where it is large or small."""
    if math.isinf(ln):
        return "infinite" if ln > 0 else "0"
    return f"{math.exp(ln):.3g}" if abs(ln) < 14 else f"10^{ln / math.log(10):.1f}"


class Judge:
    """Feeds settled probes to the test, batch by batch in send order."""

    def __init__(self, test: SplitTest, meshes: Sequence[str]) -> None:
        self.test, self.meshes = test, list(meshes)
        self.counts = [0] * len(self.meshes)
        self.unattributed = 0
        self._picks: list[int | None] = []
        self._connections: list[Hashable | None] = []
        self.verdict = test.decide(self.counts)

    @property
    def judged(self) -> int:
        return len(self._picks)

    @property
    def so_far(self) -> str:
        """Requests judged and who served them, in words."""
        verdict = self.verdict
        if not verdict.n:
            return "no request judged yet"
        shares = ", ".join(
            f"{mesh} served {_percent(share)}" for mesh, share in zip(self.meshes, verdict.shares, strict=True)
        )
        failed = f", {verdict.unattributed} failed or unattributed" if verdict.unattributed else ""
        return f"{verdict.n} of at most {verdict.cap} requests judged: {shares}{failed}"

    def add_batch(self, settlements: Sequence[Settlement]) -> Verdict:
        """Looks once, after the whole batch."""
        for settlement in settlements:
            served = settlement.fate is Fate.SERVED
            self._picks.append(self.meshes.index(settlement.mesh) if served else None)
            self._connections.append(settlement.connection or None)
        return self.add_counts(
            [sum(s.fate is Fate.SERVED and s.mesh == mesh for s in settlements) for mesh in self.meshes],
            sum(s.fate is not Fate.SERVED for s in settlements),
        )

    def add_counts(self, counts: Sequence[int], unattributed: int) -> Verdict:
        """Looks once, after a batch of which only the numbers are known."""
        self.counts = [a + b for a, b in zip(self.counts, counts, strict=True)]
        self.unattributed += unattributed
        self.verdict = self.test.decide(self.counts, self.unattributed)
        return self.verdict

    def conclude(self) -> tuple[Verdict, Independence]:
        """The verdict, INCONCLUSIVE:dependent where the picks were not independent."""
        found = examine(self._picks, self._connections, len(self.meshes), self.test.batch)
        verdict = self.verdict
        if found.dependent and verdict.outcome is not Outcome.INCONCLUSIVE:
            verdict = replace(verdict, outcome=Outcome.INCONCLUSIVE, reason=Reason.DEPENDENT, final=True)
        return verdict, found


def measure_by_counters(
    test: SplitTest,
    asked: Mapping[str, float],
    book: CounterBook,
    send: Callable[[int], float],
    seen: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Like `measure` where proxies write no access log: batches of `test.batch` requests, attributed by counters.

    `send(n)` sends n requests, waits for their answers and returns the seconds it took; `seen` is told how far the
    judge is. The order of the picks is not known, so their independence is not checked; a note says so.
    """
    judge = Judge(test, list(asked))
    reasons: Counter[str] = Counter()
    elapsed = send(WARM_UP)
    book.close_batch(WARM_UP)
    while not judge.verdict.final:
        elapsed += send(test.batch)
        batch = book.close_batch(test.batch)
        judge.add_counts([batch.served.get(mesh, 0) for mesh in asked], batch.unattributed)
        seen(judge.so_far)
        reasons[batch.why] += batch.unattributed
    n, unattributed = judge.verdict.n, judge.unattributed
    served = dict(zip(asked, judge.counts, strict=True))
    account = Account(n, served, 0, unattributed, {why: count for why, count in reasons.items() if count}, {}, {})
    notes = ("attributed by istio_requests_total, access logs are off; independence was not checked",)
    rate = (n + WARM_UP) / elapsed if elapsed else 0.0
    return Measurement(asked, test, judge.verdict, None, account, (), rate, elapsed, notes=notes)


def measure(
    test: SplitTest,
    asked: Mapping[str, float],
    ledger: Ledger,
    client: ProbeClient,
    warm_up: int = WARM_UP,
    hurry: Callable[[], None] = lambda: None,
    seen: Callable[[str], None] = lambda _: None,
) -> Measurement:
    """Sends and judges until the verdict is final, then closes the books on everything that was sent.

    `client` delivers to `ledger` and may send `warm_up` + `test.cap` probes; `asked` names the meshes in the order of
    the test's weights; `hurry` has lines written that are still held back; `seen` is told how far the judge is. Probes
    in flight at the end are waited for and accounted for, but not judged. Raises ValueError when the client may send
    too few.
    """
    if client.limit < warm_up + test.cap:
        raise ValueError(f"{warm_up + test.cap} probes may be needed, the client sends only {client.limit}")
    judge = Judge(test, list(asked))
    hurried = False
    with client:
        while not judge.verdict.final:
            seen(judge.so_far)
            begin = warm_up + judge.judged
            settled = ledger.wait(begin + test.batch - 1, _LOOK_SECONDS)
            while settled - begin >= test.batch and not judge.verdict.final:
                judge.add_batch(ledger.settlements(begin, begin + test.batch))
                begin += test.batch
            if not client.running and not hurried:
                client.stop()
                hurried = True
                hurry()
    hurry()
    # Logs that said nothing for a whole grace are not waited for once more.
    ledger.close(client.sent, 0.0 if ledger.silent else None)
    verdict, independence = judge.conclude()
    return Measurement(
        asked,
        test,
        verdict,
        independence,
        ledger.account(client.sent),
        tuple(ledger.records()),
        client.rate,
        client.elapsed,
    )
