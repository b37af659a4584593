"""How a split was judged: the share of the first mesh after every look, its interval, and where the test decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.report.markup import element

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 18, 16, 42
_LEAST_SPAN = 0.12  # of the share axis, to either side of the weight

Json = dict[str, Any]
Scale = Callable[[float], float]


@dataclass(frozen=True)
class Size:
    """Of a drawing, in units as large as a pixel where there is room for it; `ticks` below it, about."""

    width: int
    height: int
    ticks: int
    style: str = ""


WIDE = Size(720, 300, 5)
SLIM = Size(340, 280, 3, " slim")  # for phones, where letters of the wide one would be too small


def split_chart(split: Json, title: str, size: Size = WIDE) -> Markup:
    """SVG of one entry of the report's `split`; '' where the course is not known (counters, not measured)."""
    columns, rows = split["course"]["columns"], split["course"]["rows"]
    if not rows or not split["verdict"]:
        return Markup("")
    looks = [dict(zip(columns, row, strict=True)) for row in rows]
    backend = split["verdict"]["backends"][0]
    weight, end = backend["weight"], looks[-1]["n"]
    low, high = _range(looks, weight)

    def x(n: float) -> float:
        return _LEFT + (size.width - _LEFT - _RIGHT) * n / end

    def y(share: float) -> float:
        return _TOP + (size.height - _TOP - _BOTTOM) * (high - min(high, max(low, share))) / (high - low)

    return element(
        "svg",
        element("title", title),
        element("desc", split["headline"]),
        _zones(looks, x, y, low, high),
        _grid(low, high, end, x, y, size),
        element("path", d=_band(looks, x, y), class_="interval"),
        element("line", x1=_LEFT, x2=size.width - _RIGHT, y1=y(weight), y2=y(weight), class_="weight"),
        element(
            "polyline",
            points=" ".join(f"{x(k['n']):.1f},{y(_share(k)):.1f}" for k in looks if _known(k)),
            class_="share",
        ),
        element("circle", cx=x(end), cy=y(_share(looks[-1])), r=4, class_="share-end"),
        element("text", "requests judged", x=(_LEFT + size.width) / 2, y=size.height - 6, class_="axis middle"),
        element(
            "text",
            f"share of {backend['mesh']}",
            x=-(size.height - _BOTTOM) / 2,
            y=13,
            transform="rotate(-90)",
            class_="axis middle",
        ),
        viewBox=f"0 0 {size.width} {size.height}",
        class_=f"chart{size.style}",
        role="img",
    )


def _known(look: Json) -> int:
    return look["n"] - look["unattributed"]


def _share(look: Json) -> float:
    return look["hits"] / _known(look) if _known(look) else 0.0


def _range(looks: Sequence[Json], weight: float) -> tuple[float, float]:
    """What the share axis shows: the share after the first unsteady looks, and the boundaries at the end."""
    steady = looks[len(looks) // 4 :]
    shares = [_share(look) for look in steady] + [looks[-1]["low"], looks[-1]["high"]]
    last = looks[-1]
    shares += [edge / last["n"] for edge in (last["failLow"], last["failHigh"]) if 0 <= edge <= last["n"]]
    span = max([_LEAST_SPAN, *(abs(share - weight) * 1.15 for share in shares)])
    return max(-0.01, weight - span), min(1.01, weight + span)


def _zones(looks: Sequence[Json], x: Scale, y: Scale, low: float, high: float) -> list[Markup]:
    """Where the test would FAIL (above and below) and PASS (between), as areas."""

    def points(value: Callable[[Json], float]) -> list[str]:
        return [f"{x(look['n']):.1f},{y(value(look)):.1f}" for look in looks]

    def share(look: Json, name: str) -> float:
        return look[name] / look["n"]

    def passes(look: Json, name: str) -> float:
        empty = look["passLow"] > look["passHigh"]
        return (look["passLow"] + look["passHigh"]) / 2 / look["n"] if empty else share(look, name)

    def fail_high(look: Json) -> float:
        return share(look, "failHigh") if look["failHigh"] <= look["n"] else high

    def fail_low(look: Json) -> float:
        return share(look, "failLow") if look["failLow"] >= 0 else low

    pass_edge = points(lambda look: passes(look, "passHigh")) + points(lambda look: passes(look, "passLow"))[::-1]
    return [
        element("polygon", points=" ".join(points(lambda _: high) + points(fail_high)[::-1]), class_="zone fail"),
        element("polygon", points=" ".join(points(fail_low) + points(lambda _: low)[::-1]), class_="zone fail"),
        element("polyline", points=" ".join(points(fail_high)), class_="limit"),
        element("polyline", points=" ".join(points(fail_low)), class_="limit"),
        element("polygon", points=" ".join(pass_edge), class_="zone pass"),
    ]


def _band(looks: Sequence[Json], x: Scale, y: Scale) -> str:
    upper = [f"{x(look['n']):.1f},{y(look['high']):.1f}" for look in looks]
    lower = [f"{x(look['n']):.1f},{y(look['low']):.1f}" for look in reversed(looks)]
    return "M" + " L".join([*upper, *lower]) + " Z"


def _grid(low: float, high: float, end: int, x: Scale, y: Scale, size: Size) -> list[Markup]:
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / step <= 8)
    found: list[Markup] = []
    for i in range(round(1 / step) + 1):
        share = i * step
        if low <= share <= high:
            found.append(element("line", x1=_LEFT, x2=size.width - _RIGHT, y1=y(share), y2=y(share), class_="grid"))
            found.append(element("text", _percent(share), x=_LEFT - 6, y=y(share) + 4, class_="tick end"))
    each = _round(end / size.ticks)
    for n in range(0, end + 1, each):
        found.append(
            element("line", x1=x(n), x2=x(n), y1=size.height - _BOTTOM, y2=size.height - _BOTTOM + 4, class_="grid")
        )
        found.append(element("text", n, x=x(n), y=size.height - _BOTTOM + 17, class_="tick middle"))
    return found


def _round(value: float) -> int:
    """A round number of about this size."""
    size = 1
    while value >= 10 * size:
        size *= 10
    return max(1, next(size * digit for digit in (1, 2, 5, 10) if value <= size * digit))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
