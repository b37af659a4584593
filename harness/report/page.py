"""index.html: one self-contained file, readable without JavaScript."""

from __future__ import annotations

from html import escape
from typing import Any


def page(content: dict[str, Any]) -> str:
    """The page of `document`'s content; every text in it is escaped."""
    return f"<!DOCTYPE html><title>Report</title><p>{escape(content['summary'])}</p>"
