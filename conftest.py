"""Options and hooks of the suite; the fixtures are in the modules named here."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fixtures.settings import SETTINGS, usage_error
from harness.interrupts import interrupt_on_signals
from harness.options import OPTIONS, OptionErrors, Settings, read_settings, value_of

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
    values: dict[str, Any] = {}
    given: set[str] = set()
    for option in OPTIONS:
        values[option.ini], explicit = value_of(
            option, config.getoption(option.flag), config.getini(option.ini), os.environ
        )
        given |= {option.ini} if explicit else set()
    try:
        config.stash[SETTINGS] = read_settings(values, given)
    except OptionErrors as error:
        raise usage_error(error.problems) from None
    if getattr(config.option, "numprocesses", None) or getattr(config.option, "dist", "no") != "no":
        raise pytest.UsageError("-n, --dist: one federation cannot be tested by several processes at once")
    interrupt_on_signals()  # SIGTERM too: fixtures are torn down, so nothing is left behind


def pytest_report_header(config: pytest.Config) -> str:
    return f"federation: {config.stash[SETTINGS]}"


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config) -> Settings:
    """The options of this run, checked."""
    return pytestconfig.stash[SETTINGS]
