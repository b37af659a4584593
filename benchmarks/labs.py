"""A running lab for a benchmark, and the clusters in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping

from fixtures.clusters import embedded_lab
from harness.cluster.cluster import Cluster
from harness.run.progress import Progress


@contextlib.contextmanager
def quiet() -> Iterator[Progress]:
    """A Progress that says nothing."""
    with open(os.devnull, "w") as nowhere:
        yield Progress(nowhere, live=False)


@contextlib.contextmanager
def lab() -> Iterator[Mapping[str, Cluster]]:
    """Both clusters of a fresh lab; it is gone when this block ends."""
    with contextlib.ExitStack() as stack:
        paths = stack.enter_context(embedded_lab(stack.enter_context(quiet())))
        found = {name: Cluster(name, path) for name, path in zip(("mesh1", "mesh2"), paths, strict=True)}
        for cluster in found.values():
            stack.callback(cluster.close)
        yield found
