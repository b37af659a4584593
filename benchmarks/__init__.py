"""Measurements, never assertions: `python -m benchmarks [NAME ...]` prints one Markdown table."""
