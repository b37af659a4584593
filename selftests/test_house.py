"""The rules of the house that a machine can check: who imports whom, where waiting happens, how big a file gets."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("harness", "fixtures", "lab", "tests", "selftests", "benchmarks")
MAY_NOT_IMPORT = {
    "harness": {"lab", "fixtures", "tests", "pytest", "_pytest"},
    "lab": {"harness", "fixtures", "tests", "pytest", "_pytest"},
    "fixtures": {"tests", "selftests", "lab"},
    "tests": {"harness", "fixtures", "lab", "selftests"},
}
# The rooms of a package from the ground up: a room imports only rooms below it, and nobody lives on the stairs.
ROOMS = {
    "harness": ("run", "cluster", "product", "checks", "split", "scenario", "diagnosis", "watch", "report"),
    "lab.api": ("schema", "objects", "http"),
}
STAIRS = {"harness": {"__init__"}, "lab.api": {"__init__", "__main__"}}
LONGEST_FILE = 500
LONGEST_TEST = 10


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Top-level packages a module imports, TYPE_CHECKING blocks included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(package: str) -> dict[str, set[str]]:
    """Each module of a package, and the modules of that package it imports."""
    modules = {module_name(path): path for path in sources(package.replace(".", "/"))}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        ways = [(node.module or "", f"{node.module}.{alias.name}") for node in nodes for alias in node.names]
        graph[name] = {longer if longer in modules else shorter for shorter, longer in ways} & set(modules) - {name}
    return graph


def room(package: str, module: str) -> str:
    """The room a module of the package is in; '' for the package itself."""
    return module.removeprefix(package).lstrip(".").split(".")[0]


@pytest.mark.parametrize("package", ROOMS)
def test_every_module_lives_in_a_room(package):
    homes = {room(package, module_name(path)) for path in sources(package.replace(".", "/"))} - {""}
    assert homes - STAIRS[package] == set(ROOMS[package])


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_rooms_below_it(package):
    floor = {name: number for number, name in enumerate(ROOMS[package])}
    upward = {
        f"{module} imports {other}"
        for module, others in imported_modules(package).items()
        for other in others
        if floor.get(room(package, other), -1) > floor.get(room(package, module), len(floor))
    }
    assert upward == set()


@pytest.mark.parametrize("package", PACKAGES[:3])
def test_no_module_imports_itself_by_way_of_others(package):
    assert list(TopologicalSorter(imported_modules(package)).static_order())


@pytest.mark.parametrize("package", MAY_NOT_IMPORT)
def test_nobody_imports_what_is_not_theirs(package):
    wrong = {str(path.relative_to(ROOT)): imports(path) & MAY_NOT_IMPORT[package] for path in sources(package)}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_no_file_needs_a_table_of_contents():
    lengths = {path: len(path.read_text().splitlines()) for package in PACKAGES for path in sources(package)}
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > LONGEST_FILE} == {}


def test_the_suite_waits_on_events_and_never_sleeps():
    sleeping = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in ("harness", "fixtures", "tests")
        for path in sources(package)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"\btime\.sleep\(", line)
    ]
    assert sleeping == []


def test_one_module_decides_on_proxies():
    elsewhere = [
        str(path.relative_to(ROOT))
        for package in ("harness", "fixtures")
        for path in sources(package)
        if path.name != "proxies.py" and re.search(r"\brequests\.(get|request|Session)\(|urlopen", path.read_text())
    ]
    assert elsewhere == []


def test_hooks_share_one_value_and_are_wrapped_in_one_way():
    text = {path.name: path.read_text() for path in sources("fixtures")}
    assert {name: found for name, one in text.items() if (found := one.count("StashKey["))} == {"state.py": 1}
    assert [name for name, one in text.items() if "hookwrapper" in one] == []


def test_what_pytest_calls_lies_apart_from_what_tests_ask_for():
    for path in sources("fixtures"):
        functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        hooks = {node.name for node in functions if node.name.startswith("pytest_")}
        fixtures = {node.name for node in functions for mark in node.decorator_list if "fixture" in ast.unparse(mark)}
        assert not (fixtures if path.parent.name == "hooks" else hooks), path


def test_a_contract_fits_in_ten_lines():
    long = {}
    for path in sources("tests"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                lines = (node.end_lineno or node.lineno) - node.lineno
                if lines > LONGEST_TEST:
                    long[f"{path.name}::{node.name}"] = lines
    assert long == {}


def test_every_contract_has_an_id_of_its_own():
    pattern = re.compile(r'requirement\(\s*"((?:INSTALL|FED|SPLIT)-\d{3})"')
    ids = [found for path in sources("tests") for found in pattern.findall(path.read_text())]
    tests = [
        line for path in sources("tests") for line in path.read_text().splitlines() if line.startswith("def test_")
    ]
    assert len(set(ids)) == len(ids) == len(tests)
