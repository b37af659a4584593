"""Which CRDs the operator serves, and when: its own at its start, the mesh's with the first control plane."""

from __future__ import annotations

import asyncio
from typing import Any

from lab.client import ApiClient, Object
from lab.crds import load
from lab.operator.versions import Release, at_least
from lab.resources import CRD

OWN = (
    ("servicemeshcontrolplanes", "maistra.io"),
    ("servicemeshmemberrolls", "maistra.io"),
    ("servicemeshmembers", "maistra.io"),
    ("routes", "route.openshift.io"),
)
MESH = (
    ("servicemeshpeers", "federation.maistra.io"),
    ("exportedservicesets", "federation.maistra.io"),
    ("importedservicesets", "federation.maistra.io"),
    ("virtualservices", "networking.istio.io"),
    ("destinationrules", "networking.istio.io"),
    ("gateways", "networking.istio.io"),
    ("serviceentries", "networking.istio.io"),
    ("authorizationpolicies", "security.istio.io"),
    ("peerauthentications", "security.istio.io"),
)


def definition(plural: str, group: str, release: Release) -> Object:
    """The CRD of one kind with the fields that came with later releases."""
    crd = load(plural, group)
    if at_least(release.minor, "v2.4"):
        spec: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"][
            "properties"
        ]
        if plural == "servicemeshcontrolplanes":
            spec["mode"] = {"type": "string", "enum": ["MultiTenant", "ClusterWide"]}
        elif plural == "servicemeshmemberrolls":
            selector = load("exportedservicesets", "federation.maistra.io")["spec"]["versions"][0]["schema"]
            rule = selector["openAPIV3Schema"]["properties"]["spec"]["properties"]["exportRules"]["items"]["properties"]
            spec["memberSelectors"] = {
                "type": "array",
                "items": rule["labelSelector"]["properties"]["selector"],
            }
    return crd


async def install(api: ApiClient, release: Release, kinds: tuple[tuple[str, str], ...]) -> None:
    """Applies the CRDs and returns once they are served; raises TimeoutError after 10 s."""
    await asyncio.gather(*(api.apply(CRD, definition(plural, group, release)) for plural, group in kinds))
    async with asyncio.timeout(10):
        await asyncio.gather(*(_served(api, f"{plural}.{group}") for plural, group in kinds))


async def _served(api: ApiClient, name: str) -> None:
    while True:
        conditions = (await api.get(CRD, name)).get("status", {}).get("conditions", [])
        if any(entry["type"] == "Established" and entry["status"] == "True" for entry in conditions):
            return
        await asyncio.sleep(0.02)
