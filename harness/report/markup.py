"""Builds SVG: every text is escaped unless it was built here."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

Child = object


def element(name: str, /, *children: Child, **attributes: object) -> Markup:
    """One element. Children are Markup, text, numbers, None (nothing) or lists of these.

    `class_` is the attribute class, other underscores are dashes; attributes that are None are left out.
    """
    words = [Markup(name)]
    for key, value in attributes.items():
        if value is not None:
            words.append(Markup('{}="{}"').format(key.rstrip("_").replace("_", "-"), _text(value)))
    inner, head = _joined(children), Markup(" ").join(words)
    return Markup("<{}>{}</{}>").format(head, inner, Markup(name)) if inner else Markup("<{}/>").format(head)


def _joined(children: Iterable[Child]) -> Markup:
    return Markup("").join(_child(child) for child in children)


def _child(child: Child) -> Markup:
    if isinstance(child, list | tuple):
        return _joined(child)
    return Markup("") if child is None else escape(_text(child))


def _text(value: object) -> object:
    return f"{value:g}" if isinstance(value, float) else value
