"""istiod's log: one line per event on stdout in Istio's format, time, level, scope and text separated by tabs."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

_LEVELS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}


class _IstioFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        scope = "default" if record.name.startswith(("lab.", "asyncio", "aiohttp", "root")) else record.name
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{when}\t{_LEVELS.get(record.levelno, 'error')}\t{scope}\t{text}"


def set_up() -> None:
    """Sends all loggers to stdout; the logger's name is the scope."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_IstioFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
