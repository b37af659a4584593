"""A pytest plugin for runs in a subprocess: a lost Lease is noticed at once, not after 15 s."""

from __future__ import annotations

from harness.scenario.ownership import lease


def pytest_configure() -> None:
    lease._RENEW_SECONDS = 0.2
