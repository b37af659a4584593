"""What happened when: provisioning of both meshes, what their peers said, and the tests, on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from harness.report.markup import element

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 980, 208, 16, 12, 26

Json = dict[str, Any]


@dataclass
class Bar:
    """A span of seconds in one row; `marks` are moments in it."""

    start: float
    end: float
    title: str
    kind: str = "step"
    marks: list[float] = field(default_factory=list)


@dataclass
class Row:
    label: str
    bars: list[Bar] = field(default_factory=list)


def timeline(content: Json) -> Markup:
    """SVG of the report's `timings` and tests; '' where nothing has a time."""
    rows = [*_step_rows(content["timings"]["steps"]), *_peer_rows(content), *_test_rows(content["requirements"])]
    rows = [row for row in rows if row.bars]
    end = max((bar.end for row in rows for bar in row.bars), default=0.0)
    if not rows or end <= 0:
        return Markup("")
    height = _TOP + len(rows) * _ROW + 30
    scale = (_WIDTH - _LEFT - _RIGHT) / end
    return element(
        "svg",
        element("title", "Timeline of the run, in seconds"),
        _axis(end, scale, height),
        [_row(row, index, scale) for index, row in enumerate(rows)],
        viewBox=f"0 0 {_WIDTH} {height}",
        class_="timeline",
        role="img",
        style="min-width:720px",
    )


def _step_rows(steps: Sequence[Json]) -> list[Row]:
    """One row per mesh and subject; a repeated step begins a new bar."""
    rows: dict[tuple[str, str], Row] = {}
    in_bar: dict[tuple[str, str], set[str]] = {}
    for step in steps:
        if not step["subject"]:
            continue
        place = step["mesh"], step["subject"]
        row, texts = rows.setdefault(place, Row(" ".join(place))), in_bar.setdefault(place, set())
        if not row.bars or step["step"] in texts:
            row.bars.append(Bar(step["seconds"], step["seconds"], f"{step['subject']}: {step['step']}"))
            texts.clear()
        else:
            row.bars[-1].title += f" → {step['step']}"
        row.bars[-1].end = step["seconds"]
        row.bars[-1].marks.append(step["seconds"])
        texts.add(step["step"])
    return [row for _, row in sorted(rows.items(), key=lambda item: (item[0][0], item[1].bars[0].start))]


def _peer_rows(content: Json) -> list[Row]:
    """Whether each mesh's own watch, and the other mesh's watch on it, was connected."""
    states = content["timings"]["peers"]
    until = max([content["run"]["seconds"] or 0.0, *(state["seconds"] for state in states)], default=0.0)
    rows = []
    for mesh in sorted({state["mesh"] for state in states}):
        of_mesh = [state for state in states if state["mesh"] == mesh]
        for name, label in (("watch", "own watch"), ("remote", "watched by peer")):
            row = Row(f"{mesh} {label}")
            connected = [state for state in of_mesh if state[name]]
            for state, after in zip(of_mesh, [*of_mesh[1:], None], strict=True):
                end = after["seconds"] if after else until
                # Before the first connection nothing is wrong yet, unless there never was one.
                waiting = connected and state["seconds"] < connected[0]["seconds"]
                kind, word = ("good", "connected") if state[name] else ("step" if waiting else "bad", "not connected")
                title = f"{mesh} {label}: {word}, {state['seconds']:.1f} to {end:.1f} s"
                if row.bars and row.bars[-1].kind == kind:
                    row.bars[-1].end = end
                else:
                    row.bars.append(Bar(state["seconds"], end, title, kind))
            rows.append(row)
    return rows


def _test_rows(requirements: Sequence[Json]) -> list[Row]:
    row = Row("tests")
    for requirement in requirements:
        for test in requirement["tests"]:
            if test["began"] is not None:
                kind = {"passed": "good", "failed": "bad"}.get(test["result"], "step")
                end = test["began"] + test["seconds"]
                title = f"{requirement['id']} {test['result']}, {test['seconds']:.1f} s"
                row.bars.append(Bar(test["began"], end, title, kind))
    return [row]


def _axis(end: float, scale: float, height: int) -> list[Markup]:
    step = next((s for s in (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600) if end / s <= 10), 1800)
    found: list[Markup] = []
    for i in range(int(end / step) + 1):
        x = _LEFT + i * step * scale
        found.append(element("line", x1=x, x2=x, y1=_TOP - 4, y2=height - 26, class_="grid"))
        found.append(element("text", f"{i * step:g} s", x=x, y=height - 10, class_="tick middle"))
    return found


def _row(row: Row, index: int, scale: float) -> Markup:
    y = _TOP + index * _ROW
    parts = [element("text", row.label, x=_LEFT - 10, y=y + 15, class_="row-name end")]
    for bar in row.bars:
        x, width = _LEFT + bar.start * scale, max(2.0, (bar.end - bar.start) * scale)
        shape = element(
            "rect",
            element("title", bar.title),
            x=round(x, 1),
            y=y + 4,
            width=round(width, 1),
            height=14,
            rx=2,
            class_=f"bar {bar.kind}",
        )
        parts.append(shape)
        parts += [
            element(
                "line",
                x1=round(_LEFT + mark * scale, 1),
                x2=round(_LEFT + mark * scale, 1),
                y1=y + 2,
                y2=y + 20,
                class_="mark",
            )
            for mark in bar.marks
        ]
    return element("g", *parts)
