"""What the lab's istiod does wrong when told to, for faults that no object of the product's API can bring about.

ConfigMap `lab-knobs` in the control plane's namespace; without it everything is as in the product.

| key | value | what it does |
|---|---|---|
| `federation-start` | `blind` | an istiod 2.1 that starts does without federation for good, not for a minute |
| `federation-sync` | `stopped` | peers are not asked for their services any more; the own watch looks an hour old |
| `ingress-clients` | `any` | federation ingresses ask no client for a certificate, and no policy holds there |
| `ingress-plaintext` | `accepted` | federation ingresses also serve clients without TLS, and no policy holds there |
| `network-gateways` | `announced` | peers are told the network gateways of all peers, their own too, as by OSSM 2.2 |
| `trust-bundles` | `current` | roots are forgotten as soon as no peer stands for them |

A watch that looks an hour old is what a status looks like after an hour without a sync. Roots that nobody stands for
are forgotten by the product when istiod and the proxies start anew, with what was imported; the knob leaves that be.
"""

from __future__ import annotations

from collections.abc import Mapping

CONFIG_MAP_NAME = "lab-knobs"
START = "federation-start"
SYNC = "federation-sync"
GATEWAYS = "network-gateways"
CLIENTS = "ingress-clients"
PLAINTEXT = "ingress-plaintext"
BUNDLES = "trust-bundles"


def opens_ingress(knobs: Mapping[str, str]) -> bool:
    """Whether strangers are let in at federation ingresses."""
    return CLIENTS in knobs or PLAINTEXT in knobs
