"""Tests that are told as coroutines, each in a scene that is opened for it alone."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

Story = Callable[..., Coroutine[Any, Any, None]]


def told_in(opened: Callable[..., AbstractAsyncContextManager[Any]]) -> Callable[[Story], Callable[..., None]]:
    """Makes a test of a coroutine, whose first argument is what `opened` gives.

    Its other arguments, and those of `opened` that have no default, are fixtures by name.
    """
    asked = [name for name, each in inspect.signature(opened).parameters.items() if each.default is each.empty]

    def make(story: Story) -> Callable[..., None]:
        own = list(inspect.signature(story).parameters)[1:]

        @functools.wraps(story)
        def test(**fixtures: Any) -> None:
            async def tell() -> None:
                async with opened(**{name: fixtures[name] for name in asked}) as scene:
                    await story(scene, **{name: fixtures[name] for name in own})

            asyncio.run(tell())

        # pytest asks the signature for the fixtures, and would find the story's own.
        wanted = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in dict.fromkeys([*asked, *own])]
        test.__signature__ = inspect.Signature(wanted)  # type: ignore[attr-defined]
        return test

    return make
