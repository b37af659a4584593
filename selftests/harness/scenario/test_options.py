"""Options: what counts, what is refused, and that nothing is touched before everything that is wrong is said."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from harness.product.versions import Bounds
from harness.report.evidence import collect
from harness.scenario.options import OPTIONS, REPORT_FILES, OptionErrors, empty_sources, read_settings, value_of

ROOT = Path(__file__).parents[3]
GIVE = "Give both kubeconfigs, or --federation-clusters embedded, for a lab that says nothing of any cluster"
DEFAULTS = {option.ini: option.default for option in OPTIONS}


def kubeconfig(path: Path, contexts: tuple[str, ...] = ("admin",), current: str = "admin") -> Path:
    content = {
        "kind": "Config",
        "apiVersion": "v1",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in contexts],
        "current-context": current,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def problems(given: tuple[str, ...] = (), **values: object) -> list[str]:
    with pytest.raises(OptionErrors) as caught:
        read_settings(DEFAULTS | {name: str(value) for name, value in values.items()}, given)
    return caught.value.problems


def pytest_run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MESH", "PYTEST"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, env=clean | environment, capture_output=True, text=True, check=False)


def test_no_options_mean_the_embedded_lab():
    settings = read_settings(DEFAULTS)
    assert (settings.clusters, settings.kubeconfigs, settings.keep) == ("embedded", None, "never")
    assert settings.split.weights == (50, 50)


def test_more_than_one_istiod_is_refused_where_only_one_of_them_federates():
    for version in ("", "v2.1"):
        (problem,) = problems(istiods=2, ossm_version=version)
        assert problem.startswith("--istiods 2: of several istiods of v2.1 only the one that leads federates")
    assert read_settings(DEFAULTS | {"istiods": "2", "ossm_version": "v2.2"}).istiods == 2


def test_waits_are_capped_only_where_that_is_asked_for():
    assert read_settings(DEFAULTS).settle is None
    assert read_settings(DEFAULTS | {"federation_settle": "2.5"}).settle == 2.5
    assert "from 0 to 3600" in problems(federation_settle="soon")[0]


def test_a_cap_shortens_what_follows_by_itself_and_no_installation():
    bounds = Bounds()
    capped = bounds.settled_within(5)
    assert (capped.page, capped.connect, capped.programmed) == (5, 5, 5)
    assert (capped.control_plane, capped.workloads, capped.sync_age) == (
        bounds.control_plane,
        bounds.workloads,
        bounds.sync_age,
    )
    assert bounds.settled_within(3600).page == bounds.page
    assert bounds.settled_within(None) == bounds


def test_two_kubeconfigs_mean_those_clusters(tmp_path):
    file = kubeconfig(tmp_path / "k")
    settings = read_settings(DEFAULTS | {"mesh1_kubeconfig": str(file), "mesh2_kubeconfig": str(file)})
    assert (settings.clusters, settings.kubeconfigs) == ("kubeconfig", (file, file))


def test_the_lab_asked_for_by_name_outranks_kubeconfigs_of_the_environment(tmp_path):
    file = str(kubeconfig(tmp_path / "k"))
    values = {"mesh1_kubeconfig": file, "mesh2_kubeconfig": file, "federation_clusters": "embedded"}
    assert read_settings(DEFAULTS | values).kubeconfigs is None
    assert "leaves no room" in problems(("mesh1_kubeconfig",), **values)[0]


def test_command_line_outranks_ini_file_outranks_environment():
    option = next(option for option in OPTIONS if option.flag == "--mesh1-kubeconfig")
    environment = {"MESH1_KUBECONFIG": "environment"}
    assert value_of(option, "flag", "ini", environment) == ("flag", True)
    assert value_of(option, None, "ini", environment) == ("ini", True)
    assert value_of(option, None, None, environment) == ("environment", False)
    assert value_of(option, None, None, {}) == ("", False)


def test_one_kubeconfig_alone_is_refused(tmp_path):
    found = problems(mesh2_kubeconfig=kubeconfig(tmp_path / "k"))
    assert len(found) == 1
    assert found[0].startswith("--mesh1-kubeconfig: missing")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(None, "no such file"), ("a: [", "not YAML"), ("kind: Pod", "not a kubeconfig"), ("", "not a kubeconfig")],
)
def test_a_file_that_is_no_kubeconfig_is_refused(tmp_path, content, sentence):
    file = tmp_path / "k"
    if content is not None:
        file.write_text(content)
    assert sentence in problems(mesh1_kubeconfig=file, mesh2_kubeconfig=kubeconfig(tmp_path / "good"))[0]


def test_an_unknown_context_is_refused_with_those_that_exist(tmp_path):
    file = kubeconfig(tmp_path / "k", ("east", "west"), "east")
    found = problems(mesh1_kubeconfig=file, mesh2_kubeconfig=file, mesh2_context="north")
    assert found == [f"--mesh2-context north: is not in {file}, which has east, west"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, "needs --mesh1-kubeconfig and --mesh2-kubeconfig; the embedded lab is made for the run"),
        ({"federation_clusters": "embedded"}, "the embedded lab is made for the run"),
        ({"federation_clusters": "kind", "kind_bootstrap": "lab/crds"}, "a pair of kind clusters is made for the run"),
    ],
)
def test_contexts_need_kubeconfigs_to_be_in(more, reason):
    found = problems(mesh1_context="east", mesh2_context="west", **more)
    assert [line.partition(": ")[0] for line in found] == ["--mesh1-context east", "--mesh2-context west"]
    assert all(reason in line for line in found)


def test_a_context_beside_no_clusters_at_all_is_no_second_problem():
    (problem,) = problems(mesh1_context="east", federation_clusters="kubeconfig")
    assert problem.startswith("--federation-clusters kubeconfig: needs --mesh1-kubeconfig")


def test_pytest_refuses_a_context_without_kubeconfigs_with_all_else_that_is_wrong():
    done = pytest_run("--mesh1-context", "east", "--split-weights=1/2", "tests/test_install.py")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "--mesh1-context east: needs --mesh1-kubeconfig" in done.stderr
    assert "--split-weights 1/2" in done.stderr


def test_a_kubeconfig_without_current_context_needs_a_choice(tmp_path):
    file = kubeconfig(tmp_path / "k", ("east",), "")
    assert "--mesh1-context: east" in problems(mesh1_kubeconfig=file, mesh2_kubeconfig=file, mesh2_context="east")[0]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("federation_keep", "sometimes"),
        ("federation_clusters", "cloud"),
        ("federation_clusters", "kind"),
        ("ossm_version", "v3.0"),
        ("split_weights", "60/60"),
        ("split_weights", "half"),
        ("split_margin", "0"),
        ("split_alpha", "many"),
        ("split_beta", "1"),
        ("split_concurrency", "1.5"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_its_option(option, value):
    found = problems(**{option: value})
    assert len(found) == 1
    assert found[0].startswith(f"--{option.replace('_', '-')}")


def test_pytest_names_every_problem_at_once_and_exits_4(tmp_path):
    arguments = [f"--mesh1-kubeconfig={tmp_path}/none", "--split-weights=1/2", "--federation-keep=x", "tests"]
    done = pytest_run(*arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    for option in ("--mesh1-kubeconfig", "--mesh2-kubeconfig", "--split-weights", "--federation-keep"):
        assert option in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_pytest_names_both_unreachable_clusters_before_the_first_test(tmp_path):
    file = kubeconfig(tmp_path / "k")
    done = pytest_run("tests/test_install.py", MESH1_KUBECONFIG=str(file), MESH2_KUBECONFIG=str(file))
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "mesh1: " in done.stderr
    assert "mesh2: " in done.stderr
    assert "https://127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_collecting_needs_no_cluster(tmp_path):
    file = str(kubeconfig(tmp_path / "k"))
    done = pytest_run("--collect-only", "-q", "tests", MESH1_KUBECONFIG=file, MESH2_KUBECONFIG=file)
    assert done.returncode == 0, done.stderr
    assert "test_install.py" in done.stdout


def test_a_requirement_is_selected_by_its_id():
    chosen = pytest_run("--collect-only", "-q", "-k", "FED-003", "tests")
    assert [line for line in chosen.stdout.splitlines() if "::" in line] == [
        "tests/test_federation.py::test_mesh1_exports_exactly_what_was_asked_for"
    ]


def files_below(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()}


@pytest.fixture
def earlier(tmp_path) -> Path:
    """The report directory of an earlier run that gathered evidence."""
    report = tmp_path / "report"
    collect({}, datetime.now(UTC), report / "evidence")
    for name in REPORT_FILES:
        (report / name).write_text("of the earlier run")
    return report


@pytest.mark.parametrize("flag", ["--collect-only", "--fixtures", "--fixtures-per-test", "--markers", "--setup-plan"])
def test_looking_at_the_tests_needs_no_cluster_and_leaves_an_earlier_report_alone(earlier, flag):
    before = files_below(earlier)
    done = pytest_run(
        flag, "tests", f"--federation-report={earlier}", MESH1_KUBECONFIG="/of/yesterday", MESH2_KUBECONFIG=""
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert files_below(earlier) == before


def test_a_plan_leaves_an_earlier_report_alone(earlier):
    before = files_below(earlier)
    assert pytest_run("--federation-plan", f"--federation-report={earlier}").returncode == 0
    assert files_below(earlier) == before


def test_variables_of_kubeconfigs_that_are_set_but_empty_are_refused():
    done = pytest_run("tests", MESH1_KUBECONFIG="", MESH2_KUBECONFIG=" ")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert [line.partition(": ")[::2] for line in done.stderr.splitlines() if "set but empty" in line] == [
        (f"MESH{number}_KUBECONFIG", f"is set but empty. {GIVE}") for number in (1, 2)
    ]


@pytest.mark.parametrize("option", ["mesh1_kubeconfig", "mesh2_kubeconfig", "federation_clusters"])
def test_an_option_that_should_name_the_clusters_and_is_empty_is_refused(option):
    empty = empty_sources(DEFAULTS, {option: ""}, {})
    with pytest.raises(OptionErrors, match=f"^--{option.replace('_', '-')}: is set but empty"):
        read_settings(DEFAULTS, (), empty)


def test_the_lab_asked_for_by_name_is_made_beside_empty_variables():
    values = DEFAULTS | {"federation_clusters": "embedded"}
    empty = empty_sources(values, {"federation_clusters": "embedded"}, {"MESH1_KUBECONFIG": "", "MESH2_KUBECONFIG": ""})
    assert read_settings(values, ("federation_clusters",), empty).clusters == "embedded"


def test_the_handlers_of_signals_are_as_before_after_a_run():
    code = (
        "import signal, pytest\n"
        "before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]\n"
        "pytest.main(['--collect-only', '-q', '-p', 'no:cacheprovider', 'tests'])\n"
        "assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode == 0


def test_the_help_shows_what_the_environment_says():
    done = pytest_run("--help", MESH1_KUBECONFIG="/somewhere/m1", COLUMNS="200")
    assert "$MESH1_KUBECONFIG, now /somewhere/m1" in done.stdout
    assert "$MESH2_KUBECONFIG, not set" in done.stdout
