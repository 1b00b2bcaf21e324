"""Waiting for a condition, with a deadline and an explanation."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

_LOOK_AGAIN = 0.02  # seconds


def eventually_sync(condition: Callable[[], bool], within: float, explain: Callable[[], str]) -> None:
    """Return when `condition` holds; fail with `explain()` when it does not in time."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {explain()}")
        time.sleep(_LOOK_AGAIN)


async def eventually(
    condition: Callable[[], bool], within: float, explain: Callable[[], str] = lambda: ""
) -> None:
    """As `eventually_sync`, for a coroutine; `condition` runs on a thread."""
    deadline = time.monotonic() + within
    while not await asyncio.to_thread(condition):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {explain()}")
        await asyncio.sleep(_LOOK_AGAIN)


async def gather_within(seconds: float, *awaitables: Awaitable[Any]) -> list[Any]:
    """All results, in order; TimeoutError, and the rest cancelled, when that takes longer."""
    async with asyncio.timeout(seconds):
        return await asyncio.gather(*awaitables)
