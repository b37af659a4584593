"""Prometheus, Grafana, Kiali and Jaeger: on unless the control plane turns them off, as in the default profile."""

from __future__ import annotations

from lab.operator.istiod import service_port
from lab.operator.plane import ControlPlane, Rendered, deployment_spec
from lab.resources import DEPLOYMENT, SERVICE, SERVICE_ACCOUNT, Resource

KIALI = Resource("kiali.io/v1alpha1", "kialis", "Kiali")
JAEGER = Resource("jaegertracing.io/v1", "jaegers", "Jaeger")


def enabled(plane: ControlPlane) -> set[str]:
    """Names of the wanted components: prometheus, grafana, kiali, tracing."""
    wanted = {name for name in ("prometheus", "grafana", "kiali") if plane.get("addons", name, "enabled", default=True)}
    if plane.get("tracing", "type", default="Jaeger") == "Jaeger":
        wanted.add("tracing")
    return wanted


def dependencies(plane: ControlPlane) -> list[tuple[str, str]]:
    """(what it is called, name of the CRD) of what other operators must have brought."""
    wanted, needed = enabled(plane), []
    if "tracing" in wanted:
        needed.append(("Jaeger CRD", "jaegers.jaegertracing.io"))
    if "kiali" in wanted:
        needed.append(("Kiali CRD", "kialis.kiali.io"))
    return needed


def prometheus(plane: ControlPlane) -> list[Rendered]:
    return _server(plane, "prometheus", 9090, "registry.redhat.io/openshift4/ose-prometheus")


def grafana(plane: ControlPlane) -> list[Rendered]:
    return _server(plane, "grafana", 3000, "quay.io/maistra/grafana-ubi8")


def kiali(plane: ControlPlane) -> list[Rendered]:
    name = plane.get("addons", "kiali", "name", default="kiali")
    return [(KIALI, plane.object(name, plane.labels("kiali", app="kiali"), spec={}))]


def jaeger(plane: ControlPlane) -> list[Rendered]:
    name = plane.get("addons", "jaeger", "name", default="jaeger")
    return [(JAEGER, plane.object(name, plane.labels("tracing", app="jaeger"), spec={}))]


def _server(plane: ControlPlane, name: str, port: int, image: str) -> list[Rendered]:
    labels, selector = plane.labels(name, app=name), {"app": name}
    container = {
        "name": name,
        "image": f"{image}:{plane.chart}",
        "ports": [{"containerPort": port, "protocol": "TCP"}],
    }
    pod = {**selector, "maistra-control-plane": plane.namespace, "release": "istio"}
    service = {"type": "ClusterIP", "selector": selector, "ports": [service_port("http", port, port)]}
    return [
        (SERVICE_ACCOUNT, plane.object(name, labels)),
        (SERVICE, plane.object(name, labels, spec=service)),
        (DEPLOYMENT, plane.object(name, labels, spec=deployment_spec(plane, selector, pod, {}, name, container, {}))),
    ]
