"""Looks at both clusters before anything is touched, all findings at once; nothing is changed."""

from harness.scenario.preflight.findings import Finding, answering, balanced, blocking, notes, report
from harness.scenario.preflight.look import Asked, preflight

__all__ = ["Asked", "Finding", "answering", "balanced", "blocking", "notes", "preflight", "report"]
