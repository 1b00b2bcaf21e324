"""Blocking work off the event loop, in a way that clean-up can rely on."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs the function in a thread. Unlike asyncio.to_thread, a cancelled call still waits for its end.

    A thread cannot be stopped; whoever removes a directory after a cancellation must know that nobody writes
    into it any more.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await ended(work)
        raise


async def ended(work: "asyncio.Future[Any]") -> None:
    """Returns once it is done, however often the caller is cancelled meanwhile; its error is nobody's."""
    while not work.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([work])
    if not work.cancelled():
        work.exception()  # retrieved, so that asyncio does not complain; the cancellation is what counts
