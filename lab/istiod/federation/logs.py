"""Log lines of istiod's `federation` scope; each ends with the component that wrote it."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

_SCOPE = logging.getLogger("federation")


class ComponentLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that ends its lines with tab-separated labels: `component=federation-registry`, then `labels`."""

    def __init__(self, component: str, **labels: str) -> None:
        super().__init__(_SCOPE, {})
        self._labels = "".join(f"\t{key}={value}" for key, value in {"component": component, **labels}.items())

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"{msg}{self._labels}", kwargs
