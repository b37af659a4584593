"""Addresses as they are written down."""

from __future__ import annotations


def netloc(host: str, port: int | None = None) -> str:
    """Host and port as URLs have them: an IPv6 address in brackets, which sockets take without."""
    return (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
