"""Calls into the synchronous storage from the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """`await blocking(function, ...)` runs a function on a thread of the pool."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def __call__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result or exception.

        When the caller is cancelled, the cancellation is delayed until the function has ended: a thread
        cannot be stopped, and what comes next (closing a file, resuming an upload) must not run beside it.
        """
        job = self._executor.submit(function, *args, **kwargs)
        result = asyncio.wrap_future(job)
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            if not job.cancel():
                while not result.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([result])
                # Looked at, so that asyncio does not report it as lost: nobody is left to tell.
                if not result.cancelled():
                    result.exception()
            raise

    def submit(self, function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
        """Runs a function on a thread, without waiting for it."""
        self._executor.submit(function, *args, **kwargs)
