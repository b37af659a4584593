"""index.html: one self-contained file, readable without JavaScript, drawn from the report's content alone."""

from __future__ import annotations

from importlib import resources
from typing import Any

from harness.report.figures_page import heading, name_of, split_section, traffic_section
from harness.report.markup import Markup, element, join, table
from harness.report.timeline_svg import timeline
from harness.scenario.options import EMBEDDED_SAYS

Json = dict[str, Any]

_VERDICTS = {
    "success": ("Conformant", "good"),
    "failure": ("Not conformant", "bad"),
    "partial": ("Incomplete", "unsure"),
    "unknown": ("Unknown", "unsure"),
}
_RESULTS = {
    "passed": ("✓ passed", "good"),
    "failed": ("✗ failed", "bad"),
    "skipped": ("– skipped", "unsure"),
    "not-run": ("· not run", "unsure"),
}
_STATES = {"ok": ("✓ ok", "good"), "broken": ("✗ broken", "bad"), "unknown": ("? unknown", "unsure")}
_LONG = 12  # rows of a table that are shown without being asked for
_PROFILES = {"install": "Installation", "fed": "Federation", "split": "Traffic split"}


def page(content: Json) -> str:
    """The page of `document`'s content; every text in it is escaped."""
    word, kind = _VERDICTS[content["result"]]
    word += f": {EMBEDDED_SAYS}" if content["run"]["clusters"] == "embedded" else ""
    body = element(
        "body",
        element("header", _verdict(content, word, kind), _contents(content), class_=kind),
        element(
            "main",
            _causes(content["diagnosis"]),
            _meshes(content),
            split_section(content["split"]),
            _requirements(content),
            traffic_section(content["split"]),
            _diagnosis(content["diagnosis"]),
            _timeline(content),
            _evidence(content),
            _reproduce(content),
        ),
        element("footer", f"{content['kind']} {content['apiVersion']}, ", element("code", content["digest"])),
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{word}: OSSM federation"),
        element("style", Markup(resources.files("harness.report").joinpath("page.css").read_text(encoding="utf-8"))),
    )
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def badge(word: str, kind: str) -> Markup:
    """A word with its colour; the word says it all without."""
    return element("span", word, class_=f"badge {kind}")


def _verdict(content: Json, word: str, kind: str) -> Markup:
    run = content["run"]
    when = f"{run['started'][:16].replace('T', ' ')} UTC"
    took = f", {run['seconds']:.0f} s" if run["seconds"] else ""
    suite = f", suite {run['suite']}" if run["suite"] else ""
    return element(
        "div",
        element("p", "OpenShift Service Mesh federation", class_="kicker"),
        element("h1", word, class_=f"verdict {kind}"),
        element("p", content["summary"], class_="summary"),
        element("p", f"{when}{took}{suite}", class_="when"),
    )


def _contents(content: Json) -> Markup:
    links = [("meshes", "Meshes"), ("split", "Split"), ("requirements", "Requirements"), ("traffic", "Traffic")]
    links += [("diagnosis", "Diagnosis")] if content["diagnosis"] else []
    links += [("timeline", "Timeline"), ("evidence", "Evidence"), ("reproduce", "Reproduce")]
    return element("nav", [element("a", word, href=f"#{name}") for name, word in links], aria_label="Sections")


def section(name: str, title: str, *children: object) -> Markup:
    """A section with its heading and anchor."""
    return element("section", element("h2", title), *children, id=name)


def _causes(diagnosis: Json | None) -> list[Markup]:
    """What names a cause, in order; which failure each is about where there are several."""
    found = [entry for entry in (diagnosis, *(diagnosis or {}).get("also", ())) if entry and entry.get("cause")]
    return [_cause(entry, len(found) > 1) for entry in found]


def _cause(entry: Json, several: bool) -> Markup:
    after = f", found after {entry['after']} failed" if several and entry.get("after") else ""
    return element(
        "section",
        element("h2", f"Cause, on {entry.get('side', '')}{after}"),
        element("p", entry.get("sentence", ""), class_="sentence"),
        element("p", element("strong", "Remedy: "), entry.get("remedy", "")),
        class_="cause",
    )


def _meshes(content: Json) -> Markup:
    cards = [_mesh(mesh) for mesh in content["meshes"]]
    entry = content["entry"]
    children: list[object] = [element("div", cards, class_="cards")] if cards else [_none("No cluster was reached.")]
    if entry["url"]:
        children.append(element("p", "productpage: ", element("code", entry["url"]), f" by {entry['by']}"))
    children += [element("p", line, class_="warn") for line in content["unsettled"]]
    return section("meshes", "Meshes", *children)


def _mesh(mesh: Json) -> Markup:
    facts = [
        ("OSSM", mesh["ossm"] + (f" (asked for {mesh['asked']})" if mesh["asked"] else "")),
        ("Kubernetes", mesh["kubernetes"]),
        ("API server", mesh["server"]),
        ("Ingress", mesh["ingress"]),
        ("Not read", mesh["problem"]),
    ]
    return element(
        "div",
        element("h3", mesh["name"]),
        element("dl", [[element("dt", name), element("dd", value)] for name, value in facts if value.strip()]),
        class_=f"card {mesh['name']}",
    )


def _requirements(content: Json) -> Markup:
    names = {f"split/{index}": f"split {name_of(split)}" for index, split in enumerate(content["split"])}
    groups = [_profile(profile, content["requirements"], names) for profile in content["profiles"]]
    return section("requirements", "Requirements", *groups)


def _profile(profile: Json, requirements: list[Json], names: dict[str, str]) -> Markup:
    mine = [entry for entry in requirements if entry["profile"] == profile["name"]]
    title = _PROFILES.get(profile["name"], profile["name"])
    levels = [level for level in ("core", "extended") if sum(profile[level]["statistics"].values())]
    badges = [
        [badge(f"{level}: {profile[level]['result']}", _VERDICTS[profile[level]["result"]][1]), " "] for level in levels
    ]
    rows = [row for entry in mine for row in _requirement(entry, names)]
    head = ("Id", "Promise", "Result", heading("Seconds"))
    return join([element("h3", title, " ", badges), table(head, rows, f"{title}: requirements", class_="requirements")])


def _requirement(entry: Json, names: dict[str, str]) -> list[list[object]]:
    """The row of one contract, and a second one over the whole width where there is a reason."""
    word, kind = _RESULTS[entry["result"]]
    promise: list[object] = [entry["title"]]
    if entry["level"] != "core":
        promise.append(element("span", f" {entry['level']}", class_="level"))
    links = [_link(reference, names) for reference in entry["evidence"]]
    if links:
        promise.append(element("p", "Evidence: ", [[link, " "] for link in links], class_="links"))
    seconds = sum(test["seconds"] for test in entry["tests"])
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in entry["id"])
    first: list[object] = [
        element("td", element("a", entry["id"], href=f"#r-{name}", id=f"r-{name}"), class_="id"),
        element("td", promise),
        element("td", badge(word, kind), class_="result"),
        element("td", f"{seconds:.1f}" if entry["tests"] else "", class_="number"),
    ]
    if not entry["reason"]:
        return [first]
    more: list[object] = [element("td", element("pre", entry["reason"], class_="reason"), colspan=4, class_="more")]
    return [first, more]


def _link(reference: str, names: dict[str, str]) -> Markup:
    return element("a", names.get(reference, reference), href=f"#{reference.replace('/', '-')}")


def _diagnosis(diagnosis: Json | None) -> Markup | None:
    if not diagnosis:
        return None
    others = [[element("h3", _walked(walk)), _walk(walk)] for walk in diagnosis.get("walks", ())]
    first = element("h3", _walked(diagnosis)) if others else None
    return section("diagnosis", "Diagnosis", first, _walk(diagnosis), others)


def _walked(walk: Json) -> str:
    return f"After {walk.get('after', 'a test')} failed"


def _walk(walk: Json) -> Markup:
    """One walk along the chain."""
    links = walk.get("links", [])
    doubtful = [link for link in links if link.get("state") != "ok"]
    if cause := walk.get("cause"):
        said: list[object] = ["Cause: ", element("code", cause), " on ", walk.get("side", "")]
    else:
        said = ["No link of the chain is broken, as far as it could be seen."]
    return join(
        [
            element("p", said),
            _links(doubtful, "Links that are broken or could not be looked at, in order") if doubtful else None,
            element(
                "details",
                element("summary", f"The whole chain, {len(links)} links"),
                _links(links, "All links of the chain, in order"),
            ),
        ]
    )


def _links(links: list[Json], caption: str) -> Markup:
    rows = [
        [
            element("td", badge(*_STATES.get(link.get("state", ""), _STATES["unknown"])), class_="result"),
            link.get("name", ""),
            link.get("side", ""),
            element("td", link.get("seen", ""), element("p", "looked at: ", link.get("looked_at", ""), class_="links")),
        ]
        for link in links
    ]
    return table(("State", "Link", "Side", "Seen"), rows, caption, class_="diagnosis")


def _timeline(content: Json) -> Markup:
    chart = timeline(content)
    rows = [
        [element("td", f"{step['seconds']:.1f}", class_="number"), step["mesh"], step["subject"], step["step"]]
        for step in content["timings"]["steps"]
    ]
    steps = element(
        "details",
        element("summary", "All steps"),
        table((heading("Seconds"), "Mesh", "What", "Step"), rows, "Steps of the run", class_="narrow"),
    )
    colours = [("good", "connected, passed"), ("bad", "not connected, failed"), ("step", "being installed, waited for")]
    legend = [[element("span", class_=f"swatch {kind}-bar"), text, " "] for kind, text in colours]
    children = [
        element("div", chart, class_="scroll", tabindex="0"),
        element("p", legend, class_="legend"),
        steps if rows else None,
    ]
    return section("timeline", "Timeline", *(children if chart else [_none("Nothing was timed.")]))


def _evidence(content: Json) -> Markup:
    rows = [
        [
            element("td", _file(entry), element("p", entry.get("what", ""), _notes(entry), class_="links")),
            entry.get("mesh", ""),
            element("td", entry.get("bytes", ""), class_="number"),
        ]
        for entry in content["evidence"]
    ]
    if not rows:
        return section("evidence", "Evidence", _none("No evidence was kept."))
    found = table(("File", "Mesh", heading("Bytes")), rows, "Evidence files", class_="evidence")
    if len(rows) > _LONG:
        found = element("details", element("summary", f"{len(rows)} files"), found)
    return section("evidence", "Evidence", found)


def _file(entry: Json) -> object:
    file = str(entry.get("file", ""))
    return element("a", file, href=file) if _local(entry) else file


def _notes(entry: Json) -> list[object]:
    """Of a log, the times it begins and ends at; of what was shortened, that it was."""
    first, last = (str(entry.get(name, ""))[11:19] for name in ("first", "last"))
    times: list[object] = [f", {first} to {last}"] if first and last else []
    return [*times, ", ", element("strong", "cut")] if entry.get("cut") else times


def _local(entry: Json) -> bool:
    """Whether a file is one beside the page; anything else is shown, but not linked."""
    file = str(entry.get("file", ""))
    return bool(file) and ":" not in file and not file.startswith("/") and ".." not in file.split("/")


def _reproduce(content: Json) -> Markup:
    options = content["run"]["options"]
    facts = [[element("dt", element("code", name)), element("dd", value)] for name, value in options.items()]
    return section(
        "reproduce", "Reproduce", element("pre", content["reproduce"]), element("dl", facts) if facts else None
    )


def _none(text: str) -> Markup:
    return element("p", text, class_="none")
