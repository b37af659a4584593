"""The parts that Envoy listeners and clusters are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.istiod.store import Mesh

Block = dict[str, Any]
_TYPES = "type.googleapis.com/envoy."

_LOG_FORMAT = " ".join(
    (
        "[%START_TIME%]",
        '"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%"',
        "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS%",
        '"%UPSTREAM_TRANSPORT_FAILURE_REASON%"',
        "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
        '"%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%"',
        '"%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS%',
        "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
    )
)
"""Istio's default access-log format, the same from 2.1 to 2.5 (reference: product 6.2)."""
_JSON_FORMAT = {
    "start_time": "%START_TIME%",
    "route_name": "%ROUTE_NAME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "response_code_details": "%RESPONSE_CODE_DETAILS%",
    "connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "upstream_cluster": "%UPSTREAM_CLUSTER%",
    "upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "requested_server_name": "%REQUESTED_SERVER_NAME%",
    "upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
}
"""The same with encoding JSON."""

XDS: Block = {
    "api_config_source": {
        "api_type": "REST",
        "transport_api_version": "V3",
        "cluster_names": ["xds-grpc"],
        "refresh_delay": "0.05s",
        "request_timeout": "3600s",
    },
    "resource_api_version": "V3",
    "initial_fetch_timeout": "0s",
}
"""Where proxies get routes and secrets: the long polls of `lab.istiod.xds`."""

ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": _TYPES + "extensions.filters.http.router.v3.Router"},
}
CORS = {"name": "envoy.filters.http.cors", "typed_config": {"@type": _TYPES + "extensions.filters.http.cors.v3.Cors"}}
FAULT = {
    "name": "envoy.filters.http.fault",
    "typed_config": {"@type": _TYPES + "extensions.filters.http.fault.v3.HTTPFault"},
}
TLS_INSPECTOR = {
    "name": "envoy.filters.listener.tls_inspector",
    "typed_config": {"@type": _TYPES + "extensions.filters.listener.tls_inspector.v3.TlsInspector"},
}
RAW_BUFFER = {
    "name": "envoy.transport_sockets.raw_buffer",
    "typed_config": {"@type": _TYPES + "extensions.transport_sockets.raw_buffer.v3.RawBuffer"},
}


def typed(name: str, message: str, **fields: Any) -> Block:
    """An extension by name, with its message (without the common prefix) and fields."""
    return {"name": name, "typed_config": {"@type": _TYPES + message, **fields}}


def address(host: str, port: int) -> Block:
    return {"socket_address": {"address": host, "port_value": port}}


def access_log(mesh: Mesh) -> list[Block]:
    """The log of requests or connections; none where the mesh keeps no access log."""
    return [_file_log(mesh)] if mesh.access_log else []


def listener_access_log(mesh: Mesh) -> list[Block]:
    """The log of connections that no filter chain took."""
    return [{**_file_log(mesh), "filter": {"response_flag_filter": {"flags": ["NR"]}}}] if mesh.access_log else []


def _file_log(mesh: Mesh) -> Block:
    text = {"text_format_source": {"inline_string": _LOG_FORMAT}}
    return typed(
        "envoy.access_loggers.file",
        "extensions.access_loggers.file.v3.FileAccessLog",
        path="/dev/stdout",
        log_format={"json_format": _JSON_FORMAT} if mesh.access_log == "JSON" else text,
    )


def tcp_proxy(mesh: Mesh, stat_prefix: str, target: Block) -> Block:
    """A TCP proxy to `{"cluster": ...}` or `{"weighted_clusters": ...}`."""
    return typed(
        "envoy.filters.network.tcp_proxy",
        "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        stat_prefix=stat_prefix,
        access_log=access_log(mesh),
        **target,
    )


def http_connection_manager(mesh: Mesh, stat_prefix: str, counted: Sequence[Block] = (), **fields: Any) -> Block:
    """An HTTP connection manager; `fields` say where routes come from, which filters and how the edge is treated.

    `counted` are loggers beside the access log.
    """
    return typed(
        "envoy.filters.network.http_connection_manager",
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=stat_prefix,
        access_log=[*access_log(mesh), *counted],
        upgrade_configs=[{"upgrade_type": "websocket"}],
        stream_idle_timeout="0s",
        normalize_path=True,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        **fields,
    )


def rds(route_name: str) -> Block:
    return {"config_source": XDS, "route_config_name": route_name}


def san_matchers(exact: tuple[str, ...] = (), prefix: str = "") -> Block:
    """A validation context that accepts the given SPIFFE ids; without any it accepts all that a root vouches for."""
    matchers = [{"exact": identity} for identity in exact] + ([{"prefix": prefix}] if prefix else [])
    if not matchers:
        return {}
    return {"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": matcher} for matcher in matchers]}


def _mutual(alpn: list[str], accepted: Block) -> Block:
    return {
        "alpn_protocols": alpn,
        "tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": XDS}],
        "combined_validation_context": {
            "default_validation_context": accepted,
            "validation_context_sds_secret_config": {"name": "ROOTCA", "sds_config": XDS},
        },
    }


def downstream_mutual_tls(alpn: list[str], accepted: Block) -> Block:
    """The server's side of mutual TLS with the workload certificate."""
    return typed(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={"tls_params": {}, **_mutual(alpn, accepted)},
        require_client_certificate=True,
    )


def downstream_tls_for_anyone(alpn: list[str]) -> Block:
    """The server's side of TLS with the workload certificate, where clients are not asked for theirs."""
    certificates = [{"name": "default", "sds_config": XDS}]
    return typed(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={"alpn_protocols": alpn, "tls_certificate_sds_secret_configs": certificates},
    )


def upstream_mutual_tls(sni: str, identities: tuple[str, ...]) -> Block:
    """The client's side of mutual TLS with the workload certificate."""
    return typed(
        "envoy.transport_sockets.tls",
        "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=_mutual(["istio-peer-exchange", "istio"], san_matchers(identities)),
        sni=sni,
    )


def upstream_simple_tls(sni: str) -> Block:
    """TLS without a client certificate; the server is not verified, as in DestinationRules without CA certificates."""
    fields: Block = {"common_tls_context": {"validation_context": {}}}
    if sni:
        fields["sni"] = sni
    return typed("envoy.transport_sockets.tls", "extensions.transport_sockets.tls.v3.UpstreamTlsContext", **fields)
