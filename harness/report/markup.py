"""Builds HTML and SVG: every text is escaped unless it was built here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = frozenset({"meta", "link", "br", "hr", "line", "rect", "circle", "path", "polyline", "polygon"})


class Markup(str):
    """Markup that is safe as it stands."""

    __slots__ = ()


Child = object


def element(name: str, /, *children: Child, **attributes: object) -> Markup:
    """One element. Children are Markup, text, numbers, None (nothing) or lists of these.

    `class_` is the attribute class, other underscores are dashes; attributes that are None or False are left out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{escape(_text(value), quote=True)}"')
    head = " ".join(words)
    if name in _VOID and not children:
        return Markup(f"<{head}/>" if name not in ("meta", "link", "br", "hr") else f"<{head}>")
    return Markup(f"<{head}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Children one after the other, escaped where they are text."""
    return Markup("".join(_child(child) for child in children))


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, list | tuple):
        return join(child)
    return escape(_text(child))


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(head: Iterable[Child], rows: Iterable[Iterable[Child]], caption: str, **attributes: object) -> Markup:
    """A table in a box of its own that scrolls where the table is wider than the page."""
    body = [element("tr", *(cell if _is_cell(cell) else element("td", cell) for cell in row)) for row in rows]
    columns = [cell if _is_cell(cell) else element("th", cell, scope="col") for cell in head]
    return element(
        "div",
        element(
            "table",
            element("caption", caption, class_="unseen"),
            element("thead", element("tr", *columns)),
            element("tbody", *body),
            **attributes,
        ),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )


def _is_cell(child: Child) -> bool:
    return isinstance(child, Markup) and child.startswith(("<td", "<th"))
