"""The lab's own schemas of the product's kinds, one file per kind; values not listed are unknown to the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

DIRECTORY = Path(__file__).parent


def load(plural: str, group: str) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind as a fresh object."""
    return yaml.load(
        (DIRECTORY / f"{plural}.{group}.yaml").read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    )
