"""index.html: one self-contained file, readable without JavaScript, drawn from the report's content alone."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from harness.report.graph_svg import service_graph
from harness.report.split_svg import SLIM, WIDE, split_chart
from harness.report.timeline_svg import timeline
from harness.scenario.options import EMBEDDED_SAYS

Json = dict[str, Any]

# A word, and the colour of it: the word says it all without.
_VERDICTS = {
    "success": ("Conformant", "good"),
    "failure": ("Not conformant", "bad"),
    "one-sided": ("Conformant as far as this side can tell", "unsure"),
    "partial": ("Incomplete", "unsure"),
    "unknown": ("Unknown", "unsure"),
}
_RESULTS = {
    "passed": ("✓ passed", "good"),
    "failed": ("✗ failed", "bad"),
    "skipped": ("– skipped", "unsure"),
    "not-run": ("· not run", "unsure"),
    "not-applicable": ("○ not applicable", "good"),
    "not-in-view": ("? not in view", "unsure"),
}
_STATES = {"ok": ("✓ ok", "good"), "broken": ("✗ broken", "bad"), "unknown": ("? unknown", "unsure")}
_PROFILES = {"install": "Installation", "fed": "Federation", "split": "Traffic split"}


def page(content: Json) -> str:
    """The page of `document`'s content; every text in it is escaped."""
    diagnosis, splits = content["diagnosis"], content["split"]
    shown = _shown(splits)
    followed = [(index != shown, split) for index, split in enumerate(splits) if split["traffic"]]
    return _TEMPLATES.get_template("page.html").render(
        content=content,
        causes=[entry for entry in (diagnosis, *(diagnosis or {}).get("also", ())) if entry and entry.get("cause")],
        splits={f"split/{index}": f"split {_name_of(split)}" for index, split in enumerate(splits)},
        shown=shown,
        followed=[split for _, split in sorted(followed, key=lambda entry: entry[0])],
    )


def _shown(splits: list[Json]) -> int:
    """Index of the split that a reader should see first: the first that did not pass, otherwise the first."""
    return next((index for index, split in enumerate(splits) if split["outcome"] != "PASS"), 0)


def _name_of(split: Json) -> str:
    """Such as `50/50`."""
    return "/".join(f"{weight:g}" for weight in split["asked"].values())


def _charts_of(split: Json, title: str) -> list[Markup]:
    return [chart for size in (WIDE, SLIM) if (chart := split_chart(split, title, size))]


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.1f} %"


def _power(log10: float | str) -> str:
    """An e-value by its common logarithm."""
    if isinstance(log10, str):
        return {"infinite": "infinite", "none": "0"}[log10]
    return f"{10**log10:.4g}" if -4 < log10 < 6 else f"10^{log10:.1f}"


def _anchor_of(identity: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in identity)


def _beside(file: str) -> bool:
    """Whether a file is one beside the page; anything else is shown, but not linked."""
    return bool(file) and ":" not in file and not file.startswith("/") and ".." not in file.split("/")


_TEMPLATES = Environment(loader=PackageLoader("harness.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
_TEMPLATES.filters |= {"percent": _percent, "power": _power}
_TEMPLATES.globals |= {
    "verdicts": _VERDICTS,
    "results": _RESULTS,
    "states": _STATES,
    "profiles": _PROFILES,
    "embedded": EMBEDDED_SAYS,
    "name_of": _name_of,
    "charts_of": _charts_of,
    "anchor_of": _anchor_of,
    "beside": _beside,
    "service_graph": service_graph,
    "timeline": timeline,
}
