"""The page's parts about the measured splits: verdicts with their charts, and who called whom."""

from __future__ import annotations

from typing import Any

from harness.report.graph_svg import service_graph
from harness.report.markup import Markup, element, join, table
from harness.report.split_svg import SLIM, WIDE, split_chart

Json = dict[str, Any]

_KINDS = {"PASS": "good", "FAIL": "bad"}


def split_section(splits: list[Json]) -> Markup:
    """Every measured split; the first that did not pass is open, otherwise the first."""
    found: list[object] = [_split(split, index, index == shown(splits)) for index, split in enumerate(splits)]
    none = element("p", "No split was measured.", class_="none")
    return element("section", element("h2", "Traffic split"), found or none, id="split")


def shown(splits: list[Json]) -> int:
    """Index of the split that a reader should see first."""
    return next((index for index, split in enumerate(splits) if split["outcome"] != "PASS"), 0)


def name_of(split: Json) -> str:
    """Such as `50/50`."""
    return "/".join(f"{weight:g}" for weight in split["asked"].values())


def _split(split: Json, index: int, opened: bool) -> Markup:
    title = f"Course of the {name_of(split)} split"
    charts = [chart for size in (WIDE, SLIM) if (chart := split_chart(split, title, size))]
    return element(
        "details",
        element(
            "summary",
            element("span", name_of(split), class_="split-name"),
            element("span", split["outcome"], class_=f"badge {_KINDS.get(split['outcome'], 'unsure')}"),
            element("span", split["headline"], class_="split-line"),
        ),
        charts,
        _legend() if charts else None,
        _backends(split) if split["verdict"] else None,
        _numbers(split),
        _examples(split["examples"], name_of(split)),
        open="open" if opened else None,
        class_="split",
        id=f"split-{index}",
    )


def _legend() -> Markup:
    entries = [
        ("line", "share so far"),
        ("asked", "share asked for"),
        ("band", "99 % interval, at all times"),
        ("pass", "decided as PASS here"),
        ("fail", "decided as FAIL here"),
    ]
    return element(
        "p", [[element("span", class_=f"swatch {name}"), text, " "] for name, text in entries], class_="legend"
    )


def _backends(split: Json) -> Markup:
    rows = []
    for backend in split["verdict"]["backends"]:
        low, high = backend["interval"]
        cells = [percent(backend["weight"]), backend["count"], percent(backend["share"])]
        cells.append(f"{percent(low)} to {percent(high)}")
        rows.append([backend["mesh"], *(element("td", cell, class_="number") for cell in cells)])
    numbers = ("Asked", "Requests", "Share", f"{100 * split['verdict']['level']:g} % interval")
    head = ["Mesh", *(heading(name) for name in numbers)]
    return table(head, rows, f"The {name_of(split)} split by mesh", class_="narrow")


def heading(name: str) -> Markup:
    """Head of a column of numbers."""
    return element("th", name, scope="col", class_="number")


def _numbers(split: Json) -> Markup:
    test, verdict, account, independence = (split[name] for name in ("test", "verdict", "account", "independence"))
    facts: list[tuple[str, str]] = []
    if verdict:
        evidence = verdict["evidence"]
        facts += [
            ("Requests judged", f"{verdict['n']} of at most {test['cap']}, looked at every {test['batch']}"),
            ("For the split", f"e-value {_power(evidence['for'])}, PASS from {_power(evidence['forNeeded'])}"),
            ("Against it", f"e-value {_power(evidence['against'])}, FAIL from {_power(evidence['againstNeeded'])}"),
        ]
    facts.append(
        (
            "Test",
            f"margin {100 * test['margin']:g} points, tolerance {100 * test['tolerance']:g} points, "
            f"alpha {test['alpha']:g}, beta {test['beta']:g}",
        )
    )
    if account:
        served = " + ".join(f"{count} by {mesh}" for mesh, count in account["served"].items())
        text = (
            f"{account['sent']} sent = {served} + {account['failed']} failed + {account['unattributed']} unattributed"
        )
        facts.append(("Account", text if account["balanced"] else f"{text}: NOT BALANCED"))
        facts += [("Why", f"{count} × {why}") for why, count in account["reasons"].items()]
    if independence:
        words = [*independence["dependent"], *independence["regular"]]
        phi = "" if independence["phi"] is None else f"phi {independence['phi']:.2f}"
        facts.append(("Independence", "; ".join([phi, *words] if words else [f"{phi}, nothing against it"])))
    facts.append(("Rate", f"{split['rate']:g} requests/s for {split['seconds']:g} s"))
    facts += [("Note", note) for note in split["notes"]]
    return element("dl", [[element("dt", name), element("dd", value)] for name, value in facts], class_="numbers")


def _power(log10: float | str) -> str:
    """An e-value by its common logarithm."""
    if isinstance(log10, str):
        return {"infinite": "infinite", "none": "0"}[log10]
    return f"{10**log10:.4g}" if -4 < log10 < 6 else f"10^{log10:.1f}"


def percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"


def _examples(examples: list[Json], name: str) -> Markup | None:
    if not examples:
        return None
    items = [
        element(
            "li",
            element("p", example["why"] or example["fate"], " (request ", element("code", example["request"]), ")"),
            element("p", " → ".join(example["path"])) if example["path"] else None,
            element("pre", "\n".join(f"{line['proxy']}: {line['line']}" for line in example["lines"]))
            if example["lines"]
            else None,
        )
        for example in examples
    ]
    summary = element("summary", f"Requests that were not served ({name}), one of each kind")
    return element("details", summary, element("ul", items), class_="examples")


def traffic_section(splits: list[Json]) -> Markup:
    """The service graph of each measured split, the most interesting one first."""
    measured = [(index, split) for index, split in enumerate(splits) if split["traffic"]]
    first = shown(splits)
    ordered = sorted(measured, key=lambda item: item[0] != first)
    graphs = [_graph(split) for _, split in ordered]
    none = element("p", "No request was followed.", class_="none")
    more = element("details", element("summary", "The other measured splits"), graphs[1:]) if graphs[1:] else None
    return element("section", element("h2", "Traffic"), [graphs[0], more] if graphs else none, id="traffic")


def _graph(split: Json) -> Markup:
    title = f"Who called whom during the {name_of(split)} split"
    rows = [
        [
            f"{edge['from']['mesh']} {edge['from']['name']}".strip(),
            f"{edge['to']['mesh']} {edge['to']['name']}".strip(),
            element("td", edge["requests"], class_="number"),
            element("td", edge["failed"], class_="number bad" if edge["failed"] else "number"),
        ]
        for edge in split["traffic"]
    ]
    return join(
        [
            element("h3", title),
            element("div", service_graph(split["traffic"], title), class_="scroll", tabindex="0"),
            element(
                "details",
                element("summary", "The same as a table"),
                table(("From", "To", heading("Requests"), heading("Failed")), rows, title, class_="narrow"),
            ),
        ]
    )
