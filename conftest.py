"""Options and hooks of the suite; the fixtures are in the modules named here."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from harness.cluster import Cluster
from harness.options import OPTIONS, OptionErrors, Settings, read_settings, value_of
from harness.preflight import preflight
from harness.transport import ClusterError

pytest_plugins = [
    "fixtures.reporting",
    "fixtures.report",
    "fixtures.clusters",
    "fixtures.meshes",
    "fixtures.federation",
    "fixtures.bookinfo",
    "fixtures.peering",
    "fixtures.traffic",
]

_PREFLIGHT_PATIENCE = 3.0  # seconds; a person waits for the answer
SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()


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
        raise _usage_error(error.problems) from None
    if getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("-n: one federation cannot be tested by several processes at once; leave it out")
    signal.signal(signal.SIGTERM, _interrupt)


def _usage_error(problems: list[str]) -> pytest.UsageError:
    return pytest.UsageError("\n".join(["this run cannot begin:", *problems]))


def _interrupt(*_: object) -> None:
    # As Ctrl-C: fixtures are torn down, so nothing is left behind.
    raise KeyboardInterrupt("SIGTERM")


def pytest_report_header(config: pytest.Config) -> str:
    return f"federation: {config.stash[SETTINGS]}"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Before the first test: everything that stands in the way, at once, when a test needs the clusters."""
    settings = session.config.stash[SETTINGS]
    needed = any("clusters" in getattr(item, "fixturenames", ()) for item in session.items)
    if settings.kubeconfigs is None or not needed or session.config.getoption("collectonly"):
        return
    clusters, problems = {}, []
    for number, (path, context) in enumerate(zip(settings.kubeconfigs, settings.contexts, strict=True), 1):
        try:
            clusters[f"mesh{number}"] = Cluster(f"mesh{number}", path, context, _PREFLIGHT_PATIENCE)
        except ClusterError as error:
            problems.append(str(error))
    problems += preflight(clusters)
    for cluster in clusters.values():
        cluster.close()
    if problems:
        raise _usage_error(problems)


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config) -> Settings:
    """The options of this run, checked."""
    return pytestconfig.stash[SETTINGS]
