"""Discovery documents: what is served, in the old form and the aggregated one."""

from __future__ import annotations

from typing import Any

from lab.api.objects.registry import Kind, Registry, Version

Object = dict[str, Any]
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_SUB_VERBS = {
    "status": ["get", "patch", "update"],
    "scale": ["get", "patch", "update"],
    "log": ["get"],
    "exec": ["create", "get"],
    "portforward": ["create", "get"],
    "proxy": ["create", "delete", "get", "patch", "update"],
    "token": ["create"],
    "eviction": ["create"],
    "finalize": ["update"],
}
_SUB_KINDS = {
    "scale": ("autoscaling", "v1", "Scale"),
    "log": ("", "v1", "Pod"),
    "exec": ("", "v1", "PodExecOptions"),
    "portforward": ("", "v1", "PodPortForwardOptions"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
    "eviction": ("policy", "v1", "Eviction"),
}
REVIEWS: dict[str, list[tuple[str, str]]] = {
    "authorization.k8s.io": [
        ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        ("subjectaccessreviews", "SubjectAccessReview"),
    ],
    "authentication.k8s.io": [
        ("selfsubjectreviews", "SelfSubjectReview"),
        ("tokenreviews", "TokenReview"),
    ],
}


def _subresources(kind: Kind, version: Version) -> list[str]:
    offered = {"status": version.status, "scale": version.scale}
    return [sub for sub in kind.subresources if offered.get(sub, True)]


def groups(registry: Registry) -> dict[str, list[str]]:
    """Served groups with their versions, review kinds included, the core group under ''."""
    return {**registry.groups(), **{group: ["v1"] for group in REVIEWS}}


def api_versions(server: str) -> Object:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
    }


def _group(name: str, versions: list[str]) -> Object:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def group_list(registry: Registry) -> Object:
    found = [_group(name, versions) for name, versions in groups(registry).items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def group(registry: Registry, name: str) -> Object | None:
    versions = groups(registry).get(name)
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)} if versions else None


def resource_list(registry: Registry, group_name: str, version: str) -> Object | None:
    """APIResourceList of one group version; None where it is not served."""
    if version not in groups(registry).get(group_name, []):
        return None
    resources: list[Object] = []
    for plural, name in REVIEWS.get(group_name, []):
        resources.append({"name": plural, "singularName": "", "namespaced": False, "kind": name, "verbs": ["create"]})
    for kind in registry.kinds_of(group_name, version):
        entry: Object = {
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": kind.namespaced,
            "kind": kind.kind,
            "verbs": _VERBS,
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        resources.append(entry)
        for sub in _subresources(kind, kind.versions[version]):
            sub_entry: Object = {
                "name": f"{kind.plural}/{sub}",
                "singularName": "",
                "namespaced": kind.namespaced,
                "kind": _SUB_KINDS.get(sub, ("", "", kind.kind))[2],
                "verbs": _SUB_VERBS[sub],
            }
            if sub in _SUB_KINDS and _SUB_KINDS[sub][0]:
                sub_entry["group"], sub_entry["version"] = _SUB_KINDS[sub][:2]
            resources.append(sub_entry)
    name = f"{group_name}/{version}" if group_name else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}


def aggregated(registry: Registry, core: bool, form: str) -> Object:
    """APIGroupDiscoveryList of the core group or of all others; `form` is v2 or v2beta1."""
    items = []
    for name, versions in groups(registry).items():
        if bool(name) is core:
            continue
        described = [
            {"version": version, "freshness": "Current", "resources": _aggregated_resources(registry, name, version)}
            for version in versions
        ]
        items.append({"metadata": {"name": name} if name else {}, "versions": described})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{form}",
        "metadata": {},
        "items": items,
    }


def _aggregated_resources(registry: Registry, group_name: str, version: str) -> list[Object]:
    resources: list[Object] = []
    for plural, name in REVIEWS.get(group_name, []):
        kind_of = {"group": group_name, "version": version, "kind": name}
        resources.append(
            {
                "resource": plural,
                "responseKind": kind_of,
                "scope": "Cluster",
                "singularResource": "",
                "verbs": ["create"],
            }
        )
    for kind in registry.kinds_of(group_name, version):
        own = {"group": group_name, "version": version, "kind": kind.kind}
        entry: Object = {
            "resource": kind.plural,
            "responseKind": own,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "singularResource": kind.singular,
            "verbs": _VERBS,
        }
        if kind.short_names:
            entry["shortNames"] = list(kind.short_names)
        if kind.categories:
            entry["categories"] = list(kind.categories)
        entry["subresources"] = [
            {
                "subresource": sub,
                "responseKind": dict(zip(("group", "version", "kind"), _SUB_KINDS[sub], strict=True))
                if sub in _SUB_KINDS
                else own,
                "verbs": _SUB_VERBS[sub],
            }
            for sub in _subresources(kind, kind.versions[version])
        ]
        resources.append(entry)
    return resources
