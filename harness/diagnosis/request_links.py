"""Links of a request's way to its workload: calling sidecar, egress, ingress, by what requests left in the logs."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence

from harness.cluster import kinds
from harness.cluster.transport import ClusterError, Object
from harness.diagnosis.address_links import configured, resolve
from harness.diagnosis.caller_links import SPLIT, imported, imports_of
from harness.diagnosis.envoy_failures import Stop, flags
from harness.diagnosis.hop_failures import client_stop, egress_stop, ingress_stop
from harness.diagnosis.mesh_facts import Facts, MeshFacts
from harness.diagnosis.model import Link, Look
from harness.diagnosis.policies import denied_by, network_policies, plaintext_of, plaintext_to
from harness.diagnosis.request_path import STDOUT, PathLook
from harness.diagnosis.unready_pods import why_not_ready
from harness.product.envoy import AccessLine
from harness.product.names import exports_domain
from harness.product.status import ended


def calls(facts: Facts, path: PathLook) -> Link:
    """reviews' sidecar finds a way for every ratings call, imported or local."""
    mesh = facts.mesh2
    look = Look("calls of ratings", mesh.names.name, "access log of reviews v3's sidecar")
    if off := path.unlogged(mesh):
        return look.unknown(off)
    lines = path.calls()
    if broken := not_left(look, mesh, lines, [path.reviews_pod()], "ratings", SPLIT):
        return broken
    if not lines:
        return look.unknown("none of our requests led to a ratings call")
    closed = sum(bool(flags(line) & {"UF", "UC"}) for line in lines)
    return look.ok(f"{len(lines)} calls" + (f", {closed} of them closed by the next hop" if closed else ""))


def not_left(
    look: Look, mesh: MeshFacts, lines: Sequence[AccessLine], pods: Sequence[Object], service: str, route: str
) -> Link | None:
    """The broken link where calls of a service did not get beyond the calling sidecar, one of `pods`.

    route: the VirtualService that sends them.
    """
    gateway = mesh.gateway("egress")
    egress = {pod["status"].get("podIP", "") for pod in mesh.gateway_pods(gateway)}
    stop = client_stop(lines, imports_of(mesh), egress, mesh.version().unknown_cluster)
    if stop is None:
        return None
    pod = pods[0]["metadata"]["name"]
    values = {
        "name": route,
        "share": f"{stop.count} of {len(lines)} calls",
        "host": stop.about or "a cluster",
        "expected": imported(service, mesh),
        "pod": pod,
        "proxy": f"The sidecar of {pod}",
        "seen": stop.about,
        "gateway": gateway,
        **_about_backend(mesh, stop),
    }
    if stop.cause == "egress-data-path-blocked":
        values["detail"] = f"{stop.detail}; {network_policies(mesh, gateway)}"
    return look.broken(stop.cause, f"{stop.count} of {len(lines)} calls: {stop.detail} ({values['host']})", **values)


def egress(facts: Facts, path: PathLook) -> Link:
    """mesh2's egress gateway knows mesh1's addresses and makes its connections."""
    mesh, gateway = facts.mesh2, facts.mesh2.gateway("egress")
    look = Look("egress", mesh.names.name, f"endpoints and access log of {gateway}")
    lines = path.gateway_lines(mesh, "egress")
    stop = egress_stop(lines, imports_of(mesh))
    if stop and stop.cause == "data-path-blocked":
        stop = blocked(stop, _answers(mesh))
    if stop:
        values = {"gateway": gateway, "host": stop.about, "address": stop.about, "detail": _egress_detail(facts, stop)}
        return look.broken(stop.cause, _seen(stop), **values)
    remote = f".{exports_domain(facts.mesh1.names.peer)}"
    found = {name: ends for name, ends in path.egress_endpoints().items() if name.endswith(remote)}
    for name, ends in found.items():
        if not ends:
            values = {"gateway": gateway, "host": name.rpartition("|")[2]}
            return look.broken("egress-without-remote", f"{name} has no endpoint", **values)
    if not found:
        return look.unknown(f"{gateway} has no cluster of {mesh.names.peer}'s exports")
    remotes = sorted({str(end) for ends in found.values() for end in ends})
    known = f"{len(found)} exports at {', '.join(remotes)}"
    if STDOUT not in path.gateway_logging(mesh, "egress"):
        return look.unknown(f"{known}, but no listener of {gateway} writes a log: nothing shows failed connections")
    return _passed(look, facts, path, lines, known)


def ingress(facts: Facts, path: PathLook) -> Link:
    """mesh1's ingress gateway lets mesh2's connections in and finds who they are for."""
    mesh, gateway = facts.mesh1, facts.mesh1.gateway("ingress")
    look = Look("ingress", mesh.names.name, f"access log of {gateway}")
    lines = path.gateway_lines(mesh, "ingress")
    stop = ingress_stop(lines, f".{exports_domain(mesh.names.peer)}")
    if stop:
        values = {"host": stop.about, "gateway": gateway, "proxy": f"Ingress gateway {gateway}"}
        return look.broken(stop.cause, _seen(stop), **values, **_about_backend(mesh, stop))
    if STDOUT not in path.gateway_logging(mesh, "ingress"):
        return look.unknown(f"no listener of {gateway} writes a log: nothing shows refused and lost connections")
    return _passed(look, facts, path, lines, "no connection refused or lost there")


def _passed(look: Look, facts: Facts, path: PathLook, lines: Sequence[AccessLine], seen: str) -> Link:
    """A gateway without a failed connection: in order if some went through it, by its log or by who got an answer.

    A connection is logged when it ends, and the sidecars keep theirs: silence alone says nothing.
    """
    ended = sum(not line.is_http and not flags(line) and line.bytes_received > 0 for line in lines)
    answered = 0
    with contextlib.suppress(ClusterError):
        host = imported("ratings", facts.mesh2)
        answered = sum(line.succeeded and line.upstream_cluster.endswith(f"|{host}") for line in path.calls())
    if not ended and not answered:
        return look.unknown(f"{seen}, but nothing went through it while we looked")
    return look.ok(f"{seen}; {answered} calls answered through it, {ended} connections ended well")


def blocked(stop: Stop, answers: Mapping[str, Collection[str]]) -> Stop:
    """What a connection that is not made says where the peer is known by name; `answers`: addresses by host name now.

    istiod looks names up at a resync only, so the gateway may go on calling an address that the name has left.
    """
    address = stop.about.rpartition(":")[0]
    if not answers or any(address in found for found in answers.values()):
        return stop
    now = "; ".join(f"{host} is seen from here at {', '.join(sorted(found))}" for host, found in answers.items())
    return Stop("remote-address-stale", f"{stop.detail}; {now}", stop.about, stop.count)


def _answers(mesh: MeshFacts) -> dict[str, set[str]]:
    """Addresses of the hosts in the peer object, as names resolve from here; {} where one of them does not."""
    hosts, _ = configured(mesh)
    try:
        return {host: resolve(host) for host in hosts}
    except OSError:
        return {}


def _egress_detail(facts: Facts, stop: Stop) -> str:
    if stop.cause == "data-path-blocked":
        other = facts.mesh1
        return f"{stop.detail}; {network_policies(other, other.gateway('ingress'))}"
    if stop.cause == "egress-refuses-plaintext":
        return plaintext_to(facts.mesh2, imported("ratings", facts.mesh2))
    return denied_by(stop.detail) if stop.cause == "gateway-denies" else stop.detail


def _about_backend(mesh: MeshFacts, stop: Stop) -> dict[str, str]:
    """What a cause says of a workload of `mesh` that a proxy did not get to, or was not let through to."""
    detail, service = stop.detail, stop.about.split(".")[0]
    if stop.cause == "backend-down":
        detail = f"{stop.detail}; {why_not_ready(mesh, mesh.app, {'app': service})}"
    elif stop.cause == "backend-without-tls":
        pods = [pod for pod in mesh.all(kinds.POD, mesh.app) if _at(pod, stop.about)]
        detail = f"{stop.detail}; {plaintext_of(mesh, pods)}"
    elif stop.cause == "gateway-denies":
        detail = denied_by(stop.detail)
    selector = f"app={service}"
    return {"address": stop.about, "detail": detail, "service": service or "A service", "selector": selector}


def _at(pod: Object, address: str) -> bool:
    return (pod.get("status") or {}).get("podIP") == address.rpartition(":")[0] and not ended(pod)


def _seen(stop: Stop) -> str:
    return f"{stop.count} connections: {stop.detail} ({stop.about})"
