"""The page: everything escaped, nothing from elsewhere, and what it draws is what the report says."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import pytest

from harness.report.graph_svg import service_graph
from harness.report.markup import element
from harness.report.page import page
from harness.report.run_record import PeerState, Result, RunRecord
from harness.report.split_svg import split_chart
from harness.report.timeline_svg import timeline
from harness.run.progress import Step
from harness.split.meter import Measurement
from harness.split.sequential import SplitTest
from selftests.support.reports import content_of, even, full_record, measured, run_of
from selftests.support.scripted import Answer

NASTY = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>&"
VOID = {"meta", "link", "br", "hr", "img"}


class Tree(HTMLParser):
    """Elements of a page in order, as (name, attributes, text directly inside); raises on crossed ends."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        found = (tag, {name: value or "" for name, value in attrs}, [])
        self.elements.append(found)
        if tag not in VOID:
            self._open.append(found)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> ends nothing"
        assert self._open.pop()[0] == tag, f"</{tag}> crosses another element"

    def handle_data(self, data):
        if self._open:
            self._open[-1][2].append(data)

    def texts(self, tag: str, class_: str = "") -> list[str]:
        wanted = set(class_.split())
        return [
            "".join(text)
            for name, attributes, text in self.elements
            if name == tag and wanted <= set(attributes.get("class", "").split())
        ]


@pytest.fixture(scope="module")
def content() -> dict:
    return content_of(full_record())


@pytest.fixture(scope="module")
def tree(content) -> Tree:
    return Tree(page(content))


# What it is


def poisoned(value: Any, key: str = "") -> Any:
    """The same report with nasty text in every place where text is free."""
    if isinstance(value, dict):
        return {name: poisoned(entry, name) for name, entry in value.items()}
    if isinstance(value, list):
        return [poisoned(entry, key) for entry in value]
    fixed = {"result", "started", "level", "outcome", "for", "against", "profile", "columns", "state", "began"}
    return f"{value}{NASTY}" if isinstance(value, str) and key not in fixed else value


def test_every_text_is_escaped(content):
    text = page(poisoned(content))
    assert text.count("alert(") > 200, "the planted text is not there: this test would prove nothing"
    found = Tree(text)
    assert {name for name, _, _ in found.elements} & {"script", "img", "iframe", "object", "base", "form"} == set()
    assert not [name for _, attributes, _ in found.elements for name in attributes if name.startswith("on")]


def test_keys_are_escaped_too(content):
    sick = {**content, "run": {**content["run"], "options": {NASTY: NASTY}}}
    assert "<script" not in page(sick)


def test_links_lead_only_into_the_page_or_beside_it(content):
    files = ["javascript:alert(1)", "https://elsewhere/x", "/etc/passwd", "../../x", "//elsewhere/x", "evidence/a.yaml"]
    found = Tree(page({**content, "evidence": [{"file": file, "what": "w"} for file in files]}))
    links = [attributes["href"] for name, attributes, _ in found.elements if name == "a"]
    assert [link for link in links if not link.startswith("#")] == ["evidence/a.yaml"]


def test_a_log_says_from_when_to_when_it_goes_and_that_it_was_cut(content):
    text = page(content)
    assert "access log, 00:00:03 to 00:01:07, <strong>cut</strong></p>" in text
    assert ">peer</p>" in text


def test_every_link_into_the_page_has_its_target(tree):
    ids = [attributes["id"] for _, attributes, _ in tree.elements if "id" in attributes]
    links = {attributes["href"][1:] for name, attributes, _ in tree.elements if name == "a" and "href" in attributes}
    assert len(ids) == len(set(ids))
    assert {link for link in links if "." not in link} <= set(ids)


def test_the_page_needs_nothing_from_elsewhere(tree):
    assert not [name for name, _, _ in tree.elements if name in ("script", "link", "img")]
    style = "".join(tree.texts("style"))
    assert "prefers-color-scheme: dark" in style
    assert "url(" not in style
    assert "@import" not in style


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: run_of(), "Conformant"),
        (lambda: run_of({"FED-001": Result.FAILED}), "Not conformant"),
        (lambda: run_of({"FED-001": Result.SKIPPED}), "Incomplete"),
        (lambda: RunRecord(), "Unknown"),
    ],
)
def test_the_verdict_comes_first(make, word):
    headings = [text for name, _, text in Tree(page(content_of(make()))).elements if name in ("h1", "h2")]
    assert headings[0] == [word]


def test_every_contract_has_its_row_with_result_and_reason(tree, content):
    shown = [text for text in tree.texts("a") if re.fullmatch(r"[A-Z]+-\d{3}", text)]
    assert shown == [entry["id"] for entry in content["requirements"]]
    assert tree.texts("pre", "reason") == ["why FED-003", "why SPLIT-001"]


def test_cause_side_and_remedy_are_at_the_top(tree):
    words = [text for _, _, text in tree.elements]
    headings = [text for name, _, text in tree.elements if name == "h2"]
    assert headings[:2] == [
        ["Cause, on mesh2, found after FED-003 failed"],
        ["Cause, on mesh1, found after SPLIT-001 failed"],
    ]
    for said in ("The weights differ.", "Set them.", "No pod.", "Start it."):
        assert [said] in words


def test_unknown_is_not_shown_as_ok(tree):
    assert "? unknown" in tree.texts("span", "badge unsure")


# Colours


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """As in WCAG 2.2, 1.4.3."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme):
    style = resources.files("harness.report").joinpath("templates/page.css").read_text()
    block = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[scheme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    pairs = [(ink, paper) for ink in ("ink", "soft", "link") for paper in ("paper", "panel")]
    pairs += [(kind, f"{kind}-bg") for kind in ("good", "bad", "unsure", "one", "two")]
    pairs += [("ink", "bad-bg"), ("ink", "one-bg"), ("ink", "two-bg"), ("bad", "paper"), ("unsure", "paper")]
    weak = {pair: contrast(colours[pair[0]], colours[pair[1]]) for pair in pairs}
    assert {pair: value for pair, value in weak.items() if value < 4.5} == {}


# What it draws


Area = tuple[float, float, float, float]


def areas(svg: Tree, *, meshes: bool) -> list[tuple[str, Area]]:
    """(Owner, (left, top, right, bottom)) of the boxes that are meshes, or of those that are workloads."""
    found = []
    for name, attributes, _ in svg.elements:
        kinds = attributes.get("class", "").split()
        if name == "rect" and ("mesh" in kinds) is meshes:
            left, top, width, height = (float(attributes[side]) for side in ("x", "y", "width", "height"))
            found.append((kinds[-1], (left, top, left + width, top + height)))
    return found


def within(area: Area, box: Area) -> bool:
    return box[0] < area[0] and box[1] < area[1] and area[2] < box[2] and area[3] < box[3]


def apart(one: Area, other: Area) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@pytest.fixture(scope="module")
def traffic(content) -> list[dict[str, Any]]:
    """That of a whole measurement, and more workloads of ratings, which stand in one column."""
    called = [("mesh1", "mesh2-ingress", "ratings-v2")]
    called += [("mesh2", "reviews-v3", f"ratings-{version}") for version in ("v1", "v2", "v3")]
    more = [
        {"from": {"mesh": mesh, "name": caller}, "to": {"mesh": mesh, "name": name}, "requests": 400, "failed": 0}
        for mesh, caller, name in called
    ]
    return content["split"][1]["traffic"] + more


@pytest.fixture(scope="module")
def graph(traffic) -> Tree:
    return Tree(service_graph(traffic, "t"))


def test_the_graph_shows_each_call_with_its_counts(traffic, graph):
    counts = [int(text) for text in graph.texts("text", "label") if text.isdigit()]
    failed = [int(text.removesuffix(" ✗")) for text in graph.texts("text", "label bad")]
    assert counts == [edge["requests"] for edge in traffic]
    assert failed == [edge["failed"] for edge in traffic if edge["failed"]]
    assert failed
    assert len(graph.texts("path", "edge head")) == len(traffic)


def test_a_mesh_holds_its_own_workloads_and_no_others(graph):
    boxes, workloads = dict(areas(graph, meshes=True)), areas(graph, meshes=False)
    assert set(boxes) == {"mesh1", "mesh2"}
    assert len(workloads) > 6
    for owner, area in workloads:
        inside = [mesh for mesh, box in boxes.items() if within(area, box)]
        assert inside == ([] if owner == "client" else [owner])


def test_no_workload_lies_on_another(graph):
    for (_, one), (_, other) in itertools.combinations(areas(graph, meshes=False), 2):
        assert apart(one, other), (one, other)


def ends(svg: Tree) -> tuple[float, list[float]]:
    """Height of the last share, and of both FAIL limits at the end."""
    limits = [a["points"].split()[-1] for n, a, _ in svg.elements if n == "polyline" and a["class"] == "limit"]
    (share,) = [float(a["cy"]) for n, a, _ in svg.elements if n == "circle"]
    return share, [float(point.split(",")[1]) for point in limits]


def test_the_chart_shows_where_the_share_ended():
    passing = content_of(record_with(measured(even)))["split"][0]
    share, (upper, lower) = ends(Tree(split_chart(passing, "t")))
    assert upper < share < lower
    failing = content_of(record_with(measured(lambda i: Answer("mesh1" if i % 4 else "mesh2"))))["split"][0]
    assert failing["outcome"] == "FAIL"
    share, (upper, lower) = ends(Tree(split_chart(failing, "t")))
    assert share <= upper


def record_with(*measurements) -> RunRecord:
    record = run_of()
    record.measurements = list(measurements)
    return record


def test_what_was_not_measured_has_no_chart_but_its_reason():
    problem = Measurement({"mesh1": 50, "mesh2": 50}, SplitTest((50, 50)), problem="not programmed")
    found = page(content_of(record_with(problem)))
    assert "The 50/50 split was not measured: not programmed." in found
    assert 'class="chart"' not in found


def bars(record: RunRecord) -> list[tuple[str, str]]:
    """(kind, title) of the bars of the timeline, in order."""
    elements = Tree(timeline(content_of(record))).elements
    found = []
    for (_, attributes, _), (name, _, title) in itertools.pairwise(elements):
        if attributes.get("class", "").startswith("bar") and name == "title":
            found.append((attributes["class"].split()[1], "".join(title)))
    return found


def test_a_watch_that_was_lost_is_red_and_one_that_is_awaited_is_not():
    record = run_of()
    record.peers = [
        PeerState(1.0, "mesh1", False, False),
        PeerState(3.0, "mesh1", True, False),
        PeerState(8.0, "mesh1", False, False),
    ]
    watch = [kind for kind, title in bars(record) if title.startswith("mesh1 own watch")]
    remote = [kind for kind, title in bars(record) if title.startswith("mesh1 watched by peer")]
    assert watch == ["step", "good", "bad"]
    assert remote == ["bad"]


def test_a_step_made_again_begins_a_bar_of_its_own():
    record = run_of()
    for began, ended in ((1.0, 4.0), (20.0, 20.5)):
        record.steps += [Step(began, "mesh1", "bookinfo", "applied"), Step(ended, "mesh1", "bookinfo", "available")]
    assert [title for _, title in bars(record) if "bookinfo" in title] == ["bookinfo: applied → available"] * 2


# The builder


def test_attributes_and_children_are_escaped_and_markup_is_not():
    inner = element("b", "<")
    found = element("a", inner, ">", None, [1, 2.5], href='"', class_="k", aria_label="l", hidden=None)
    assert found == '<a href="&#34;" class="k" aria-label="l"><b>&lt;</b>&gt;12.5</a>'


def test_what_is_not_in_order_is_shown_before_the_whole_chain():
    record = full_record()
    ok = {"name": "roots", "side": "mesh1", "state": "ok", "looked_at": "x", "seen": "as it should be"}
    broken = {**ok, "name": "trust domain", "state": "broken", "seen": "other.local"}
    record.diagnosis = {**(record.diagnosis or {}), "links": [ok, broken]}
    found = Tree(page(content_of(record)))
    states = [text for text in found.texts("span", "badge") if text in ("✓ ok", "✗ broken")]
    assert states == ["✗ broken", "✓ ok", "✗ broken"]
    assert "The whole chain, 2 links" in found.texts("summary")
