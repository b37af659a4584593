"""Every cause a diagnosis can name: a stable id, a sentence for people, what to do about it, and on which side."""

from __future__ import annotations

from harness.diagnosis.causes import installed, peering, routes, traffic
from harness.diagnosis.causes.cause import Cause

CAUSES: dict[str, Cause] = {**installed.CAUSES, **peering.CAUSES, **routes.CAUSES, **traffic.CAUSES}

__all__ = ["CAUSES", "Cause"]
