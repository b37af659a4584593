"""Defaults and rules of the built-in kinds, as far as the lab's clients meet them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from lab.api.objects.registry import Kind
from lab.api.schema.errors import Cause, invalid_value, required

Object = dict[str, Any]
_DATA_LIMIT = 1024 * 1024


def strip_nulls(value: Any) -> None:
    """Removes null fields in place: to a typed object, null is absent."""
    if isinstance(value, dict):
        for name in [name for name, inner in value.items() if inner is None]:
            del value[name]
        for inner in value.values():
            strip_nulls(inner)
    elif isinstance(value, list):
        for inner in value:
            strip_nulls(inner)


def _defaults(target: Object, **values: Any) -> None:
    for name, value in values.items():
        target.setdefault(name, value)


def _pod_spec(spec: Object) -> None:
    _defaults(
        spec,
        restartPolicy="Always",
        dnsPolicy="ClusterFirst",
        terminationGracePeriodSeconds=30,
        schedulerName="default-scheduler",
        securityContext={},
    )
    if spec.get("serviceAccountName"):
        spec.setdefault("serviceAccount", spec["serviceAccountName"])
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        _container(container)
    for volume in spec.get("volumes") or []:
        for source in ("configMap", "secret", "downwardAPI", "projected"):
            if isinstance(volume.get(source), dict):
                volume[source].setdefault("defaultMode", 420)


def _container(container: Object) -> None:
    image = container.get("image", "")
    tag = image.rpartition("/")[2].partition(":")[2]
    always = "@" not in image and tag in ("", "latest")
    _defaults(
        container,
        imagePullPolicy="Always" if always else "IfNotPresent",
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        resources={},
    )
    for port in container.get("ports") or []:
        port.setdefault("protocol", "TCP")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if probe := container.get(name):
            _defaults(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            if "httpGet" in probe:
                _defaults(probe["httpGet"], scheme="HTTP", path="/")
    for variable in container.get("env") or []:
        if field := (variable.get("valueFrom") or {}).get("fieldRef"):
            field.setdefault("apiVersion", "v1")


def _pod(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("serviceAccountName", spec.get("serviceAccount", "default"))
    spec.setdefault("enableServiceLinks", True)
    _pod_spec(spec)
    obj.setdefault("status", {}).setdefault("phase", "Pending")
    obj["status"].setdefault("qosClass", "BestEffort")


def _deployment(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _defaults(spec, replicas=1, strategy={}, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = spec["strategy"]
    strategy.setdefault("type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _defaults(strategy.setdefault("rollingUpdate", {}), maxUnavailable="25%", maxSurge="25%")
    _pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))


def _replica_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    _pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))


def _service(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    _defaults(spec, type="ClusterIP", sessionAffinity="None")
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    for port in spec.get("ports") or []:
        port.setdefault("protocol", "TCP")
        if "port" in port:
            port.setdefault("targetPort", port["port"])
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    for name, value in (obj.pop("stringData", None) or {}).items():
        obj.setdefault("data", {})[name] = base64.b64encode(str(value).encode()).decode()


def _namespace(obj: Object) -> None:
    meta = obj["metadata"]
    meta.setdefault("labels", {})["kubernetes.io/metadata.name"] = meta["name"]
    if not meta.get("deletionTimestamp"):
        obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
    obj.setdefault("status", {}).setdefault("phase", "Active")


def _crd(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if isinstance(kind := names.get("kind"), str):
        _defaults(names, singular=kind.lower(), listKind=f"{kind}List")
    spec.setdefault("conversion", {"strategy": "None"})


def _network_policy(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if "egress" in spec else ["Ingress"]


def _role_binding(obj: Object) -> None:
    obj.setdefault("roleRef", {}).setdefault("apiGroup", "rbac.authorization.k8s.io")
    for subject in obj.get("subjects") or []:
        if subject.get("kind") in ("User", "Group"):
            subject.setdefault("apiGroup", "rbac.authorization.k8s.io")


def _webhooks(obj: Object) -> None:
    for webhook in obj.get("webhooks") or []:
        _defaults(
            webhook,
            failurePolicy="Fail",
            matchPolicy="Equivalent",
            namespaceSelector={},
            objectSelector={},
            timeoutSeconds=10,
        )
        for rule in webhook.get("rules") or []:
            rule.setdefault("scope", "*")


_DEFAULTS: dict[str, Callable[[Object], None]] = {
    "Pod": _pod,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "Service": _service,
    "Secret": _secret,
    "Namespace": _namespace,
    "CustomResourceDefinition": _crd,
    "NetworkPolicy": _network_policy,
    "RoleBinding": _role_binding,
    "ClusterRoleBinding": _role_binding,
    "MutatingWebhookConfiguration": _webhooks,
    "ValidatingWebhookConfiguration": _webhooks,
}


def defaults(obj: Object, kind: Kind) -> None:
    """Fills in what Kubernetes fills in; `obj` is changed."""
    if default := _DEFAULTS.get(kind.kind):
        default(obj)


def validate(obj: Object, old: Object | None, kind: Kind) -> list[Cause]:
    """Findings about one built-in object."""
    check = _CHECKS.get(kind.kind)
    return check(obj, old) if check else []


def _check_containers(spec: Object, path: str) -> list[Cause]:
    containers = spec.get("containers")
    if not containers:
        return [required(f"{path}.containers")]
    causes = []
    names = set()
    for index, container in enumerate(containers):
        here = f"{path}.containers[{index}]"
        name = container.get("name")
        if not name:
            causes.append(required(f"{here}.name"))
        if not container.get("image"):
            causes.append(required(f"{here}.image"))
        if name in names:
            causes.append(Cause("FieldValueDuplicate", f'Duplicate value: "{name}"', f"{here}.name"))
        names.add(name)
    return causes


def _check_pod(obj: Object, _: Object | None) -> list[Cause]:
    return _check_containers(obj["spec"], "spec")


def _check_template(obj: Object, old: Object | None) -> list[Cause]:
    spec = obj["spec"]
    selector = spec.get("selector")
    if not selector:
        return [required("spec.selector")]
    causes = _check_containers(spec["template"]["spec"], "spec.template.spec")
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if not (selector.get("matchLabels") or {}).items() <= labels.items():
        why = "`selector` does not match template `labels`"
        causes.append(invalid_value("spec.template.metadata.labels", labels, why))
    if old is not None and old["spec"].get("selector") != selector:
        causes.append(invalid_value("spec.selector", selector, "field is immutable"))
    if not isinstance(spec["replicas"], int) or spec["replicas"] < 0:
        causes.append(invalid_value("spec.replicas", spec["replicas"], "must be greater than or equal to 0"))
    return causes


def _check_service(obj: Object, old: Object | None) -> list[Cause]:
    spec = obj["spec"]
    ports = spec.get("ports") or []
    causes = []
    if not ports and spec["type"] != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(required("spec.ports"))
    names = [port.get("name") for port in ports]
    for index, port in enumerate(ports):
        here = f"spec.ports[{index}]"
        number = port.get("port")
        if not isinstance(number, int) or not 0 < number < 65536:
            causes.append(invalid_value(f"{here}.port", number, "must be between 1 and 65535, inclusive"))
        if len(ports) > 1 and not port.get("name"):
            causes.append(required(f"{here}.name"))
        elif port.get("name") and names.index(port["name"]) < index:
            causes.append(Cause("FieldValueDuplicate", f'Duplicate value: "{port["name"]}"', f"{here}.name"))
    before = (old or {}).get("spec", {})
    if before.get("clusterIP") and spec["type"] != "ExternalName" and spec.get("clusterIP") != before["clusterIP"]:
        causes.append(invalid_value("spec.clusterIPs[0]", spec.get("clusterIP"), "may not change once set"))
    return causes


def _check_config_map(obj: Object, _: Object | None) -> list[Cause]:
    data = obj.get("data") or {}
    causes = [invalid_value(f"data[{k}]", v, "must be a string") for k, v in data.items() if not isinstance(v, str)]
    if not causes and sum(len(k) + len(v) for k, v in data.items()) > _DATA_LIMIT:
        why = f"Too long: may not be more than {_DATA_LIMIT} bytes"
        causes.append(Cause("FieldValueTooLong", why, ""))
    return causes


def _check_secret(obj: Object, old: Object | None) -> list[Cause]:
    causes = []
    for name, value in (obj.get("data") or {}).items():
        try:
            base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError):
            causes.append(invalid_value(f"data[{name}]", value, "must be base64"))
    if old is not None and old.get("type") != obj.get("type"):
        causes.append(invalid_value("type", obj.get("type"), "field is immutable"))
    return causes


_CHECKS: dict[str, Callable[[Object, Object | None], list[Cause]]] = {
    "Pod": _check_pod,
    "Deployment": _check_template,
    "ReplicaSet": _check_template,
    "Service": _check_service,
    "ConfigMap": _check_config_map,
    "Secret": _check_secret,
}


def keep_allocated(new: Object, old: Object, kind: Kind) -> None:
    """Lets an update that leaves out what was allocated keep it: cluster address and node ports of a Service."""
    if kind.custom or kind.kind != "Service" or new["spec"].get("type") == "ExternalName":
        return
    spec, before = new["spec"], old["spec"]
    for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if not spec.get(name) and before.get(name):
            spec[name] = before[name]
    if spec["type"] in ("NodePort", "LoadBalancer"):
        ports = {(p.get("port"), p.get("protocol")): p.get("nodePort") for p in before.get("ports") or []}
        for port in spec.get("ports") or []:
            known = ports.get((port.get("port"), port.get("protocol")))
            if known and not port.get("nodePort"):
                port["nodePort"] = known
