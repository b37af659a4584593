"""Answers of an OpenShift cluster that cannot be had here, and what preflight finds in such clusters."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from harness.cluster.cluster import Cluster
from harness.scenario.preflight import Asked, preflight
from selftests.support.recorded_api import items, resources

SERVICE_MESH = "/apis/maistra.io/v2"
OPERATOR = "/apis/apps/v1/namespaces/openshift-operators/deployments/istio-operator"
HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
ADMISSION = "/api/v1/namespaces/openshift-operators/endpoints/maistra-admission-controller"


def operator(release="2.4.7", available="True"):
    containers = [{"name": "istio-operator", "image": "registry.redhat.io/openshift-service-mesh/istio-rhel8-operator"}]
    return {
        "metadata": {
            "name": "istio-operator",
            "namespace": "openshift-operators",
            "labels": {"olm.owner": f"servicemeshoperator.v{release}-0"},
        },
        "spec": {"template": {"spec": {"containers": containers}}},
        "status": {"conditions": [{"type": "Available", "status": available}]},
    }


def balancer(created: datetime, **status):
    meta = {"name": "router-default", "namespace": "openshift-ingress", "creationTimestamp": f"{created:%FT%TZ}"}
    return {"metadata": meta, "spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": status}}


def openshift_on_aws(uid="one", release="2.4.7", **more):
    """What a fresh OpenShift 4.14 on AWS with the OSSM operator answers."""
    hook = {"name": "smcp.validation.maistra.io"}
    hook["clientConfig"] = {"service": {"namespace": "openshift-operators", "name": "maistra-admission-controller"}}
    elb = {"hostname": "a1b2-3.elb.eu-central-1.amazonaws.com"}
    answers = {
        "/version": {"gitVersion": "v1.27.6+b49f9d1"},
        "/apis": {"groups": [{"name": "maistra.io"}, {"name": "route.openshift.io"}, {"name": "networking.istio.io"}]},
        "/apis/config.openshift.io/v1/clusterversions/version": {"status": {"desired": {"version": "4.14.1"}}},
        SERVICE_MESH: resources("servicemeshcontrolplanes"),
        OPERATOR: operator(release),
        HOOKS: items({"metadata": {"name": "servicemesh"}, "webhooks": [hook]}),
        HOOKS.replace("validating", "mutating"): items(),
        ADMISSION: {"subsets": [{"addresses": [{"ip": "10.128.0.9"}]}]},
        "/api/v1/services": items(balancer(datetime.now(UTC), ingress=[elb])),
        "/api/v1/nodes": items(),
        "/api/v1/namespaces/kube-system": {"metadata": {"name": "kube-system", "uid": uid}},
        "POST /apis/maistra.io/v2/namespaces/default/servicemeshcontrolplanes": {"metadata": {}},
    }
    return {**answers, **more}


def looked(directory, *apis, asked=Asked(), patience=10.0):  # noqa: B008
    """Findings on mesh1's cluster, and on mesh2's where there are two."""
    with contextlib.ExitStack() as stack:
        clusters = {}
        for number, api in enumerate(apis, 1):
            name = f"mesh{number}"
            kubeconfig = stack.enter_context(api.running(directory / name, name))
            clusters[name] = Cluster(name, kubeconfig, patience=patience)
            stack.callback(clusters[name].close)
        return preflight(clusters, asked)
