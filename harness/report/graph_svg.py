"""The traffic of one measured split as a service graph: both meshes as boxes, calls as arrows with their counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.report.markup import element

_COLUMN, _ROW = 198, 84
_NODE_WIDTH, _NODE_HEIGHT = 148, 44
_LEFT, _TOP, _PAD = 6, 44, 20
_BOTTOM = 12
_THICKEST = 6.0

Json = dict[str, Any]
NodeKey = tuple[str, str]


@dataclass(frozen=True)
class _Place:
    x: float
    y: float


def layout(edges: list[Json]) -> dict[NodeKey, tuple[int, int]]:
    """(column, row) of every node, from left to right along the calls; what goes to the other mesh is below."""
    columns: dict[NodeKey, int] = {}
    for edge in edges:  # in order of the path, so a source is placed before its targets
        source, target = key(edge["from"]), key(edge["to"])
        columns.setdefault(source, 0)
        columns[target] = max(columns.get(target, 0), columns[source] + 1)
    home = _home(edges)
    # The last workload at home stands beside the gateways that lead away from it.
    last = max((column for (mesh, _), column in columns.items() if mesh in ("", home)), default=0)
    places: dict[NodeKey, tuple[int, int]] = {}
    taken: dict[int, int] = {}
    for node, column in sorted(columns.items(), key=lambda item: (item[1], _leads_away(item[0], edges), item[0])):
        mesh = node[0]
        column = min(column, last) if mesh in ("", home) else column
        row = taken.get(column, 0)
        taken[column] = row + 1
        places[node] = column, row
    return places


def key(node: Json) -> NodeKey:
    return node["mesh"], node["name"]


def _home(edges: list[Json]) -> str:
    """The mesh the client calls."""
    return next((edge["to"]["mesh"] for edge in edges if not edge["from"]["mesh"]), "")


def _leads_away(node: NodeKey, edges: list[Json]) -> bool:
    return any(key(edge["from"]) == node and edge["to"]["mesh"] not in ("", node[0]) for edge in edges)


def service_graph(edges: list[Json], title: str) -> Markup:
    """SVG of edges as in the report's `split[].traffic`; '' without edges."""
    if not edges:
        return Markup("")
    grid = layout(edges)
    rows = max(row for _, row in grid.values()) + 1
    places = {node: _place(column, row, _rows_of(grid, column), rows) for node, (column, row) in grid.items()}
    width = max(place.x for place in places.values()) + _NODE_WIDTH + _LEFT + _PAD
    height = _TOP + rows * _ROW + _BOTTOM
    most = max(edge["requests"] for edge in edges)
    return element(
        "svg",
        element("title", title),
        element("desc", "; ".join(_sentence(edge) for edge in edges)),
        [_mesh_box(mesh, places, height) for mesh in sorted({mesh for mesh, _ in places if mesh})],
        [_edge(edge, places, most) for edge in edges],
        [_counts(edge, places, most) for edge in edges],  # above the lines of other edges
        [_node(node, place, edges) for node, place in places.items()],
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        class_="graph",
        role="img",
        style=f"min-width:{width * 0.72:.0f}px",
    )


def _rows_of(grid: dict[NodeKey, tuple[int, int]], column: int) -> int:
    return sum(1 for other, _ in grid.values() if other == column)


def _place(column: int, row: int, rows_here: int, rows: int) -> _Place:
    offset = (rows - rows_here) / 2
    return _Place(_LEFT + column * _COLUMN, _TOP + (row + offset) * _ROW + (_ROW - _NODE_HEIGHT) / 2)


def _mesh_box(mesh: str, places: dict[NodeKey, _Place], height: float) -> Markup:
    xs = [place.x for (owner, _), place in places.items() if owner == mesh]
    left, right = min(xs) - 14, max(xs) + _NODE_WIDTH + 14
    return element(
        "g",
        element("rect", x=left, y=8, width=right - left, height=height - 16, rx=10, class_=f"mesh {mesh}"),
        element("text", mesh, x=left + 14, y=32, class_=f"mesh-name {mesh}"),
    )


def _node(node: NodeKey, place: _Place, edges: list[Json]) -> Markup:
    mesh, name = node
    inbound = [edge for edge in edges if key(edge["to"]) == node]
    received, failed = sum(edge["requests"] for edge in inbound), sum(edge["failed"] for edge in inbound)
    under = f"{received} requests" if inbound else "probes"
    return element(
        "g",
        element(
            "rect",
            element("title", f"{mesh} {name}: {under}, {failed} failed"),
            x=place.x,
            y=place.y,
            width=_NODE_WIDTH,
            height=_NODE_HEIGHT,
            rx=6,
            class_=f"node {'bad' if failed else ''} {mesh or 'client'}",
        ),
        element("text", _short(name), x=place.x + _NODE_WIDTH / 2, y=place.y + 19, class_="node-name"),
        element("text", under, x=place.x + _NODE_WIDTH / 2, y=place.y + 34, class_="node-count"),
    )


def _short(name: str) -> str:
    return name if len(name) <= 21 else name[:20] + "…"


def _edge(edge: Json, places: dict[NodeKey, _Place], most: int) -> Markup:
    (x1, y1), (x2, y2) = _ends(edge, places)
    bend = (x1 + x2) / 2
    failed = edge["failed"]
    kind = "edge" if not failed else ("edge bad" if failed == edge["requests"] else "edge partly")
    return element(
        "g",
        element("title", _sentence(edge)),
        element(
            "path",
            d=f"M{x1:.1f},{y1:.1f} C{bend:.1f},{y1:.1f} {bend:.1f},{y2:.1f} {x2:.1f},{y2:.1f}",
            class_=kind,
            style=f"stroke-width:{_thickness(edge, most):.1f}",
        ),
        element("path", d=f"M{x2 - 1:.1f},{y2 - 5:.1f} l8,5 l-8,5 z", class_=f"{kind} head"),
    )


def _counts(edge: Json, places: dict[NodeKey, _Place], most: int) -> list[Markup]:
    """At the end that no other edge shares, on the side the curve does not come from."""
    (_, y1), (x2, y2) = _ends(edge, places)
    half = _thickness(edge, most) / 2
    above, below = y2 - 6 - half, y2 + 15 + half
    if abs(y1 - y2) < 1:
        count_y, failed_y = above, below
    else:
        count_y, failed_y = (below, below + 14) if y2 > y1 else (above, above - 14)
    count = element("text", edge["requests"], x=x2 - 8, y=count_y, class_="label end")
    failed = edge["failed"]
    return [count, element("text", f"{failed} ✗", x=x2 - 8, y=failed_y, class_="label end bad")] if failed else [count]


def _ends(edge: Json, places: dict[NodeKey, _Place]) -> tuple[tuple[float, float], tuple[float, float]]:
    source, target = places[key(edge["from"])], places[key(edge["to"])]
    return (source.x + _NODE_WIDTH, source.y + _NODE_HEIGHT / 2), (target.x - 7, target.y + _NODE_HEIGHT / 2)


def _thickness(edge: Json, most: int) -> float:
    return 1.2 + (_THICKEST - 1.2) * edge["requests"] / most


def _sentence(edge: Json) -> str:
    names = [f"{edge[end]['mesh']} {edge[end]['name']}".strip() for end in ("from", "to")]
    return f"{names[0]} to {names[1]}: {edge['requests']} requests, {edge['failed']} failed"
