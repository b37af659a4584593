"""The captured upgrade from 2.1 to 2.2 as a watch would have recorded it: every fact of it is in the capture."""

from __future__ import annotations

import ast
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.cluster.kinds import PEER
from harness.product.envoy import parse_access_line
from harness.product.mesh import MESH1, MESH2
from harness.watch.object_views import view
from harness.watch.steady_time import Clocks, SteadyTime
from harness.watch.store import LINES, PROBES, STATES, Store

CAPTURE = Path(__file__).parent.parent / "data" / "observed" / "upgrade-2.1-to-2.2"
BEGIN = datetime(2026, 11, 30, 20, 45, tzinfo=UTC).timestamp()  # t = 0, by the times in the statuses
_NAMES = {"mesh1": MESH1, "mesh2": MESH2}
_POD = re.compile(r"(mesh[12]) pod (\S+): (.*) -> (.*)")
_SET = re.compile(r"(exported|imported)servicesets: (.*) -> (.*)")
# Facts the README gives in words: the NodePorts of productpage's gateway, and what discovery answered between.
_NODE_PORTS_AT, _NODE_PORTS = 245.0, (30100, 32153)
_DISCOVERY_SEEN_AT = 120.0


def record_capture(directory: Path) -> None:
    """Writes the capture as a record of one run of a watch."""
    store = Store(directory, SteadyTime(Clocks(lambda: BEGIN, lambda: 0.0, lambda: 0.0)))
    store.begin(
        {
            "streams": {"fresh": {"rate": 4.0}},
            "roles": {
                name: {
                    "istio-ingressgateway": "entry gateway",
                    names.ingress_gateway: "federation ingress",
                    names.egress_gateway: "federation egress",
                    names.istiod: "istiod",
                }
                for name, names in _NAMES.items()
            },
        }
    )
    for t, line in sorted([*_states(), *_control_planes()], key=lambda one: one[0]):
        store.write(STATES, {"t": BEGIN + t, "ns": "", "first": t < 2, **line})
    for t, _, status, page, took in (row.split("\t") for row in _text("probes.tsv").splitlines()):
        good = status == "200" and page == "stars"
        store.write(PROBES, {"t": BEGIN + float(t), "s": "fresh", "d": float(took), "good": good, "saw": page})
    for text in _text("mesh1-egress-connection-refused.log").splitlines():
        line = parse_access_line(text)
        assert line is not None
        facts = {"flags": line.response_flags, "upstream": line.upstream_host, "text": text}
        store.write(LINES, {"t": line.start_time.timestamp(), "mesh": "mesh2", "workload": "mesh1-egress", **facts})
    store.close()


def _text(name: str) -> str:
    return (CAPTURE / name).read_text()


def _states() -> list[tuple[float, dict[str, Any]]]:
    found: list[tuple[float, dict[str, Any]]] = []
    for row in _text("events.tsv").splitlines():
        at, _, what = row.partition("\t")
        if pod := _POD.fullmatch(what):
            line = {"mesh": pod[1], "kind": "Pod", "name": pod[2], "was": _pod(pod[2], pod[3])}
            found.append((float(at), {**line, "is": _pod(pod[2], pod[4])}))
        elif kind := _SET.fullmatch(what):
            exported = kind[1] == "exported"
            line = {"mesh": "mesh1" if exported else "mesh2", "kind": f"{kind[1].title()}ServiceSet"}
            was, now = (_services(kind[place]) for place in (2, 3))
            found.append((float(at), {**line, "name": "mesh2" if exported else "mesh1", "was": was, "is": now}))
    for mesh, address in (("mesh1", "10.200.0.11"), ("mesh2", "10.200.0.12")):
        now = {"ports": {"8188": None, "15443": None}, "addresses": [address], "type": "LoadBalancer"}
        gateway = _NAMES[mesh].ingress_gateway
        found.append((0.1, {"mesh": mesh, "kind": "Service", "name": gateway, "was": None, "is": now}))
    before, after = ({"ports": {"80": port}, "addresses": [], "type": "NodePort"} for port in _NODE_PORTS)
    entry = {"mesh": "mesh2", "kind": "Service", "name": "istio-ingressgateway"}
    found.append((0.1, {**entry, "was": None, "is": before}))
    found.append((_NODE_PORTS_AT, {**entry, "was": before, "is": after}))
    answer = json.loads(_text("mixed-v1-services-mesh2.json"))
    gateways = [f"{end['hostname']}:{end['port']}" for end in answer["networkGatewayEndpoints"]]
    discovery = {"mesh": "mesh1", "kind": "Discovery", "name": "mesh2"}
    found.append((_DISCOVERY_SEEN_AT, {**discovery, "was": {"gateways": []}, "is": {"gateways": gateways}}))
    return found


def _pod(name: str, text: str) -> dict[str, Any] | None:
    if text in ("None", "gone"):
        return None
    phase, ready, terminating, release, address = ast.literal_eval(text)
    return {
        "workload": name.rsplit("-", 2)[0],
        "phase": phase,
        "ready": ready == "ready",
        "terminating": terminating == "terminating",
        "proxy": release,
        "address": address or "",
        "restarts": 0,
    }


def _services(text: str) -> dict[str, Any] | None:
    return None if text == "None" else {"services": [" as ".join(pair) for pair in ast.literal_eval(text)]}


def _control_planes() -> list[tuple[float, dict[str, Any]]]:
    """Control planes and peers, in full in the capture's statuses."""
    found: list[tuple[float, dict[str, Any]]] = []
    last: dict[str, Any] = {}
    for row in _text("status-changes.jsonl").splitlines():
        moment = json.loads(row)
        for number, names in enumerate((MESH1, MESH2), 1):
            for key, kind in ((f"peer{number}", "ServiceMeshPeer"), (f"smcp{number}", "ServiceMeshControlPlane")):
                if key not in moment:
                    continue
                if kind == "ServiceMeshPeer":
                    name = names.peer
                    now = view(PEER, {"metadata": {"name": name}, "status": {"discoveryStatus": moment[key]}})
                else:
                    name, (asked, installed, conditions) = names.control_plane, moment[key]
                    now = {"asked": asked, "installed": installed, "ready": " ".join(conditions["Ready"])}
                line = {"mesh": names.name, "kind": kind, "name": name, "was": last.get(key), "is": now}
                found.append((moment["t"], line))
                last[key] = now
    return found
