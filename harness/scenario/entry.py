"""How things are reached from outside: the federation ingress gateways, and mesh2's productpage."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import requests

from harness.cluster import proxies
from harness.cluster.addresses import netloc
from harness.cluster.cluster import Cluster
from harness.cluster.kinds import NODE, ROUTE, SERVICE
from harness.cluster.transport import ClusterError, Forbidden, NotFound, Object
from harness.product.mesh import ENTRY_GATEWAY, Bookinfo, IngressAddress, Mesh, MeshNames, running_pods
from harness.product.names import DISCOVERY_PORT, SERVICE_PORT
from harness.run.waiting import Cancelled, WaitTimeout, wait_for
from harness.split.probe import Page, look_at

_TRY_SECONDS = 2.0
_NODES_TRIED = 5
NO_WAY_IN = (
    "No load balancer gives it an address, and it has no NodePorts or no node's address may be read. Install a load "
    "balancer (MetalLB), or let this user list nodes"
)
_NAME_SECONDS = 2.0  # between two look-ups of a name
_GATEWAY_HTTP_PORT = 8080  # of the gateway's pods, for port 80 of its Service
_PAGES_IN_A_ROW = 10  # half of them cross the meshes, half of the others need mongodb of mesh1
_PAGE_SECONDS = 15.0  # productpage gives up on reviews after 2 times 3 s


def ingress_address(service: Object | None) -> IngressAddress | None:
    """Address of a federation ingress from its Service: LoadBalancer ip, else hostname; None where it has none yet."""
    balancers = ((service or {}).get("status") or {}).get("loadBalancer", {}).get("ingress") or []
    for key in ("ip", "hostname"):
        hosts = tuple(entry[key] for entry in balancers if entry.get(key))
        if hosts:
            return IngressAddress(hosts, DISCOVERY_PORT, SERVICE_PORT, f"LoadBalancer {key}")
    return None


def node_port_address(cluster: Cluster, service: Object) -> IngressAddress | None:
    """The same by NodePort and the address of a node, if possible one that answers; None without NodePorts."""
    ports = {port["port"]: port["nodePort"] for port in service["spec"]["ports"] if port.get("nodePort")}
    hosts = node_addresses(cluster)
    if not hosts or not {DISCOVERY_PORT, SERVICE_PORT} <= ports.keys():
        return None
    # Before the gateway's pod is ready no node answers.
    host = _reached(hosts, ports[DISCOVERY_PORT]) or hosts[0]
    return IngressAddress((host,), ports[DISCOVERY_PORT], ports[SERVICE_PORT], "NodePort")


def node_addresses(cluster: Cluster) -> tuple[str, ...]:
    """Addresses of the nodes that are Ready, or of all where none is, outside ones first; none if they are hidden."""
    try:
        nodes = cluster.list(NODE)
    except (Forbidden, NotFound):
        return ()
    ready = [node for node in nodes if _is_ready(node)] or nodes
    found = [address for node in ready for address in (node.get("status") or {}).get("addresses", [])]
    return tuple(
        address["address"]
        for kind in ("ExternalIP", "InternalIP", "Hostname")
        for address in found
        if address["type"] == kind
    )


def _is_ready(node: Object) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _reached(hosts: Sequence[str], port: int) -> str | None:
    """The first of the nodes' addresses that accepts a connection; only some are tried, as each takes its time."""
    return next((host for host in hosts[:_NODES_TRIED] if reaches(host, port)), None)


def reaches(host: str, port: int) -> bool:
    """Whether a TCP connection is accepted."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=_TRY_SECONDS):
        return True
    return False


def wait_for_name(
    host: str, mesh: str, timeout: float, say: Callable[[str], None], cancelled: threading.Event | None = None
) -> str:
    """Waits until a host name resolves: that of a new load balancer takes minutes. '' then, else why not, in words.

    `say` is told once what is waited for, and why.
    """
    told = False

    def look() -> tuple[bool | None, str]:
        nonlocal told
        try:
            socket.getaddrinfo(host, None)
        except OSError as error:
            if not told:
                say(f"waiting until {host} resolves: {error.strerror or error}")
            told = True
            return None, str(error.strerror or error)
        return True, ""

    try:
        wait_for(f"{host} to resolve", look, timeout, mesh, _NAME_SECONDS, cancelled)
    except WaitTimeout as error:
        return str(error)
    return ""


def _route_host(cluster: Cluster, name: str, namespace: str) -> str | None:
    """Raises Forbidden where Routes may not be read."""
    route = cluster.find(ROUTE, name, namespace)
    for ingress in ((route or {}).get("status") or {}).get("ingress") or []:
        admitted = any(c["type"] == "Admitted" and c["status"] == "True" for c in ingress.get("conditions") or [])
        if admitted and ingress.get("host"):
            return ingress["host"]
    return None


def productpage_entry(
    cluster: Cluster,
    mesh: MeshNames,
    forwards: contextlib.ExitStack,
    patience: float = 0.0,
    say: Callable[[str], None] = lambda text: None,  # noqa: ARG005
) -> Bookinfo:
    """How productpage is reached: Route where admitted, else LoadBalancer, else NodePort, else a port-forward.

    A port-forward lives until `forwards` is closed. A load balancer's host name has `patience` seconds to resolve;
    `say` is told of it, and of the addresses that are tried. Where Routes may not be read, `entry` says so too. Raises
    NotFound where there is no istio-ingressgateway, ClusterError where its Service has no port for HTTP.
    """
    gateway, namespace = ENTRY_GATEWAY, mesh.system_namespace
    service = cluster.get(SERVICE, gateway, namespace)
    try:
        host = _route_host(cluster, gateway, namespace)
    except Forbidden:
        found = _without_route(cluster, mesh, service, forwards, patience, say)
        return replace(found, entry=f"{found.entry} (this user may not read Routes)")
    if host:
        return Bookinfo(f"http://{host}/productpage", "Route")
    return _without_route(cluster, mesh, service, forwards, patience, say)


def _without_route(
    cluster: Cluster,
    mesh: MeshNames,
    service: Object,
    forwards: contextlib.ExitStack,
    patience: float,
    say: Callable[[str], None],
) -> Bookinfo:
    namespace, port = mesh.system_namespace, _http_port(mesh, service)
    number, selected = port["port"], service["spec"].get("selector") or {}
    for entry in (service.get("status") or {}).get("loadBalancer", {}).get("ingress") or []:
        host = entry.get("ip") or entry.get("hostname")
        if not entry.get("ip") and host:
            wait_for_name(host, mesh.name, patience, say)
        if host:
            say(f"trying the load balancer at {netloc(host, number)}")
            if reaches(host, number):
                at = netloc(host) if number == 80 else netloc(host, number)
                return Bookinfo(f"http://{at}/productpage", "LoadBalancer")
    node_port = port.get("nodePort")
    if node_port and (hosts := node_addresses(cluster)):
        tried = ", ".join(hosts[:_NODES_TRIED])
        say(f"trying NodePort {node_port} at {tried}, of {len(hosts)} addresses of nodes")
        if host := _reached(hosts, node_port):
            return Bookinfo(f"http://{netloc(host, node_port)}/productpage", "NodePort")
    if not selected:
        raise ClusterError(mesh.name, f"find productpage behind {_described(service)}", "it selects no pods")
    selector = ",".join(f"{key}={value}" for key, value in selected.items())
    target = port.get("targetPort")
    forward = LocalForward(cluster, namespace, selector, target if isinstance(target, int) else _GATEWAY_HTTP_PORT)
    forwards.callback(forward.close)
    return Bookinfo(f"http://127.0.0.1:{forward.port}/productpage", "port-forward")


def _http_port(mesh: MeshNames, service: Object) -> Object:
    """Port 80 of the Service, else the first that is named for plain HTTP; raises ClusterError without either."""
    ports = service["spec"].get("ports") or []
    named = [port for port in ports if port.get("name", "").partition("-")[0] in ("http", "http2")]
    for port in [*(port for port in ports if port["port"] == 80), *named]:
        return port
    has = ", ".join(str(port["port"]) for port in ports) or "none"
    detail = f"it has no port 80 and none named http; ports it has: {has}"
    raise ClusterError(mesh.name, f"find productpage behind {_described(service)}", detail)


def _described(service: Object) -> str:
    return f"Service {service['metadata']['namespace']}/{service['metadata']['name']}"


class LocalForward:
    """A local port whose connections are forwarded, through the API server, to a port of the first pod selected."""

    def __init__(self, cluster: Cluster, namespace: str, selector: str, port: int) -> None:
        self._cluster, self._namespace, self._selector, self._target = cluster, namespace, selector, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True, name=f"forward {namespace} {port}").start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        for client in self._clients():
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _clients(self) -> Iterator[socket.socket]:
        while True:
            try:
                yield self._listener.accept()[0]
            except OSError:
                return

    def _serve(self, client: socket.socket) -> None:
        # Without a pod, or when it goes meanwhile, the connection just ends: whoever asked tries the next pod anew.
        with client, contextlib.suppress(ClusterError, Cancelled, OSError):
            running = running_pods(self._cluster, self._namespace, self._selector)
            if not running:
                return
            name = running[0]["metadata"]["name"]
            with self._cluster.port_forward(self._namespace, name, self._target) as remote:
                back = threading.Thread(target=_copy, args=(remote, client), daemon=True)
                back.start()
                _copy(client, remote)
                back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def wait_for_stars(bookinfo: Bookinfo, mesh: Mesh, seen: Callable[[str], None] = lambda _: None) -> str:
    """Waits for productpages with stars, ten in a row: each way a request may take is open then.

    '' then, or what was seen instead when the time was up; `seen` is told what the page shows until then.
    """

    def look() -> tuple[bool | None, str]:
        for _ in range(_PAGES_IN_A_ROW):
            try:
                answer = proxies.get(bookinfo.productpage_url, _PAGE_SECONDS)
            except requests.RequestException as error:
                return None, f"no answer: {error}"
            page = look_at(answer.status_code, answer.content)
            if page is not Page.STARS:
                return None, f"HTTP {answer.status_code}, {page}"
        return True, "stars"

    try:
        wait_for("productpage to show stars", look, mesh.bounds.page, mesh.name, seen=seen)
    except WaitTimeout as error:
        return str(error)
    return ""
