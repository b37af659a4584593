"""Walks the chain from the API to the application once, over both meshes, and names the first broken link.

`diagnose(clusters, hints)` gives a `Diagnosis`; `python -m harness.diagnosis` does the same from the command line.
"""

from harness.diagnosis.causes import CAUSES
from harness.diagnosis.model import Diagnosis, Link, State
from harness.diagnosis.walk import Hints, diagnose

__all__ = ["CAUSES", "Diagnosis", "Hints", "Link", "State", "diagnose"]
