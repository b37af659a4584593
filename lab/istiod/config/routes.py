"""HTTP routes, from VirtualServices and from services alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lab.istiod.config.blocks import Block, typed
from lab.istiod.config.clusters import PASSTHROUGH, cluster_name
from lab.istiod.model import Service
from lab.istiod.store import MESH, Config, Mesh, Proxy, gateways_of, resolve

HTTP_PROTOCOLS = ("HTTP", "HTTP2", "GRPC")
_NO_TIMEOUT: Block = {"timeout": "0s", "max_stream_duration": {"max_stream_duration": "0s"}}
_RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"


def sidecar_routes(mesh: Mesh, namespace: str, port: int) -> Block:
    """What sidecars of a namespace do with HTTP requests to a port: the route configuration named by its number."""
    rules = mesh.virtual_services(MESH, namespace)
    hosts = []
    for service in mesh.visible(namespace):
        numbers = [entry.number for entry in service.ports if entry.protocol in HTTP_PROTOCOLS]
        if port not in numbers:
            continue
        rule = next((rule for rule in rules if rule.spec.get("http") and _speaks_of(rule, service.hostname)), None)
        routes = http_routes(mesh, rule, MESH, port) if rule else [_service_route(service, port)]
        hosts.append(
            {
                "name": f"{service.hostname}:{port}",
                "domains": domains(service, virtual_address(mesh, service), namespace, port),
                "routes": routes,
                "include_request_attempt_count": True,
            }
        )
    hosts.append(
        {
            "name": "allow_any",
            "domains": ["*"],
            "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": PASSTHROUGH, **_NO_TIMEOUT}, "name": "allow_any"}
            ],
            "include_request_attempt_count": True,
        }
    )
    return {"name": str(port), "virtual_hosts": hosts, "validate_clusters": False}


def gateway_routes(mesh: Mesh, proxy: Proxy, name: str, servers: Iterable[tuple[Config, Mapping[str, Any]]]) -> Block:
    """One route configuration of a gateway proxy: the VirtualServices bound to the Gateways whose servers share it."""
    hosts: dict[str, Block] = {}
    for gateway, server in servers:
        reference, port = f"{gateway.namespace}/{gateway.name}", server["port"]["number"]
        allowed = [host.rpartition("/")[2] for host in server.get("hosts") or ()]
        for rule in mesh.virtual_services(reference, proxy.namespace):
            for host in rule.spec.get("hosts") or () if rule.spec.get("http") else ():
                full = resolve(host, rule.namespace)
                if not any(_overlaps(full, pattern) for pattern in allowed):
                    continue
                entry = hosts.setdefault(
                    full,
                    {
                        "name": f"{full}:{port}",
                        "domains": ["*"] if full == "*" else [full, f"{full}:*"],
                        "routes": [],
                        "include_request_attempt_count": True,
                    },
                )
                entry["routes"] += http_routes(mesh, rule, reference, port)
    if not hosts:
        # a Gateway that nothing is bound to answers 404 to everything
        hosts["*"] = {"name": f"blackhole:{name.split('.')[1]}", "domains": ["*"], "routes": []}
    return {"name": name, "virtual_hosts": [hosts[key] for key in sorted(hosts)], "validate_clusters": False}


def http_routes(mesh: Mesh, rule: Config, gateway: str, port: int) -> list[Block]:
    """The routes of one VirtualService that hold for a gateway (or `mesh`) and a port, in its order."""
    found = []
    for route in rule.spec.get("http") or ():
        for match in route.get("match") or [None]:
            if match and not _applies(rule, match, gateway, port):
                continue
            found.append(_http_route(mesh, rule, route, match, port))
            if not match:
                return found
    return found


def virtual_address(mesh: Mesh, service: Service) -> str:
    """The address a host name stands for: the ClusterIP, or for federated hosts one from 240.241.0.0/16."""
    if service.cluster_ip:
        return service.cluster_ip
    federated = [other for other in mesh.services if other.source not in ("Kubernetes", "External")]
    without = [other.hostname for other in federated if not other.private]
    if service.hostname not in without:
        return ""
    high, low = divmod(without.index(service.hostname) + 1, 255)
    return f"240.241.{high}.{low}"


def domains(service: Service, address: str, namespace: str, port: int) -> list[str]:
    """All that a client of a namespace may write for a service: full name, shorter forms, address; with port too."""
    labels = service.hostname.split(".")
    own = f"{namespace}.svc.cluster.local".split(".")
    shared = 0
    while shared < len(labels) - 1 and shared < len(own) and labels[-1 - shared] == own[-1 - shared]:
        shared += 1
    unique = len(labels) - shared
    forms = [service.hostname]
    if shared:
        forms.append(".".join(labels[:unique]))
        forms += [".".join(labels[:end]) for end in range(len(labels) - 1, unique, -1)]
    if address:
        forms.append(address)
    return [text for form in forms for text in (form, f"{form}:{port}")]


def destination(mesh: Mesh, namespace: str, target: Mapping[str, Any], listener_port: int) -> str:
    """The cluster a VirtualService's destination means.

    Without a port it is the service's only one; a service with several ports, or an unknown one, gets the port the
    request came in on. Nothing checks that the cluster exists: Envoy answers for one that does not.
    """
    host = resolve(target["host"], namespace)
    service = mesh.service(host)
    number = (target.get("port") or {}).get("number")
    if not number:
        number = service.ports[0].number if service and len(service.ports) == 1 else listener_port
    return cluster_name(number, target.get("subset") or "", host)


def weighted(mesh: Mesh, namespace: str, entries: Iterable[Mapping[str, Any]], listener_port: int) -> Block:
    """`{"cluster": ...}` or `{"weighted_clusters": ...}`; entries without weight are left out beside others."""
    listed = list(entries)
    names = [destination(mesh, namespace, entry["destination"], listener_port) for entry in listed]
    if len(listed) == 1:
        return {"cluster": names[0]}
    shares = [
        {"name": name, "weight": entry["weight"]}
        for name, entry in zip(names, listed, strict=True)
        if entry.get("weight")
    ]
    if len(shares) == 1:
        return {"cluster": shares[0]["name"]}
    return {"weighted_clusters": {"clusters": shares}}


def _speaks_of(rule: Config, hostname: str) -> bool:
    return any(_matches_host(hostname, resolve(host, rule.namespace)) for host in rule.spec.get("hosts") or ())


def _matches_host(host: str, pattern: str) -> bool:
    return pattern in ("*", host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _overlaps(host: str, pattern: str) -> bool:
    return host == "*" or _matches_host(host, pattern) or _matches_host(pattern, host)


def _applies(rule: Config, match: Mapping[str, Any], gateway: str, port: int) -> bool:
    if match.get("port") not in (None, port):
        return False
    return gateway in gateways_of(rule, match.get("gateways") or rule.spec.get("gateways"))


def _service_route(service: Service, port: int) -> Block:
    return {
        "match": {"prefix": "/"},
        "route": {
            "cluster": cluster_name(port, "", service.hostname),
            **_NO_TIMEOUT,
            "retry_policy": _retry_policy(None),
        },
        "decorator": {"operation": f"{service.hostname}:{port}/*"},
        "name": "default",
    }


def _http_route(
    mesh: Mesh, rule: Config, route: Mapping[str, Any], match: Mapping[str, Any] | None, port: int
) -> Block:
    about, path = _match(match)
    block: Block = {"match": about, "metadata": {"filter_metadata": {"istio": {"config": rule.path}}}}
    name = ".".join(filter(None, (route.get("name"), (match or {}).get("name"))))
    if name:
        block["name"] = name
    if redirect := route.get("redirect"):
        names = {"authority": "host_redirect", "uri": "path_redirect"}
        block["redirect"] = {names[key]: value for key, value in redirect.items() if key in names}
        return block
    action: Block = {**weighted(mesh, rule.namespace, route.get("route") or (), port), **_NO_TIMEOUT}
    if route.get("timeout"):
        action["timeout"] = action["max_stream_duration"]["max_stream_duration"] = route["timeout"]
    if (retry := _retry_policy(route.get("retries"))) is not None:
        action["retry_policy"] = retry
    rewrite = route.get("rewrite") or {}
    if rewrite.get("uri"):
        action["prefix_rewrite"] = rewrite["uri"]
    if rewrite.get("authority"):
        action["host_rewrite_literal"] = rewrite["authority"]
    block["route"] = action
    block["decorator"] = {"operation": _operation(action, rule.name, port, path)}
    if fault := route.get("fault"):
        block["typed_per_filter_config"] = {"envoy.filters.http.fault": _fault(fault)}
    block.update(_header_changes(route.get("headers") or {}))
    return block


def _match(match: Mapping[str, Any] | None) -> tuple[Block, str]:
    """Envoy's match, and the path as the route's operation shows it."""
    if match is None:
        return {"prefix": "/"}, "/*"
    kinds = {"exact": "path", "prefix": "prefix"}
    about: Block = {"prefix": "/"}
    path = "/*"
    for kind, value in (match.get("uri") or {}).items():
        if kind == "regex":
            about, path = {"safe_regex": {"regex": value}}, value
        else:
            about, path = {kinds[kind]: value}, value if kind == "exact" else f"{value.rstrip('*')}*"
    about["case_sensitive"] = not match.get("ignoreUriCase")
    headers = [{"name": name, **_string(value)} for name, value in (match.get("headers") or {}).items()]
    headers += [
        {"name": f":{name}", **_string(match[name])} for name in ("method", "scheme", "authority") if match.get(name)
    ]
    if headers:
        about["headers"] = headers
    if parameters := match.get("queryParams"):
        about["query_parameters"] = [{"name": name, **_string(value)} for name, value in parameters.items()]
    return about, path


def _string(value: Mapping[str, str]) -> Block:
    """A matcher for a header or parameter; an empty StringMatch only asks that it is there."""
    for kind, text in value.items():
        return {"string_match": {"safe_regex": {"regex": text}} if kind == "regex" else {kind: text}}
    return {"present_match": True}


def _operation(action: Block, rule_name: str, port: int, path: str) -> str:
    if "cluster" in action:
        _, number, _, host = action["cluster"].split("|")
        return f"{host}:{number}{path}"
    return f"{rule_name}:{port}{path}"


def _retry_policy(retries: Mapping[str, Any] | None) -> Block | None:
    if retries is not None and not retries.get("attempts"):
        return None
    policy: Block = {
        "retry_on": (retries or {}).get("retryOn") or _RETRY_ON,
        "num_retries": (retries or {}).get("attempts", 2),
        "retry_host_predicate": [
            typed(
                "envoy.retry_host_predicates.previous_hosts",
                "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ],
        "host_selection_retry_max_attempts": "5",
        "retriable_status_codes": [503],
    }
    if retries and retries.get("perTryTimeout"):
        policy["per_try_timeout"] = retries["perTryTimeout"]
    return policy


def _fault(fault: Mapping[str, Any]) -> Block:
    block: Block = {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}
    if abort := fault.get("abort"):
        block["abort"] = {"http_status": abort["httpStatus"], "percentage": _percentage(abort)}
    if delay := fault.get("delay"):
        block["delay"] = {"fixed_delay": delay["fixedDelay"], "percentage": _percentage(delay)}
    return block


def _percentage(part: Mapping[str, Any]) -> Block:
    value = (part.get("percentage") or {}).get("value", 100)
    return {"numerator": round(value * 10_000), "denominator": "MILLION"}


def _header_changes(headers: Mapping[str, Any]) -> Block:
    block: Block = {}
    for side in ("request", "response"):
        changes = headers.get(side) or {}
        added = [
            {"header": {"key": key, "value": value}, "append_action": action}
            for kind, action in (("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD"))
            for key, value in (changes.get(kind) or {}).items()
        ]
        if added:
            block[f"{side}_headers_to_add"] = added
        if changes.get("remove"):
            block[f"{side}_headers_to_remove"] = changes["remove"]
    return block
