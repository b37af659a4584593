"""Which VirtualService says where calls go, and what their names need to exist."""

from __future__ import annotations

from harness.diagnosis.causes.cause import Cause

CAUSES: dict[str, Cause] = {
    "route-for-another-host": Cause(
        "VirtualService {name} of {mesh} is for {seen}, so it says nothing about {expected}.",
        "Set spec.hosts of {name} in {namespace} to [{expected}].",
    ),
    "route-not-for-sidecars": Cause(
        "VirtualService {name} of {mesh} says nothing to sidecars: {detail}.",
        "Drop spec.gateways and spec.exportTo of {name} in {namespace}, or add mesh to the gateways.",
    ),
    "host-owned-by-another": Cause(
        "VirtualService {other} precedes {name} in {mesh}: of two for {host} the older one holds.",
        "Delete {other}, or take {host} out of its spec.hosts.",
    ),
    "reviews-route-missing": Cause(
        "{mesh} has no VirtualService for {host}, so pages ask all versions of reviews, and v1 asks no ratings.",
        "Create VirtualService {name} in {namespace}: hosts [reviews], destination reviews, subset v3.",
    ),
    "reviews-not-pinned": Cause(
        "VirtualService {name} of {mesh} sends requests for reviews to {seen}, where only v3 is expected: who asks "
        "ratings, and how often, is then another matter.",
        "Let {name} have one destination: reviews, subset v3.",
    ),
    "mongodb-service-missing": Cause(
        "{mesh} has no Service mongodb in {namespace}: the name that its ratings v2 calls does not exist.",
        "Create Service mongodb in {namespace} without a selector, port 27017 named mongo: VirtualService {name} takes "
        "what is sent there to {expected}.",
    ),
}
