"""The root certificate of a peer, from the ConfigMap its ServiceMeshPeer names."""

from __future__ import annotations

from lab.client import Object
from lab.istiod.state import MeshState
from lab.resources import CONFIG_MAP

_KEY = "root-cert.pem"


class RootError(Exception):
    """The root certificate cannot be had; the text is the product's."""


async def root_of(state: MeshState, peer: Object, *, terse: bool, blind: bool = False) -> dict[str, str]:
    """Trust domain to root PEM; empty when the peer has this mesh's own trust domain, or none, or an empty PEM.

    Raises RootError when the reference leads nowhere. `terse` chooses the error texts of OSSM 2.1;
    `blind` says that no ConfigMap is seen yet.
    """
    name = peer["metadata"]["name"]
    security = (peer.get("spec") or {}).get("security") or {}
    domain = security.get("trustDomain") or ""
    if domain in ("", state.trust_domain):
        return {}
    chain = security.get("certificateChain") or {}
    try:
        pem = await _read(state, chain, chain.get("name") or f"{name}-ca-root-cert", terse=terse, blind=blind)
    except RootError as error:
        raise error if terse else RootError(f"could not get root cert for mesh {name}: {error}") from error
    return {domain: pem} if pem.strip() else {}


async def _read(state: MeshState, chain: Object, name: str, *, terse: bool, blind: bool) -> str:
    if chain.get("kind") not in (None, "", "ConfigMap"):
        raise RootError(f"unknown Kind for CertificateChain object reference: {chain['kind']}")
    found = None if blind else state.informers.config_maps.items.get((state.namespace, name))
    if found is None and not blind:
        # The copy of ConfigMaps may lag behind that of peers.
        found = await state.api.find(CONFIG_MAP, name, state.namespace)
    if found is None:
        missing = f'configmap "{name}" not found'
        raise RootError(missing if terse else f"error getting configmap {state.namespace}/{name}: {missing}")
    data = found.get("data") or {}
    if _KEY not in data:
        raise RootError(f"missing entry {_KEY} in ConfigMap {state.namespace}/{name}")
    return str(data[_KEY])
