"""The clock of the machine that runs the suite proves nothing about the meshes."""

from __future__ import annotations

import pytest

from selftests.test_options import pytest_run


@pytest.mark.parametrize("skew", [900, -900], ids=["ahead", "behind"])
def test_a_healthy_federation_is_healthy_by_whatever_clock_it_is_looked_at(skew):
    chosen = ["tests/test_install.py", "tests/test_federation.py", "-k", "root or identity or watch"]
    done = pytest_run("-p", "selftests.support.skewed", *chosen, SKEW=str(skew))
    assert done.returncode == 0, done.stdout + done.stderr
