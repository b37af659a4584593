"""Fixtures that several selftests use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

OBSERVED = Path(__file__).parent / "data" / "observed"


@pytest.fixture(scope="session")
def observed() -> Callable[[str], Any]:
    """Loads a capture of the real federation: parsed JSON for `.json`, text otherwise."""

    def load(path: str) -> Any:
        text = (OBSERVED / path).read_text()
        return json.loads(text) if path.endswith(".json") else text

    return load
