"""Addresses for tests that need ports of their own: outside the blocks the lab uses (16 to 250)."""

from __future__ import annotations

import random


def loopback_address() -> str:
    """An address of 127.251.0.0 to 127.254.255.255 that nobody else is likely to have."""
    return f"127.{random.randint(251, 254)}.{random.randint(0, 255)}.{random.randint(4, 250)}"
