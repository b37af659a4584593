"""Preflight on recorded answers of clusters that cannot be had here: OpenShift on AWS, bare metal, OSSM 3, Istio."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import yaml

from harness.scenario.manifests import KEPT_LABEL, OWNER, OWNER_LABEL, RUN_LABEL
from harness.scenario.ownership import lease
from harness.scenario.preflight import Asked, Finding, balanced, blocking, notes, report
from selftests.support.openshift import (
    ADMISSION,
    HOOKS,
    OPERATOR,
    SERVICE_MESH,
    balancer,
    looked,
    openshift_on_aws,
    operator,
)
from selftests.support.recorded_api import RecordedApi, items, refused


@pytest.fixture
def look(tmp_path):
    return partial(looked, tmp_path)


def text(findings):
    return "\n".join(map(str, findings))


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The API of a fresh OpenShift with the operator, and the findings on it."""
    api = RecordedApi(openshift_on_aws())
    return api, looked(tmp_path_factory.mktemp("fresh"), api, asked=Asked("v2.4"))


def test_a_fresh_openshift_with_the_operator_is_ready(fresh):
    _, findings = fresh
    assert blocking(findings) == []


@pytest.mark.parametrize(
    "expected",
    [
        "Kubernetes v1.27.6+b49f9d1, OpenShift 4.14.1",
        "release 2.4.7 and installs v2.1, v2.2, v2.3, v2.4",
        "brings them with the first control plane",
        "router-default has a1b2-3.elb.eu-central-1.amazonaws.com",
    ],
    ids=["versions", "operator", "CRDs", "load balancer"],
)
def test_what_a_fresh_openshift_has_is_told(fresh, expected):
    _, findings = fresh
    assert expected in text(findings)


def test_looking_changes_nothing(fresh):
    api, _ = fresh
    written = [line for line in api.asked if not line.startswith("GET ") and "accessreviews" not in line]
    assert all("servicemeshcontrolplanes" in line and "dryRun=All" in line for line in written), written


def test_openshift_service_mesh_3_is_named(look):
    groups = {"groups": [{"name": "sailoperator.io"}, {"name": "networking.istio.io"}]}
    answers = openshift_on_aws(**{"/apis": groups, SERVICE_MESH: refused(404, "not found")})
    (problem,) = blocking(look(RecordedApi(answers)))
    assert problem.startswith("mesh1: ")
    assert "OpenShift Service Mesh 3 (API group sailoperator.io), which knows no federation" in problem


def test_upstream_istio_is_named(look):
    groups = {"groups": [{"name": "install.istio.io"}, {"name": "networking.istio.io"}]}
    answers = openshift_on_aws(**{"/apis": groups, SERVICE_MESH: refused(404, "not found")})
    assert "has upstream Istio" in blocking(look(RecordedApi(answers)))[0]


def test_a_cluster_without_any_mesh_needs_the_operator(look):
    answers = openshift_on_aws(**{"/apis": {"groups": []}, SERVICE_MESH: refused(404, "not found")})
    assert "install the operator" in blocking(look(RecordedApi(answers)))[0]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({OPERATOR: refused(404, "no"), "/apis/apps/v1/deployments": items()}, "no Deployment istio-operator"),
        ({OPERATOR: operator(available="False")}, "istio-operator is not Available"),
        ({ADMISSION: {"subsets": [{"notReadyAddresses": [{"ip": "10.0.0.1"}]}]}}, "has no ready endpoint"),
    ],
)
def test_an_operator_that_cannot_work_stands_in_the_way(look, changed, sentence):
    (problem,) = blocking(look(RecordedApi(openshift_on_aws(**changed))))
    assert sentence in problem


@pytest.mark.parametrize(
    ("release", "sentence"),
    [
        ("2.5.1", "--ossm-version v2.1: operator 2.5.1 installs only v2.2, v2.3, v2.4, v2.5"),
        # What the table does not know, or does not refuse, is the operator's to say.
        (
            "2.9.0",
            "--ossm-version v2.1: the operator refuses it: 400 Only '[v2.2 v2.3 v2.4 v2.5]' versions are supported",
        ),
        (
            "2.1.6",
            "--ossm-version v2.1: the operator refuses it: 400 Only '[v2.2 v2.3 v2.4 v2.5]' versions are supported",
        ),
    ],
)
def test_a_version_the_operator_does_not_install_is_refused_once(look, release, sentence):
    answer = refused(400, "Only '[v2.2 v2.3 v2.4 v2.5]' versions are supported")
    path = "POST /apis/maistra.io/v2/namespaces/default/servicemeshcontrolplanes"
    findings = look(RecordedApi(openshift_on_aws(release=release, **{path: answer})), asked=Asked("v2.1"))
    (problem,) = blocking(findings)
    assert sentence in problem


@pytest.mark.parametrize("asked", [Asked(), Asked("v2.1")])
def test_an_operator_from_before_federation_stands_in_the_way(look, asked):
    answer = refused(400, "invalid Version specified; supported versions are: [v1.0 v1.1 v2.0]")
    path = "POST /apis/maistra.io/v2/namespaces/default/servicemeshcontrolplanes"
    found = operator()
    found["metadata"]["labels"] = {"maistra-version": "2.0.11"}
    (problem,) = blocking(look(RecordedApi(openshift_on_aws(**{OPERATOR: found, path: answer})), asked=asked))
    assert problem.startswith("mesh1: operator openshift-operators/istio-operator is release 2.0.11")
    assert "federation came with OpenShift Service Mesh 2.1" in problem


def test_more_istiods_than_one_stand_in_the_way_where_the_operator_installs_2_1(look):
    old, new = (RecordedApi(openshift_on_aws(release=release)) for release in ("2.1.6", "2.2.13"))
    (problem,) = blocking(look(old, asked=Asked(istiods=2)))
    assert problem.startswith("mesh1: --istiods 2: of several istiods of v2.1 only the one that leads federates")
    assert blocking(look(new, asked=Asked(istiods=2))) == []


REVIEW = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews"


def granting(problem):
    """The objects an administrator is given to apply, by kind and namespace."""
    found = yaml.safe_load_all(problem.partition("FILE holds\n")[2])
    return {(obj["kind"], obj["metadata"].get("namespace", "")): obj for obj in found}


def grants(role, group, resource):
    (verbs,) = (
        rule["verbs"] for rule in role["rules"] if rule["apiGroups"] == [group] and resource in rule["resources"]
    )
    return set(verbs)


@pytest.fixture(scope="module")
def lacking(tmp_path_factory):
    """The problems of a user who lacks something in each namespace of mesh1, one of which is there already."""

    def allows(asked):
        if asked.get("namespace") == "mesh1-bookinfo":
            return asked["resource"] != "configmaps"
        written = asked["resource"] in ("servicemeshpeers", "importedservicesets")
        return not (written and asked["verb"] in ("create", "patch")) and asked.get("subresource") != "exec"

    there = {"/api/v1/namespaces/mesh1-system": {"metadata": {"name": "mesh1-system"}}}
    there[REVIEW] = {"status": {"userInfo": {"username": "system:serviceaccount:ci:nightly"}}}
    return blocking(looked(tmp_path_factory.mktemp("lacking"), RecordedApi(openshift_on_aws(**there), allows)))


def test_missing_permissions_are_named(lacking):
    said = "\n".join(lacking)
    assert "create, patch servicemeshpeers.federation.maistra.io in namespace mesh1-system" in said
    assert "get, create pods/exec in namespace mesh1-system" in said


def test_missing_permissions_are_granted_by_one_role_for_each_namespace(lacking):
    assert set(granting(lacking[-1])) == {
        ("Role", "mesh1-system"),
        ("RoleBinding", "mesh1-system"),
        # A Role cannot be where there is no namespace yet.
        ("ClusterRole", ""),
        ("ClusterRoleBinding", ""),
    }


def test_a_role_grants_what_is_missing_and_what_else_a_run_needs_there(lacking):
    given = granting(lacking[-1])
    role, plane = given["Role", "mesh1-system"], {"get", "list", "watch", "create", "patch", "delete"}
    assert grants(role, "federation.maistra.io", "servicemeshpeers") >= {"create", "patch"}
    assert grants(role, "", "pods/exec") == {"get", "create"}
    assert grants(role, "maistra.io", "servicemeshcontrolplanes") >= plane
    assert grants(given["ClusterRole", ""], "", "configmaps") == {"list"}


def test_a_role_is_bound_to_the_user_who_lacks_it(lacking):
    given = granting(lacking[-1])
    binding = given["RoleBinding", "mesh1-system"]
    assert binding["roleRef"]["name"] == given["Role", "mesh1-system"]["metadata"]["name"]
    assert binding["subjects"][0]["name"] == "system:serviceaccount:ci:nightly"


SPACES = {f"/api/v1/namespaces/{name}": {"metadata": {"name": name}} for name in ("mesh1-system", "mesh1-bookinfo")}


def test_who_may_not_update_pods_is_told_why_the_operator_asks_that_and_gets_it_granted(look):
    api = RecordedApi(openshift_on_aws(**SPACES), lambda asked: asked["verb"] != "update")
    missing, granted = blocking(look(api))
    assert "to update pods in namespace mesh1-bookinfo (update: the operator asks that of whoever puts" in missing
    assert grants(granting(granted)["Role", "mesh1-bookinfo"], "", "pods") == {"get", "list", "watch", "update"}
    adopting = look(api, asked=Asked(adopt=True))
    assert not blocking(adopting)
    assert notes(adopting)[0].startswith("mesh1: --federation-adopt: there is no")


def test_a_user_who_may_not_make_namespaces_uses_those_that_are_there(look):
    def allows(asked):
        return asked["resource"] != "namespaces" or asked["verb"] in ("get", "list", "watch")

    assert blocking(look(RecordedApi(openshift_on_aws(**SPACES), allows))) == []
    (one,) = [path for path in SPACES if path.endswith("system")]
    problems = blocking(look(RecordedApi(openshift_on_aws(**{one: SPACES[one]}), allows)))
    assert "to create, patch, delete namespaces in the whole cluster" in problems[0]


@pytest.fixture(scope="module")
def both_lacking(tmp_path_factory):
    """By mesh, the problems of a user who may neither exec nor do anything to namespaces in either cluster."""

    def allows(asked):
        return asked.get("subresource") != "exec" and asked["resource"] != "namespaces"

    apis = (RecordedApi(openshift_on_aws(uid), allows) for uid in ("one", "two"))
    problems = blocking(looked(tmp_path_factory.mktemp("both"), *apis))
    return {mesh: [problem for problem in problems if problem.startswith(f"{mesh}: ")] for mesh in ("mesh1", "mesh2")}


def cluster_role(problems):
    """The one that the last of these problems gives."""
    (role,) = (obj for (kind, _), obj in granting(problems[-1]).items() if kind == "ClusterRole")
    return role


@pytest.mark.parametrize("mesh", ["mesh1", "mesh2"])
def test_every_missing_permission_of_both_clusters_is_in_one_message(both_lacking, mesh):
    mine = both_lacking[mesh]
    assert len(mine) == 4, mine
    assert sum("pods/exec in namespace" in problem for problem in mine) == 2
    assert sum("namespaces in the whole cluster" in problem for problem in mine) == 1


@pytest.mark.parametrize("mesh", ["mesh1", "mesh2"])
def test_every_missing_permission_of_both_clusters_is_granted(both_lacking, mesh):
    role = cluster_role(both_lacking[mesh])
    assert grants(role, "", "namespaces") == {"get", "list", "watch", "create", "patch", "delete"}
    assert grants(role, "", "pods/exec") == {"get", "create"}


def test_where_both_meshes_are_in_one_cluster_no_role_takes_the_place_of_the_other(both_lacking):
    names = [cluster_role(problems)["metadata"]["name"] for problems in both_lacking.values()]
    assert len(set(names)) == 2, names


def test_on_openshift_before_kubernetes_1_28_the_user_is_asked_for_in_its_own_way(look):
    named = {"/apis/user.openshift.io/v1/users/~": {"metadata": {"name": "jane"}}}
    answers = openshift_on_aws(**named)
    problems = blocking(look(RecordedApi(answers, lambda asked: asked["resource"] != "leases")))
    assert granting(problems[-1])["RoleBinding", "default"]["subjects"][0]["name"] == "jane"


def test_what_a_run_can_do_without_does_not_stand_in_the_way_and_its_loss_is_told(look):
    lost = ("events", "routes", "validatingwebhookconfigurations")
    findings = look(*(RecordedApi(openshift_on_aws(uid), lambda asked: asked["resource"] not in lost) for uid in "ab"))
    assert blocking(findings) == []
    said = text(findings)
    assert "mesh2: productpage is not reached by its Route: this user may not get routes.route.openshift.io" in said
    less = "mesh1: a failure is explained with less evidence: this user may not list events in namespace mesh1-system"
    assert less in said
    assert "webhooks are ready is not known beforehand" in said
    assert "permissions: all" in said


def test_a_cluster_whose_load_balancers_stay_pending_falls_back_to_nodes_or_says_what_to_do(look):
    pending = items(balancer(datetime.now(UTC) - timedelta(hours=2)))
    node = {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}}
    with_node = openshift_on_aws(**{"/api/v1/services": pending, "/api/v1/nodes": items(node)})
    findings = look(RecordedApi(with_node))
    assert blocking(findings) == []
    assert "the NodePorts of node 192.0.2.7 are used instead" in text(findings)
    assert balanced(["mesh1", "mesh2"], findings) == {"mesh2"}, "nobody need wait for an address in mesh1"
    (problem,) = blocking(look(RecordedApi(openshift_on_aws(**{"/api/v1/services": pending}))))
    assert "Install a load balancer" in problem


@pytest.mark.parametrize(("apart", "stops"), [(0, False), (30, False), (600, True)])
def test_clocks_that_are_apart_are_noticed(look, apart, stops):
    findings = look(RecordedApi(openshift_on_aws()), RecordedApi(openshift_on_aws("two"), clock=apart))
    assert ("clocks of the clusters are" in text(findings)) is (apart > 0)
    assert bool(blocking(findings)) is stops


@pytest.mark.parametrize("apart", [2, 30, 600])
@pytest.mark.parametrize("uids", ["ab", "aa"], ids=["two clusters", "one cluster"])
def test_a_clock_of_this_machine_that_is_neither_cluster_s_is_noted_and_stops_nothing(look, uids, apart):
    for sign, said in ((1, "behind"), (-1, "ahead of")):
        findings = look(*(RecordedApi(openshift_on_aws(uid), clock=sign * apart) for uid in uids))
        lines = [finding for finding in findings if "clock of this machine" in finding.text]
        assert [(line.blocking, line.note) for line in lines] == ([(False, True)] if apart > 5 else [])
        for line in lines:
            assert re.search(rf"is \d+ s {said} mesh1 and \d+ s {said} mesh2", line.text)


def test_one_cluster_is_told_by_the_uid_of_kube_system(look):
    same = look(RecordedApi(openshift_on_aws()), RecordedApi(openshift_on_aws()))
    assert "both meshes: one cluster" in text(same)
    two = look(RecordedApi(openshift_on_aws()), RecordedApi(openshift_on_aws("two")))
    assert "both meshes: two clusters" in text(two)


def named(path, name, **labels):
    namespace, _, kind = path.rpartition("/")[0].rpartition("/")
    meta = {"name": name, "labels": labels} | ({"namespace": namespace.split("/")[-1]} if kind != "namespaces" else {})
    return {path: {"metadata": meta}}


CONTROL_PLANE = f"{SERVICE_MESH}/namespaces/mesh1-system/servicemeshcontrolplanes/fed-export"


def test_names_of_others_stand_in_the_way_unless_they_are_adopted(look):
    theirs = named(CONTROL_PLANE, "fed-export")
    (problem,) = blocking(look(RecordedApi(openshift_on_aws(**theirs))))
    assert "ServiceMeshControlPlane mesh1-system/fed-export" in problem
    assert "--federation-adopt" in problem
    adopting = look(RecordedApi(openshift_on_aws(**theirs)), asked=Asked(adopt=True))
    assert blocking(adopting) == []
    (missing,) = [note for note in notes(adopting) if "--federation-adopt" in note]
    assert "ServiceMeshMemberRoll mesh1-system/default" in missing
    assert "fed-export" not in missing


def ours(run, **more):
    return named(CONTROL_PLANE, "fed-export", **{OWNER_LABEL: OWNER, RUN_LABEL: run}, **more)


def lease_of(run, seconds_ago):
    then = f"{datetime.now(UTC) - timedelta(seconds=seconds_ago):%FT%T.%fZ}"
    spec = {"holderIdentity": run, "leaseDurationSeconds": 60, "acquireTime": then, "renewTime": then}
    path = f"/apis/coordination.k8s.io/v1/namespaces/{lease.NAMESPACE}/leases/{lease.NAME}"
    return {path: {"metadata": {"annotations": {lease.HOLDER_ANNOTATION: "jane@builder, process 7"}}, "spec": spec}}


@pytest.mark.parametrize("last", [{}, lease_of("run-of-yesterday", 120)], ids=["no Lease", "expired Lease"])
def test_what_another_run_kept_stands_in_the_way_with_what_to_do_and_may_be_adopted(look, last):
    kept = openshift_on_aws(**ours("run-of-yesterday", **{KEPT_LABEL: "true"}), **last)
    (problem,) = blocking(look(RecordedApi(kept)))
    for part in ("run-of-yesterday", "were kept with --federation-keep", "--federation-adopt", "--federation-sweep"):
        assert part in problem
    adopting = look(RecordedApi(kept), asked=Asked(adopt=True))
    assert blocking(adopting) == []
    assert not any("run-of-yesterday" in note for note in notes(adopting))


def test_one_object_that_is_marked_as_kept_speaks_for_its_run(look):
    space = {OWNER_LABEL: OWNER, RUN_LABEL: "run-of-yesterday"}
    there = named("/api/v1/namespaces/mesh1-system", "mesh1-system", **space)
    there |= ours("run-of-yesterday", **{KEPT_LABEL: "true"})
    (problem,) = blocking(look(RecordedApi(openshift_on_aws(**there))))
    assert "2 objects of run run-of-yesterday" in problem


@pytest.mark.parametrize("last", [{}, lease_of("run-2", 120)], ids=["no Lease", "Lease of its dead successor"])
def test_what_no_lease_tells_of_and_nobody_kept_is_taken_over_and_not_called_kept(look, last):
    findings = look(RecordedApi(openshift_on_aws(**ours("run-1"), **last)))
    assert blocking(findings) == []
    (note,) = notes(findings)
    assert "no Lease tells of that run any more, and nothing was marked as left on purpose" in note
    assert "This run takes them over and removes them at its end" in note
    assert "kept" not in note


def test_what_a_dead_run_left_is_taken_over_and_that_is_told(look):
    findings = look(RecordedApi(openshift_on_aws(**ours("run-1"), **lease_of("run-1", 120))))
    assert blocking(findings) == []
    (note,) = notes(findings)
    for part in ("run run-1", "jane@builder, process 7", "takes them over and removes them at its end"):
        assert part in note


@pytest.mark.parametrize("maker", ["run-1", "run-0"], ids=["its own", "taken over by it"])
def test_of_a_run_that_goes_on_only_the_lease_stands_in_the_way(look, maker):
    findings = look(RecordedApi(openshift_on_aws(**ours(maker), **lease_of("run-1", 5))))
    (problem,) = blocking(findings)
    assert "run run-1 of jane@builder, process 7 uses it" in problem
    assert notes(findings) == []


def being_deleted(name):
    """A namespace that waits for a pod; another condition says that there is nothing to tell."""
    remaining = {"type": "NamespaceContentRemaining", "status": "True", "message": "pods. has 1 resource instances"}
    return {
        "metadata": {"name": name, "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {
            "phase": "Terminating",
            "conditions": [remaining, {**remaining, "status": "False", "message": "no"}],
        },
    }


@pytest.mark.parametrize("asked", [Asked(), Asked(adopt=True)], ids=["provisioning", "adopting"])
def test_a_namespace_that_is_being_deleted_stands_in_the_way_with_what_holds_it(look, asked):
    answers = openshift_on_aws(**{"/api/v1/namespaces/mesh1-system": being_deleted("mesh1-system")})
    found = blocking(look(RecordedApi(answers), asked=asked))
    assert (
        "mesh1: Namespace mesh1-system is being deleted, and is held by finalizers kubernetes; "
        "NamespaceContentRemaining: pods. has 1 resource instances. Wait until it is gone, or see to that"
    ) in found
    assert len(found) == 1


def test_a_control_plane_of_another_name_stands_in_the_way_and_it_is_said_whose_it_is(look):
    fields = [{"manager": "argocd-controller"}, {"manager": "istio-operator", "subresource": "status"}]
    plane = {"metadata": {"name": "prod", "namespace": "mesh1-system", "managedFields": fields}}
    answers = openshift_on_aws(**{f"{SERVICE_MESH}/namespaces/mesh1-system/servicemeshcontrolplanes": items(plane)})
    (problem,) = blocking(look(RecordedApi(answers)))
    assert "ServiceMeshControlPlane mesh1-system/prod (written by argocd-controller)" in problem
    assert "one in each namespace" in problem


def test_names_of_others_are_told_with_the_labels_that_say_whose_they_are(look):
    theirs = named(CONTROL_PLANE, "fed-export", **{"app.kubernetes.io/managed-by": "Helm"})
    theirs |= named("/api/v1/namespaces/mesh1-system", "mesh1-system", **{"argocd.argoproj.io/instance": "shop"})
    findings = look(RecordedApi(openshift_on_aws(**theirs)))
    (problem,) = blocking(findings)
    assert "mesh1-system/fed-export (app.kubernetes.io/managed-by=Helm)" in problem
    assert any("exists and is not ours (argocd.argoproj.io/instance=shop)" in note for note in notes(findings))


def test_good_webhooks_and_clocks_are_told_too_and_missing_webhooks_are_noted(look):
    findings = look(RecordedApi(openshift_on_aws()), RecordedApi(openshift_on_aws("two")))
    said = text(findings)
    assert "Service openshift-operators/maistra-admission-controller has 1 ready endpoint" in said
    assert "both meshes: the clocks of the clusters agree to 5 s" in said
    assert notes(findings) == []
    (note,) = notes(look(RecordedApi(openshift_on_aws(**{HOOKS: items()}))))
    assert "the operator has registered no webhook" in note
    marked = report([Finding("mesh1", "c"), Finding("mesh1", "b", note=True), Finding("mesh1", "a", True, True)])
    assert marked == ["NO  mesh1: a", "!!  mesh1: b", "ok  mesh1: c"]


def test_in_one_cluster_nobody_needs_a_load_balancer(look):
    pending = {"/api/v1/services": items(balancer(datetime.now(UTC) - timedelta(hours=2)))}
    apis = [RecordedApi(openshift_on_aws(**pending)) for _ in range(2)]
    findings = look(*apis)
    assert blocking(findings) == []
    assert "LoadBalancer" not in text(findings)
    assert len(blocking(look(apis[0], RecordedApi(openshift_on_aws("two", **pending))))) == 2


def test_a_namespace_in_another_mesh_stands_in_the_way(look):
    theirs = named("/api/v1/namespaces/mesh1-bookinfo", "mesh1-bookinfo", **{"maistra.io/member-of": "prod-mesh"})
    (problem,) = blocking(look(RecordedApi(openshift_on_aws(**theirs))))
    assert "member of the mesh in prod-mesh" in problem


def test_what_fails_on_one_cluster_does_not_hide_the_other(look):
    no = refused(401, "Unauthorized")
    expired = RecordedApi({"/version": no, "/api/v1/namespaces/kube-system": no})
    answers = openshift_on_aws("two", **{SERVICE_MESH: refused(404, "no"), "/apis": {"groups": []}})
    problems = blocking(look(expired, RecordedApi(answers)))
    assert [problem[:5] for problem in problems] == ["mesh1", "mesh2"]
    assert "oc login" in problems[0]
