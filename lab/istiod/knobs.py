"""What the lab's istiod does wrong when told to, for faults that no object of the product's API can bring about.

ConfigMap `lab-knobs` in the control plane's namespace; without it everything is as in the product.

| key | value | what it does |
|---|---|---|
| `federation-sync` | `off` | the watch of a peer connects, but the peer's services are never asked for |
| `ingress-clients` | `any` | federation ingresses ask no client for a certificate, and no policy holds there |
| `ingress-plaintext` | `accepted` | federation ingresses also serve clients without TLS, and no policy holds there |
"""

from __future__ import annotations

from collections.abc import Mapping

CONFIG_MAP_NAME = "lab-knobs"
SYNC = "federation-sync"
CLIENTS = "ingress-clients"
PLAINTEXT = "ingress-plaintext"


def opens_ingress(knobs: Mapping[str, str]) -> bool:
    """Whether strangers are let in at federation ingresses."""
    return CLIENTS in knobs or PLAINTEXT in knobs
