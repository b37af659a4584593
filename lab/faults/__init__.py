"""Faults on demand: `CATALOGUE` maps names to faults that a running, provisioned lab can be given and relieved of.

changes     changes of objects that can be taken back, and what remembers them
fault       one fault
edits       words that the catalogue is written in
trust, discovery, sets, traffic, apiserver     the catalogue
command     `python -m lab fault`
"""

from __future__ import annotations

from lab.faults import apiserver, discovery, sets, traffic, trust
from lab.faults.fault import CAPTURED, Fault
from lab.processes.running import RunningLab

__all__ = ["CAPTURED", "CATALOGUE", "Fault", "RunningLab"]

CATALOGUE: dict[str, Fault] = {
    fault.name: fault for module in (trust, discovery, sets, traffic, apiserver) for fault in module.faults()
}
