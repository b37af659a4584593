"""Routes, weights and applications: both meshes know each other, and still requests fail or go astray."""

from __future__ import annotations

from lab.client import Object
from lab.faults.changes import Edit
from lab.faults.edits import control_plane, down, environment, knob, routes, template
from lab.faults.fault import CAPTURED, Fault
from lab.istiod.knobs import CLIENTS, PLAINTEXT

REMOTE = "ratings.mesh2-bookinfo.svc.mesh1-imports.local"
LOCAL = "ratings.mesh2-bookinfo.svc.cluster.local"
_SPLIT = "ratings-split"


def _route(remote: int, host: str = REMOTE, **destination: str) -> Object:
    return {
        "route": [
            {"destination": {"host": host, **destination}, "weight": remote},
            {"destination": {"host": LOCAL}, "weight": 100 - remote},
        ]
    }


def _http(*http: Object) -> Edit:
    def edit(obj: Object) -> None:
        obj["spec"]["http"] = list(http)

    return edit


def _when(header: str, pattern: str, route: Object) -> Object:
    return {"match": [{"headers": {header: {"regex": pattern}}}], **route}


def _weights(name: str, remote: int) -> Fault:
    title = f"{_SPLIT} sends {remote} % of mesh2's ratings requests to mesh1 instead of 50 %"
    return Fault(name, title, "F70", (routes(_SPLIT, _http(_route(remote))),))


def _skewed(points: int, kept: str) -> Fault:
    """`kept` matches the ids of the requests whose picks are left alone; the others all stay in mesh2."""
    edit = _http(_when("x-request-id", kept, _route(50)), _route(0))
    title = f"the weights say 50 %, yet mesh1 gets about {50 - points} %: some requests take a route of their own"
    return Fault(f"skewed-by-{points}", title, "F67, F71", (routes(_SPLIT, edit),))


_PINNED = _http(
    _when("user-agent", r".*[0-3]\d", _route(50)), _when("user-agent", r".*[4-6]\d", _route(100)), _route(0)
)


def faults() -> list[Fault]:
    """The faults of this module."""
    unmeshed: Object = {"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}}
    nowhere = "mongodb://mongodb:27018/test"
    return [
        _weights("split-60-40", 60),
        _weights("split-70-30", 70),
        _weights("split-90-10", 90),
        _weights("split-all-remote", 100),
        _weights("split-all-local", 0),
        _skewed(10, "([0-9a-b].|c[0-9a-c]).*"),
        _skewed(20, "([0-8].|9[0-9]).*"),
        Fault(
            "pinned-picks",
            "picks are not independent: runs of 30 consecutive probes go to the same mesh",
            "F70",
            (routes(_SPLIT, _PINNED),),
        ),
        Fault(
            "split-unknown-host",
            "half of mesh2's ratings requests are sent to a host that does not exist",
            CAPTURED,
            (routes(_SPLIT, _http(_route(50, host="ratings.mesh2-bookinfo.svc.mesh1-import.local"))),),
        ),
        Fault(
            "split-missing-subset",
            "half of mesh2's ratings requests are sent to a subset that no DestinationRule defines",
            "F68, product 27",
            (routes(_SPLIT, _http(_route(50, subset="v9"))),),
        ),
        Fault(
            "mongo-route-missing",
            "mesh2's ratings v2 has no route to mesh1's mongodb",
            CAPTURED,
            (routes("mongodb-remote", None),),
        ),
        Fault(
            "ratings-down-export",
            "mesh1's ratings have no pod",
            "F78, product 30",
            (down("mesh1", "ratings-v1", app=True), down("mesh1", "ratings-v2", app=True)),
        ),
        Fault(
            "ratings-down-import",
            "mesh2's ratings have no pod, so only what mesh1 serves succeeds",
            "F78",
            (down("mesh2", "ratings-v1", app=True), down("mesh2", "ratings-v2", app=True)),
        ),
        Fault(
            "mongodb-down-export",
            "mesh1's mongodb has no pod, so ratings v2 fails in both meshes",
            "F80",
            (down("mesh1", "mongodb-v1", app=True),),
        ),
        Fault(
            "ratings-half-failing-export",
            "half of mesh1's ratings answer 500: v2 asks its database on the wrong port",
            "F80",
            (environment("mesh1", "ratings-v2", "ratings", "MONGO_DB_URL", nowhere),),
        ),
        Fault(
            "ratings-half-failing-import",
            "half of mesh2's ratings answer 500: v2 asks its database on the wrong port",
            "F80",
            (environment("mesh2", "ratings-v2", "ratings", "MONGO_DB_URL", nowhere),),
        ),
        Fault(
            "sidecars-missing-export",
            "mesh1's ratings run without sidecars",
            "F08, F74, product 31",
            (template("mesh1", "ratings-v1", unmeshed), template("mesh1", "ratings-v2", unmeshed)),
        ),
        Fault(
            "sidecars-missing-import",
            "mesh2's reviews run without a sidecar, so nothing splits their ratings requests",
            "F08, product 34",
            (template("mesh2", "reviews-v3", unmeshed),),
        ),
        Fault(
            "access-log-off-export",
            "mesh1's proxies keep no access log",
            "F85",
            (control_plane("mesh1", {"proxy": {"accessLogging": {"file": None}}}),),
        ),
        Fault(
            "access-log-off-import",
            "mesh2's proxies keep no access log",
            "F85",
            (control_plane("mesh2", {"proxy": {"accessLogging": {"file": None}}}),),
        ),
        Fault(
            "plaintext-at-ingress",
            "mesh1's federation ingress also serves clients that speak no TLS",
            "F24",
            (knob("mesh1", PLAINTEXT, "accepted"),),
        ),
        Fault(
            "foreign-client-accepted",
            "mesh1's federation ingress asks no client for a certificate",
            "F24",
            (knob("mesh1", CLIENTS, "any"),),
        ),
    ]
