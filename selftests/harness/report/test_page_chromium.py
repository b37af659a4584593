"""The page in a real browser, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from harness.report.page import page
from selftests.support.reports import content_of, full_record

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update"),
    *("--disable-background-networking", "--disable-sync", "--virtual-time-budget=3000", "--dump-dom"),
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def text() -> str:
    return page(content_of(full_record()))


def browsed(directory: Path, text: str, width: int, question: str, *flags: str) -> str:
    """Shows the page in a frame of some width, and gives what a script of ours (the page has none) answers."""
    frame = directory / "frame.html"
    frame.write_text(
        f'<iframe width="{width}" height="900" style="border:0" srcdoc="{escape(text, quote=True)}"></iframe><p></p>'
        "<script>document.querySelector('iframe').onload = event => { const page = event.target.contentDocument, "
        f"view = event.target.contentWindow; document.querySelector('p').textContent = 'answer:' + ({question}) }}"
        "</script>"
    )
    command = [str(CHROMIUM), *FLAGS, *flags, f"--user-data-dir={directory / 'profile'}", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"<p>answer:(.*?)</p>", done.stdout)
    assert found, done.stderr
    return found[1]


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_only_boxes_made_for_it_scroll_sideways(tmp_path, text, width):
    opened = text.replace("<details", "<details open")
    assert int(browsed(tmp_path, opened, width, "page.documentElement.scrollWidth")) <= width


def test_causes_and_evidence_are_in_view_on_a_phone(tmp_path, text):
    opened = text.replace("<details", "<details open")
    question = "[...page.querySelectorAll('.diagnosis, .evidence')].map(t => t.scrollWidth > t.parentNode.clientWidth)"
    answers = browsed(tmp_path, opened, 360, question).split(",")
    assert len(answers) >= 3
    assert set(answers) == {"false"}


@pytest.mark.parametrize("width", [360, 380, 1200])
def test_a_split_is_in_view_whole(tmp_path, text, width):
    opened = text.replace("<details", "<details open")
    boxes = "[...page.querySelectorAll('#split .scroll')].map(box => box.scrollWidth > box.clientWidth)"
    shown = "[...page.querySelectorAll('#split svg')].filter(svg => svg.getBoundingClientRect().height > 100)"
    ends = f"{shown}.map(svg => svg.querySelector('.share-end').getBoundingClientRect().right > {width - 15})"
    letters = f"{shown}.map(svg => svg.querySelector('.tick').getBoundingClientRect().height < 9)"
    answers = browsed(tmp_path, opened, width, f"[...{boxes}, ...{ends}, ...{letters}]").split(",")
    assert len(answers) >= 6
    assert set(answers) == {"false"}


def test_a_box_that_scrolls_sideways_shows_that_it_does(tmp_path, text):
    question = "[...page.querySelectorAll('.scroll')].filter(b => b.scrollWidth > b.clientWidth)"
    question += ".map(b => view.getComputedStyle(b).backgroundAttachment.includes('local'))"
    opened = text.replace("<details", "<details open")
    assert set(browsed(tmp_path, opened, 360, question).split(",")) == {"true"}
    question = "[...page.querySelectorAll('.scroll:has(> svg)')]"
    question += (
        ".map(b => view.getComputedStyle(b, '::before').content.includes('side') == b.scrollWidth > b.clientWidth)"
    )
    for width in (360, 1200):
        assert set(browsed(tmp_path, opened, width, question).split(",")) == {"true"}


def test_it_is_dark_where_dark_is_preferred(tmp_path, text):
    question = "view.getComputedStyle(page.body).backgroundColor"
    light = browsed(tmp_path, text, 800, question, "--blink-settings=preferredColorScheme=1")
    dark = browsed(tmp_path, text, 800, question, "--blink-settings=preferredColorScheme=0")
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(21, 24, 27)")


def test_every_drawing_is_visible(tmp_path, text):
    question = "[...page.querySelectorAll('details')].map(d => d.open = true) && "
    question += "[...page.querySelectorAll('svg')].map(s => s.getBoundingClientRect().height > 100).join()"
    for width, other in ((1200, 'class="chart slim"'), (380, 'class="chart"')):
        found = browsed(tmp_path, text, width, question).split(",")
        assert (found.count("true"), found.count("false")) == (
            text.count("<svg") - text.count(other),
            text.count(other),
        )
