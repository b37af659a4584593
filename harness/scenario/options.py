"""The options of a run: their names, defaults and meaning, and all that is wrong with them at once."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.product.topology.links import PeerName
from harness.product.versions import KNOWN, refused_istiods
from harness.scenario.meshes_file import MeshEntry, read_meshes

REPORT_FILES = ("report.yaml", "junit.xml", "index.html")
KEEP = ("never", "failure", "always")
CLUSTERS = ("kubeconfig", "embedded", "kind")
EMBEDDED_SAYS = "embedded lab, says nothing of any cluster"
_SOURCES = ("mesh1_kubeconfig", "mesh2_kubeconfig", "federation_clusters")  # where these are empty, the lab is meant


class OptionErrors(Exception):
    """What is wrong with the options: `problems`, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True)
class Option:
    """One option; its ini twin has underscores for dashes. `environment` names a variable with the default."""

    flag: str
    help: str
    default: str = ""
    environment: str = ""
    switch: bool = False
    metavar: str | None = None

    @property
    def outside(self) -> bool:
        """Whether it says where clusters and files are, or what is done with them; and not what is looked at there."""
        return self.switch or bool(self.environment) or self.metavar in ("FILE", "DIR", "NAME", "SOURCE")

    @property
    def ini(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def full_help(self) -> str:
        notes = [f"default: {self.default}"] if self.default else []
        if self.environment:
            value = os.environ.get(self.environment)
            notes.append(f"default: ${self.environment}" + (f", now {value}" if value else ", not set"))
        return self.help + (f" ({'; '.join(notes)})" if notes else "")


OPTIONS = (
    Option("--mesh1-kubeconfig", "kubeconfig of the exporting mesh's cluster", "", "MESH1_KUBECONFIG", metavar="FILE"),
    Option(
        "--mesh2-kubeconfig",
        "kubeconfig of the importing mesh's cluster; the same file twice is one cluster, none the embedded lab; with "
        "--federation-adopt one of the two is enough to judge its side",
        "",
        "MESH2_KUBECONFIG",
        metavar="FILE",
    ),
    Option("--mesh1-context", "context in mesh1's kubeconfig, if not the current one", metavar="NAME"),
    Option("--mesh2-context", "context in mesh2's kubeconfig, if not the current one", metavar="NAME"),
    Option(
        "--federation-clusters",
        "where the clusters come from: kubeconfig, embedded or kind; follows from the kubeconfigs if absent",
        metavar="SOURCE",
    ),
    Option("--federation-keep", "what stays after the run: never, failure or always", "never", metavar="WHEN"),
    Option("--federation-adopt", "verify what is installed, provision nothing", switch=True),
    Option(
        "--meshes",
        "with --federation-adopt: file of meshes to look at instead of the two kubeconfigs, a YAML list of name, "
        "kubeconfig and, where needed, context, namespace and controlPlane",
        metavar="FILE",
    ),
    Option(
        "--federation-link",
        "whom the ServiceMeshPeers of two meshes mean, where their objects do not tell or a run is to choose: "
        "MESH:PEER=MESH:PEER, a mesh by its namespace or namespace/name",
        metavar="LINK",
    ),
    Option("--federation-plan", "look at both clusters, say what would be created, and stop", switch=True),
    Option("--federation-sweep", "remove what earlier runs left behind, and stop", switch=True),
    Option(
        "--kind-bootstrap",
        "directory of manifests applied to each kind cluster first: the operator and its kinds",
        metavar="DIR",
    ),
    Option(
        "--federation-settle",
        "seconds that waits for istiod, proxies and the first page may take; what the version may need if absent",
        "",
        "FEDERATION_SETTLE",
        metavar="SECONDS",
    ),
    Option("--federation-report", "directory for report, page and evidence", metavar="DIR"),
    Option("--ossm-version", "spec.version to install, v2.1 to v2.6; the operator's newest if absent", metavar="V"),
    Option("--istiods", "pods of istiod in each mesh, 1 to 5", "1", metavar="N"),
    Option("--split-weights", "percent to mesh1's and to mesh2's ratings", "50/50", metavar="A/B"),
    Option("--split-margin", "deviation that counts as broken, in percentage points", "5", metavar="POINTS"),
    Option("--split-alpha", "chance to call a good split broken", "1e-4", metavar="P"),
    Option("--split-beta", "chance to miss a split that is off by the margin", "1e-3", metavar="P"),
    Option("--split-concurrency", "probes at the same time, 1 to 64", "8", metavar="N"),
)


@dataclass(frozen=True)
class SplitSettings:
    """weights: percent to (mesh1, mesh2), together 100; margin: percentage points; alpha, beta: probabilities."""

    weights: tuple[int, int] = (50, 50)
    margin: float = 5.0
    alpha: float = 1e-4
    beta: float = 1e-3
    concurrency: int = 8


@dataclass(frozen=True)
class Settings:
    """The options of a run, checked. kubeconfigs and contexts are those of mesh1 and mesh2, None for the lab.

    meshes: where to look for meshes, those of --meshes or of the kubeconfigs; said: (mesh, peer) that mean each other,
    both ways; settle: seconds, None for what the version may need.
    """

    clusters: str
    kubeconfigs: tuple[Path, ...] | None
    contexts: tuple[str | None, str | None]
    keep: str
    adopt: bool
    plan: bool
    sweep: bool
    meshes: tuple[MeshEntry, ...]
    said: Mapping[PeerName, PeerName]
    kind_bootstrap: Path | None
    settle: float | None
    report: Path | None
    ossm_version: str | None
    istiods: int
    split: SplitSettings

    def keeps(self, failed: bool) -> bool:
        """Whether what the run made stays; `failed`: whether a test failed."""
        return self.keep == "always" or (self.keep == "failure" and failed)

    def __str__(self) -> str:
        if self.kubeconfigs is None:
            return EMBEDDED_SAYS if self.clusters == "embedded" else f"a pair of {self.clusters} clusters"
        contexts = {entry.name: f" (context {entry.context})" if entry.context else "" for entry in self.meshes}
        return ", ".join(f"{entry.name} from {entry.kubeconfig}{contexts[entry.name]}" for entry in self.meshes)


def value_of(option: Option, flag: Any, ini: Any, environment: Mapping[str, str]) -> tuple[Any, bool]:
    """What counts: command line, ini file, environment, default; and whether it was one of the first two."""
    for given in (flag, ini):
        if given not in (None, "", False):
            return given, True
    return environment.get(option.environment, "") or option.default, False


def empty_sources(values: Mapping[str, Any], flags: Mapping[str, Any], environment: Mapping[str, str]) -> list[str]:
    """Options and variables that should name the clusters and are empty, as of a pipeline whose secret is missing.

    values: what counts, flags: what the command line says, both by ini name.
    """
    found = []
    for option in OPTIONS:
        if option.ini not in _SOURCES:
            continue
        if flags.get(option.ini) is not None and not flags[option.ini].strip():
            found.append(option.flag)
        elif not str(values.get(option.ini) or "").strip() and environment.get(option.environment) is not None:
            found.append(option.environment)
    return found


def read_settings(values: Mapping[str, Any], given: Collection[str] = (), empty: Collection[str] = ()) -> Settings:
    """Settings from option values by ini name; only local files are looked at. Raises OptionErrors.

    `given` names the options that were not left to the environment or the default, `empty` is as of empty_sources.
    """
    found = _Reader(values, given)
    found.refuse_empty(empty)
    kubeconfigs, clusters = found.sources()
    settings = Settings(
        clusters=clusters,
        kubeconfigs=kubeconfigs,
        contexts=(values.get("mesh1_context") or None, values.get("mesh2_context") or None),
        keep=found.choice("federation_keep", KEEP),
        adopt=bool(values.get("federation_adopt")),
        plan=bool(values.get("federation_plan")),
        sweep=bool(values.get("federation_sweep")),
        meshes=found.entries(kubeconfigs),
        said=found.link(),
        kind_bootstrap=found.bootstrap(clusters),
        settle=found.number("federation_settle", float, 0, 3600) if found.text("federation_settle") else None,
        report=found.report(),
        ossm_version=found.choice("ossm_version", KNOWN) or None,
        istiods=found.number("istiods", int, 1, 5),
        split=SplitSettings(
            weights=found.weights(),
            margin=found.number("split_margin", float, 0.1, 50),
            alpha=found.number("split_alpha", float, 1e-12, 0.2),
            beta=found.number("split_beta", float, 1e-12, 0.2),
            concurrency=found.number("split_concurrency", int, 1, 64),
        ),
    )
    if settings.adopt and settings.clusters == "embedded":
        found.problems.append("--federation-adopt: the embedded lab starts empty, there is nothing to adopt")
    # The embedded lab is the oldest version where none is asked for; what a given operator installs, preflight sees.
    version = settings.ossm_version or (KNOWN[0] if settings.clusters == "embedded" else "")
    if refusal := refused_istiods(version, settings.istiods):
        found.problems.append(refusal)
    if settings.sweep and settings.kubeconfigs is None:
        found.problems.append("--federation-sweep: needs --mesh1-kubeconfig and --mesh2-kubeconfig")
    if settings.sweep and settings.plan:
        found.problems.append("--federation-sweep, --federation-plan: only one of them at a time")
    if found.problems:
        raise OptionErrors(found.problems)
    return settings


def unwritable(directory: Path) -> str:
    """Why no report can be written to a directory, which need not be there yet; '' where nothing is seen."""
    there = next(place for place in (directory.absolute(), *directory.absolute().parents) if os.path.lexists(place))
    if not there.is_dir():
        return "is not a directory" if there == directory.absolute() else f"{there} is not a directory"
    if not os.access(there, os.W_OK | os.X_OK):
        return f"{there} cannot be written to"
    taken = [name for name in REPORT_FILES if (directory / name).is_dir()]
    return f"there is a directory in the way: {', '.join(taken)}" if taken else ""


class _Reader:
    """Takes values one by one and collects what is wrong with them."""

    def __init__(self, values: Mapping[str, Any], given: Collection[str]) -> None:
        self.values, self.given, self.problems = values, given, list[str]()
        self._listed: list[MeshEntry] = []

    def text(self, name: str) -> str:
        return str(self.values.get(name) or "").strip()

    def refuse(self, name: str, sentence: str) -> None:
        self.problems.append(f"--{name.replace('_', '-')} {self.text(name)}: {sentence}".replace(" :", ":"))

    def refuse_empty(self, sources: Collection[str]) -> None:
        if self.text("federation_clusters") in ("embedded", "kind"):
            sources = [source for source in sources if source.startswith("--")]  # what was asked for by name is made
        asked = "--federation-clusters embedded, for a lab that says nothing of any cluster"
        self.problems += [f"{source}: is set but empty. Give both kubeconfigs, or {asked}" for source in sources]

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        value = self.text(name)
        if value and value not in known:
            self.refuse(name, f"is none of {', '.join(known)}")
        return value

    def number(self, name: str, kind: Callable[[str], Any], low: float, high: float) -> Any:
        try:
            value = kind(self.text(name))
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            self.refuse(name, f"must be a number from {low:g} to {high:g}")
            return kind(str(int(high)))
        return value

    def weights(self) -> tuple[int, int]:
        found = re.fullmatch(r"(\d+)/(\d+)", self.text("split_weights"))
        pair = (int(found[1]), int(found[2])) if found else (-1, -1)
        if not found or sum(pair) != 100:
            self.refuse("split_weights", "must be two whole numbers that sum to 100, such as 50/50")
            return 50, 50
        return pair

    def link(self) -> dict[PeerName, PeerName]:
        """The two ends of --federation-link, each by the other."""
        value = self.text("federation_link")
        parts = [end.strip().rpartition(":") for end in value.split("=")] if value else []
        ends = [(mesh, peer) for mesh, _, peer in parts]
        if value and not (len(ends) == 2 and all(mesh and peer for mesh, peer in ends)):
            self.refuse("federation_link", "must be MESH:PEER=MESH:PEER, such as red:north=green:south")
            return {}
        if value and not self.values.get("federation_adopt"):
            self.refuse("federation_link", "is only for --federation-adopt")
        return {ends[0]: ends[1], ends[1]: ends[0]} if value else {}

    def bootstrap(self, clusters: str) -> Path | None:
        value = self.text("kind_bootstrap")
        if not value:
            if clusters == "kind":
                self.problems.append(
                    "--federation-clusters kind: needs --kind-bootstrap DIR with the manifests of the operator and its "
                    "kinds, since a new cluster has none"
                )
            return None
        if clusters != "kind":
            self.refuse("kind_bootstrap", "is only for --federation-clusters kind")
        elif not any(Path(value).glob("*.y*ml")):
            self.refuse("kind_bootstrap", "is not a directory with YAML files")
        return Path(value)

    def report(self) -> Path | None:
        value = self.text("federation_report")
        if value and (problem := unwritable(Path(value))):
            self.refuse("federation_report", problem)
        return Path(value) if value else None

    def sources(self) -> tuple[tuple[Path, ...] | None, str]:
        if self.text("meshes"):
            return self._meshes(), "kubeconfig"
        asked = self.choice("federation_clusters", CLUSTERS)
        files = [self.text("mesh1_kubeconfig"), self.text("mesh2_kubeconfig")]
        if not any(files):
            if asked == "kubeconfig":
                self.refuse("federation_clusters", "needs --mesh1-kubeconfig and --mesh2-kubeconfig")
            else:
                self._no_contexts(asked)
            return None, asked or "embedded"
        if asked in ("embedded", "kind"):
            if {"mesh1_kubeconfig", "mesh2_kubeconfig"} & set(self.given):
                self.refuse("federation_clusters", "leaves no room for --mesh1-kubeconfig and --mesh2-kubeconfig")
            self._no_contexts(asked)
            return None, asked
        alone = bool(self.values.get("federation_adopt"))  # the other cluster is often somebody else's
        for number, (mine, other) in enumerate(zip(files, reversed(files), strict=True), 1):
            if not mine and alone:
                continue
            if not mine:
                self.problems.append(
                    f"--mesh{number}-kubeconfig: missing; mesh{3 - number} has {other}. Give both (the same file twice "
                    "for one cluster), or none for the embedded lab"
                )
            else:
                self._kubeconfig(f"mesh{number}", mine)
        return tuple(Path(file) for file in files if file), "kubeconfig"

    def _meshes(self) -> tuple[Path, ...] | None:
        """The first two kubeconfigs of the file of --meshes; it stands for every other way to name clusters."""
        for name in ("mesh1_kubeconfig", "mesh2_kubeconfig", "federation_clusters", "mesh1_context", "mesh2_context"):
            if self.text(name) and name in self.given:
                self.refuse(name, "leaves no room for --meshes")
        if not self.values.get("federation_adopt"):
            self.refuse("meshes", "is only for --federation-adopt")
        self._listed, problems = read_meshes(Path(self.text("meshes")))
        for problem in problems:
            self.refuse("meshes", problem)
        return tuple(entry.kubeconfig for entry in self._listed[:2]) or None

    def entries(self, kubeconfigs: tuple[Path, ...] | None) -> tuple[MeshEntry, ...]:
        """Where to look for meshes."""
        if self._listed or not kubeconfigs:
            return tuple(self._listed)
        named = [name for name in ("mesh1", "mesh2") if self.text(f"{name}_kubeconfig")]
        contexts = [self.text(f"{name}_context") or None for name in named]
        return tuple(map(MeshEntry, named, kubeconfigs, contexts))

    def _no_contexts(self, clusters: str) -> None:
        made = f"{'a pair of kind clusters' if clusters == 'kind' else 'the embedded lab'} is made for the run"
        for name in ("mesh1_context", "mesh2_context"):
            if self.text(name):
                self.refuse(name, f"needs --mesh1-kubeconfig and --mesh2-kubeconfig; {made}")

    def _kubeconfig(self, mesh: str, file: str) -> None:
        name, context = f"{mesh}_kubeconfig", self.text(f"{mesh}_context")
        try:
            content = yaml.safe_load(Path(file).read_text())
        except FileNotFoundError:
            return self.refuse(name, "there is no such file")
        except (OSError, UnicodeDecodeError) as error:
            return self.refuse(name, f"cannot be read ({getattr(error, 'strerror', None) or 'not text'})")
        except yaml.YAMLError:
            return self.refuse(name, "is not YAML, so not a kubeconfig")
        if not isinstance(content, dict) or content.get("kind") != "Config" or not content.get("clusters"):
            return self.refuse(name, "is not a kubeconfig (kind: Config with clusters, users and contexts)")
        known = [entry.get("name") for entry in content.get("contexts") or [] if isinstance(entry, dict)]
        if context and context not in known:
            return self.refuse(f"{mesh}_context", f"is not in {file}, which has {', '.join(map(str, known)) or 'none'}")
        if not context and content.get("current-context") not in known:
            self.refuse(name, f"has no current context; choose one with --{mesh}-context: {', '.join(map(str, known))}")
        return None
