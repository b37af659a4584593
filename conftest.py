"""Options and hooks of the suite; the fixtures are in the modules named here."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fixtures.settings import SETTINGS, looks_only, usage_error
from harness.run.interrupts import interrupt_on_signals
from harness.scenario.options import OPTIONS, OptionErrors, Settings, empty_sources, read_settings, value_of

pytest_plugins = [
    "fixtures.reporting",
    "fixtures.redaction",
    "fixtures.report",
    "fixtures.preparing",
    "fixtures.stopping",
    "fixtures.clusters",
    "fixtures.ownership",
    "fixtures.meshes",
    "fixtures.federation",
    "fixtures.bookinfo",
    "fixtures.peering",
    "fixtures.traffic",
    "fixtures.evidence",
    "fixtures.ending",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("federation", "OpenShift Service Mesh federation")
    for option in OPTIONS:
        if option.switch:
            group.addoption(option.flag, action="store_true", default=None, help=option.full_help)
            parser.addini(option.ini, f"as {option.flag}", type="bool", default=None)
        else:
            group.addoption(option.flag, default=None, metavar=option.metavar, help=option.full_help)
            parser.addini(option.ini, f"as {option.flag}", type="string", default=None)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("help") or config.getoption("version"):
        return
    # Whoever only looks at the tests asks nothing of clusters and files, so what is wrong with these is no matter.
    options = [option for option in OPTIONS if not (looks_only(config) and option.outside)]
    values: dict[str, Any] = {option.ini: option.default for option in OPTIONS}
    given: set[str] = set()
    for option in options:
        values[option.ini], explicit = value_of(
            option, config.getoption(option.flag), config.getini(option.ini), os.environ
        )
        given |= {option.ini} if explicit else set()
    flags = {option.ini: config.getoption(option.flag) for option in options}
    try:
        empty = [] if looks_only(config) else empty_sources(values, flags, os.environ)
        config.stash[SETTINGS] = read_settings(values, given, empty)
    except OptionErrors as error:
        raise usage_error(error.problems) from None
    if getattr(config.option, "numprocesses", None) or getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError("-n, --dist: one federation cannot be tested by several processes at once")
    # SIGTERM too: fixtures are torn down, so nothing is left behind.
    config.add_cleanup(interrupt_on_signals())


def pytest_report_header(config: pytest.Config) -> str | None:
    return None if looks_only(config) else f"federation: {config.stash[SETTINGS]}"


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config) -> Settings:
    """The options of this run, checked."""
    return pytestconfig.stash[SETTINGS]
