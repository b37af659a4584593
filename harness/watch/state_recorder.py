"""Records what the objects of both meshes become, by watches, and when an API server could not be asked."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.cluster.cluster import Cluster
from harness.cluster.kinds import CONFIG_MAP, DEPLOYMENT, POD, ROUTE, SERVICE, Kind
from harness.cluster.transport import ClusterError, Forbidden, NotFound, Object, Objects
from harness.product.mesh import ENTRY_GATEWAY, MESH1, MESH2, MeshNames
from harness.product.names import ROOT_CONFIG_MAP
from harness.run.waiting import Cancelled, pause
from harness.watch.object_views import WATCHED, view
from harness.watch.timeline import Role

_BEAT = 5.0  # seconds between two questions whether an API server is there
_BEAT_PATIENCE = 3.0
_AGAIN = 5.0  # seconds until a watch that was refused is tried again
_OPTIONAL = (ROUTE, CONFIG_MAP)  # a cluster may not have them, or may not show them

Write = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Place:
    """What one watch is about: a kind in a namespace, one object of it where `name` says which."""

    names: MeshNames
    kind: Kind
    namespace: str
    name: str = ""

    def __str__(self) -> str:
        return f"{self.kind.plural} in {self.namespace}"


def places(names: MeshNames) -> list[Place]:
    """Everything that is watched in one mesh."""
    system = [Place(names, kind, names.system_namespace) for kind in WATCHED if kind != CONFIG_MAP]
    # Other ConfigMaps change every two seconds: istiods elect their leader by them.
    roots = [
        Place(names, CONFIG_MAP, names.system_namespace, name) for name in (ROOT_CONFIG_MAP, names.root_config_map)
    ]
    return [*system, *roots, *(Place(names, kind, names.app_namespace) for kind in (DEPLOYMENT, POD, SERVICE))]


def roles(clusters: Mapping[str, Cluster]) -> dict[str, dict[str, str]]:
    """What the workloads of both meshes are to the federation, by mesh and Deployment. Raises ClusterError."""
    found: dict[str, dict[str, str]] = {}
    for names in (MESH1, MESH2):
        apps = clusters[names.name].list(DEPLOYMENT, names.app_namespace)
        found[names.name] = {
            **{app["metadata"]["name"]: Role.APPLICATION.value for app in apps},
            ENTRY_GATEWAY: Role.ENTRY.value,
            names.ingress_gateway: Role.INGRESS.value,
            names.egress_gateway: Role.EGRESS.value,
            names.istiod: Role.ISTIOD.value,
        }
    return found


class Sight:
    """Whether an API server can be asked, by all who ask it. Notes a gap from its last answer to the next one."""

    def __init__(self, mesh: str, now: Callable[[], float], note: Write, told: Callable[[str], None]) -> None:
        self._mesh, self._now, self._note, self._told = mesh, now, note, told
        self._lock = threading.Lock()
        self._troubled: dict[str, str] = {}
        self._well, self._why = now(), ""

    def well(self, who: str) -> None:
        """Somebody got an answer."""
        with self._lock:
            had = self._troubled.pop(who, None)
            if had is not None and not self._troubled:
                self._end()
            if not self._troubled:
                self._well = self._now()

    def trouble(self, who: str, why: str) -> None:
        """Somebody got none."""
        with self._lock:
            if not self._troubled:
                self._why = why
                self._told(f"{self._mesh}: what changes cannot be seen: {why}")
            self._troubled[who] = why

    def over(self) -> None:
        """The watch ends: a gap that lasts until now is noted."""
        with self._lock:
            if self._troubled:
                self._end()
                self._troubled.clear()

    def _end(self) -> None:
        self._note({"from": self._well, "to": self._now(), "mesh": self._mesh, "why": self._why})
        self._told(f"{self._mesh}: what changes can be seen again")


class StateRecorder:
    """Watches both meshes from threads of its own until it is stopped.

    write: takes each state line; note: each gap; told: sentences for people; changed: each object that became
    different, for whoever follows one.
    """

    def __init__(
        self,
        clusters: Mapping[str, Cluster],
        now: Callable[[], float],
        write: Write,
        note: Write,
        told: Callable[[str], None],
        changed: Callable[[str, Kind, str], None] = lambda *_: None,
    ) -> None:
        self._clusters, self._now, self._write, self._told, self._changed = clusters, now, write, told, changed
        self._sights = {mesh: Sight(mesh, now, note, told) for mesh in clusters}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._seen: dict[Place, threading.Event] = {}

    def start(self, within: float = 30.0) -> list[str]:
        """Begins, and comes back when everything was seen once; says what was not within so many seconds."""
        for names in (MESH1, MESH2):
            cluster = self._clusters[names.name]
            self._spawn(self._beat, cluster.with_patience(_BEAT_PATIENCE), self._sights[names.name])
            for place in places(names):
                self._seen[place] = threading.Event()
                self._spawn(self._follow, cluster, place)
        unseen = [place for place, seen in self._seen.items() if not seen.wait(within)]
        return [f"{place.names.name}: {place} were not seen within {within:g} s" for place in unseen]

    def stop(self) -> None:
        self._stopping.set()
        for cluster in self._clusters.values():
            cluster.interrupt()
        for thread in self._threads:
            thread.join(timeout=5)
        for sight in self._sights.values():
            sight.over()

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True, name="states"))
        self._threads[-1].start()

    def _beat(self, cluster: Cluster, sight: Sight) -> None:
        """An API server that holds its connections open and says nothing is missed by no watch."""
        with contextlib.suppress(Cancelled):
            while True:
                try:
                    cluster.knock()
                    sight.well("beat")
                except ClusterError as error:
                    sight.trouble("beat", error.detail)
                pause(_BEAT, self._stopping)

    def _follow(self, cluster: Cluster, place: Place) -> None:
        known = _Known(place, self._now, self._write, self._changed)
        sight, who = self._sights[place.names.name], str(place)

        def seen(trouble: str) -> None:
            if trouble:
                sight.trouble(who, trouble)
            else:
                sight.well(who)
                self._seen[place].set()

        with contextlib.suppress(Cancelled):
            while not self._stopping.is_set():
                try:
                    cluster.wait(
                        f"what becomes of {place}",
                        place.kind,
                        place.namespace,
                        place.name or None,
                        until=known.look,
                        timeout=math.inf,
                        describe=lambda _: "",
                        seen=seen,
                        served=True,
                    )
                except ClusterError as error:
                    self._refused(place, error, seen)
                pause(_AGAIN, self._stopping)

    def _refused(self, place: Place, error: ClusterError, seen: Callable[[str], None]) -> None:
        if place.kind in _OPTIONAL and isinstance(error, NotFound | Forbidden):
            if not self._seen[place].is_set():
                self._told(f"{place.names.name}: {place} are not watched: {error.detail}")
            self._seen[place].set()
        else:
            seen(str(error))


class _Known:
    """The objects of one place as they were last seen; writes a line for each that differs from that."""

    def __init__(
        self, place: Place, now: Callable[[], float], write: Write, changed: Callable[[str, Kind, str], None]
    ) -> None:
        self._place, self._now, self._write, self._changed = place, now, write, changed
        self._views: dict[str, Any] = {}
        self._versions: dict[str, str] = {}
        self._first = True

    def look(self, objects: Objects) -> None:
        """Takes all objects of the place, each time that one of them has changed."""
        there = {obj["metadata"]["name"]: obj for obj in objects}
        for name in [name for name in self._views if name not in there]:
            self._became(name, None)
        for name, obj in self._fresh(there):
            self._versions[name] = obj["metadata"].get("resourceVersion", "")
            found = view(self._place.kind, obj)
            if found is not None and found != self._views.get(name):
                self._became(name, found)
        self._first = False

    def _fresh(self, there: Mapping[str, Object]) -> Iterable[tuple[str, Object]]:
        for name, obj in there.items():
            version = obj["metadata"].get("resourceVersion", "")
            if not version or version != self._versions.get(name):
                yield name, obj

    def _became(self, name: str, now: Any) -> None:
        place, was = self._place, self._views.pop(name, None)
        line = {"mesh": place.names.name, "kind": str(place.kind), "name": name, "ns": place.namespace}
        self._write({"t": self._now(), **line, "was": was, "is": now, **({"first": True} if self._first else {})})
        if now is not None:
            self._views[name] = now
        else:
            self._versions.pop(name, None)
        if not self._first:
            self._changed(place.names.name, place.kind, name)
