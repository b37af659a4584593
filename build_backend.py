"""Builds what `pip install --editable .` needs in a checkout, and nothing else.

The suite is its tests, manifests and lab, which pytest runs where they lie. A wheel would leave packages called
`fixtures`, `harness` and `lab` among everybody else's, without any of the tests.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

from setuptools.build_meta import (
    build_editable,
    get_requires_for_build_editable,
    prepare_metadata_for_build_editable,
)

__all__ = ["build_editable", "build_sdist", "build_wheel", "get_requires_for_build_editable"]
__all__ += ["prepare_metadata_for_build_editable"]


def build_wheel(*_: Any, **__: Any) -> NoReturn:
    """Ends the build with what to do instead."""
    sys.exit("This suite runs from a checkout only: `make verify`, or `pip install --editable .` there and `pytest`.")


build_sdist = build_wheel
