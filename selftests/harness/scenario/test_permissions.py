"""What preflight asks permission for, held against what runs on the lab really ask of the API servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import NAMESPACE, POD, SERVICE, kind_of
from harness.product.mesh import MESH1, MESH2, MeshNames
from harness.scenario.manifests import scenario
from harness.scenario.preflight.permissions import Need, done_without, needs
from lab.settings import ClusterSettings
from selftests.support import asked
from selftests.support.lab import Lab, lab
from selftests.support.users import restricted

__all__ = ["lab"]
ROOT = Path(__file__).parents[3]
NAMES = {"mesh1": MESH1, "mesh2": MESH2}
# By a port-forward each request has a connection of its own to the API server: few of them will do.
QUICK = ("--split-margin", "15", "-k", "not of_90_to_10")
# Asked without need: a refusal is answered otherwise, which these runs show by being refused.
TOLERATED = {
    ("create", "selfsubjectaccessreviews", ""): "refused, permissions are not known",
    ("create", "servicemeshcontrolplanes", "default"): "refused, the operator does not check a version beforehand",
}


def tolerated(need: tuple[str, str, str]) -> bool:
    verb, resource, namespace = need
    # The audit looks everywhere where it may, else where the suite makes things.
    everywhere = verb == "list" and not namespace
    return need in TOLERATED or (
        everywhere and resource in {kind_of(obj).plural for mesh in NAMES.values() for obj in scenario(mesh)}
    )


def plain(need: Need) -> tuple[str, str, str]:
    return need.verb, need.resource, need.namespace


def allowed(names: MeshNames, there: Collection[str]) -> list[dict]:
    """Just what preflight asks for, as rules."""
    return [
        {
            "verbs": [need.verb],
            "groups": [need.group],
            "resources": [need.resource],
            "namespaces": [need.namespace or "*"],
        }
        for need in needs(names, False, there)
    ]


Result = tuple[int, str, dict[str, set[tuple[str, str, str]]]]
Run = Callable[..., Result]


@contextlib.contextmanager
def running(lab: Lab, directory: Path, there: Collection[str] = ()) -> Iterator[Run]:
    """Runs the suite as a user who may do just what preflight asks for; gives exit code, output, requests by mesh.

    there: namespaces that exist already.
    """
    with contextlib.ExitStack() as users:
        paths = {
            settings.name: users.enter_context(
                restricted(settings, directory / f"{settings.name}.yaml", allowed(NAMES[settings.name], there), "allow")
            )
            for settings in lab.clusters
        }

        def begin(*arguments: str) -> Result:
            file = directory / "asked.txt"
            file.write_text("")
            command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "selftests.support.asked"]
            command += [f"--{name}-kubeconfig={path}" for name, path in paths.items()]
            clean = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST"))}
            clean |= {"CI": "true", asked.VARIABLE: str(file), "TMPDIR": str(directory)}
            done = subprocess.run(
                [*command, *arguments],
                cwd=ROOT,
                env=clean,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            return done.returncode, done.stdout, by_mesh(lab.clusters, file)

        yield begin


@pytest.fixture
def run_of_a_tenant(lab: Lab, tmp_path: Path) -> Iterator[Run]:
    """The suite, where the namespaces are there and only the administrator makes and removes such."""
    spaces = {name: (names.system_namespace, names.app_namespace) for name, names in NAMES.items()}
    with contextlib.ExitStack() as stack:
        for settings in lab.clusters:
            admin = Cluster(settings.name, settings.kubeconfig)
            stack.callback(admin.close)
            for space in spaces[settings.name]:
                admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}})
                stack.callback(admin.delete, NAMESPACE, space)
        yield stack.enter_context(running(lab, tmp_path, [space for both in spaces.values() for space in both]))


def by_mesh(clusters: list[ClusterSettings], file: Path) -> dict[str, set[tuple[str, str, str]]]:
    servers = {settings.server.partition("://")[2]: settings.name for settings in clusters}
    found: dict[str, set[tuple[str, str, str]]] = {name: set() for name in servers.values()}
    for server, request in asked.read(file):
        found[servers[server]].add((request.verb, request.resource, request.namespace))
    return found


def unannounced(requests: dict[str, set[tuple[str, str, str]]], adopt: bool, there: Collection[str] = ()) -> list[str]:
    """What was asked of the clusters without preflight having asked whether it is allowed."""
    found = []
    for mesh, sent in requests.items():
        known = {plain(need) for need in needs(NAMES[mesh], adopt, there)}
        known |= {plain(need) for need, _ in done_without(NAMES[mesh])}
        found += [f"{mesh}: {' '.join(need)}" for need in sorted(sent - known) if not tolerated(need)]
    return found


@pytest.fixture(scope="module")
def three_runs(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """What came of a run that keeps what it made, of one that adopts it when a fault is in force, and of a sweep."""
    directory = tmp_path_factory.mktemp("runs")
    known = {f"{settings.name.upper()}_KUBECONFIG": str(settings.kubeconfig) for settings in lab.clusters}
    with running(lab, directory) as run:
        kept = run("--federation-keep", "always", "--ossm-version", "v2.1", *QUICK)
        command = [sys.executable, "-m", "lab", "fault", "split-90-10"]
        subprocess.run(command, cwd=ROOT, env=os.environ | known, check=True)
        adopting = ("tests/test_split.py", "--federation-adopt", "--federation-settle", "3")
        return [kept, run(*adopting, "--federation-report", str(directory)), run("--federation-sweep")]


def test_a_run_asks_for_nothing_that_preflight_has_not_asked_about_and_goes_on_without_the_rest(three_runs):
    (code, said, requests), *_ = three_runs
    assert code == 0, said
    assert unannounced(requests, adopt=False) == []
    assert ("patch", "servicemeshpeers", "mesh1-system") in requests["mesh1"], "nothing was traced"
    assert ("get", "pods/exec", "mesh2-bookinfo") in requests["mesh2"], "websockets were not traced"


def test_neither_do_a_run_that_adopts_and_the_diagnosis_of_what_fails_in_it(three_runs):
    _, (code, said, requests), _ = three_runs
    assert code == pytest.ExitCode.TESTS_FAILED, said
    assert "cause: ratings-split of mesh2" in said, "the diagnosis was to be traced too"
    assert "left behind: nothing" in said, said
    assert unannounced(requests, adopt=True) == []


def test_neither_does_a_sweep(three_runs):
    *_, (code, said, requests) = three_runs
    assert code == 0, said
    assert unannounced(requests, adopt=False) == []


def test_in_namespaces_that_are_there_already_a_run_needs_no_rights_to_make_or_remove_any(run_of_a_tenant):
    code, said, requests = run_of_a_tenant(*QUICK)
    assert code == 0, said
    assert "namespace mesh2-bookinfo exists and is not ours" in said
    assert "left behind: nothing; what was there before is there again" in said
    written = [request for sent in requests.values() for request in sent if request[1] == NAMESPACE.plural]
    assert {verb for verb, *_ in written} <= {"get", "list", "watch"}
    there = {name for names in NAMES.values() for name in (names.system_namespace, names.app_namespace)}
    assert unannounced(requests, adopt=False, there=there) == []


def test_a_member_roll_takes_rights_on_the_pods_of_its_members_and_only_provisioning_asks_for_them():
    for names in NAMES.values():
        (need,) = [need for need in needs(names, adopt=False) if need.verb == "update"]
        assert (need.resource, need.namespace) == ("pods", names.app_namespace)
        assert "member roll" in need.why
        assert not [need for need in needs(names, adopt=True) if need.verb == "update"]


def test_rights_on_namespaces_are_asked_for_where_one_is_to_be_made():
    def verbs(*there: str) -> set[str]:
        return {need.verb for need in needs(MESH1, False, there) if need.kind is NAMESPACE}

    reading = {"get", "list", "watch"}
    assert verbs("mesh1-system", "mesh1-bookinfo", "default") == reading
    assert verbs("mesh1-system", "default") == verbs() == reading | {"create", "patch", "delete"}


def test_what_a_run_needs_is_asked_once_and_with_adoption_nothing_is_written():
    for names in NAMES.values():
        wanted = list(needs(names, adopt=False))
        assert len(wanted) == len(set(wanted))
        assert not set(wanted) & {need for need, _ in done_without(names)}
        reading = {need for need in needs(names, adopt=True) if need.namespace != "default"}
        assert {need.verb for need in reading if need.kind is not POD} == {"get", "list", "watch"}
        assert Need("watch", SERVICE, names.system_namespace) in reading
