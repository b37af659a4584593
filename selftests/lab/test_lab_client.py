"""The lab's own API client on an API server that does not behave."""

from __future__ import annotations

import asyncio
import itertools

import certifi
import pytest

from lab.client import ApiClient, Informer
from lab.resources import POD
from lab.settings import ClusterSettings
from selftests.support.scripted_api import Reply, ScriptedApi

LISTED = Reply(body={"metadata": {"resourceVersion": "1"}, "items": []})
GONE = Reply(lines=[{"type": "ERROR", "object": {"code": 410, "message": "too old"}}])


@pytest.mark.parametrize("replies", [(LISTED, Reply(lines=[])), (LISTED, GONE) * 20], ids=["ends", "no version"])
def test_a_watch_that_ends_at_once_is_opened_again_after_growing_pauses(tmp_path, replies):
    api = ScriptedApi(*replies)
    with api.running(tmp_path / "kubeconfig"):
        (tmp_path / "ca.crt").symlink_to(certifi.where())
        server = f"http://127.0.0.1:{api.server.server_port}"
        asyncio.run(informed(ClusterSettings("mesh1", 16, str(tmp_path), server, "token")))
    opened = [when for when, (_, path, _) in zip(api.times, api.requests, strict=True) if "watch=" in path]
    assert len(opened) <= 7, [after - before for before, after in itertools.pairwise(opened)]


async def informed(settings: ClusterSettings) -> None:
    """An informer's first second."""
    async with ApiClient(settings, "selftest") as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Informer(client, POD, "n").run(), 1.0)
