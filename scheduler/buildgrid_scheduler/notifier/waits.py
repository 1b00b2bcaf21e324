"""Waiting for a future that belongs to somebody else."""

import asyncio
from typing import Any


async def done_within(future: "asyncio.Future[Any]", seconds: float | None = None) -> bool:
    """Wait until the future is done; False if it is not after `seconds` (None: however long it takes).

    A cancellation hits the wait, never the future. `asyncio.wait` does that for any number of them, at twice
    the cost; each call of a bot and each message of an Execute stream waits here.
    """
    if future.done():
        return True
    loop = future.get_loop()
    waiter = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = None if seconds is None else loop.call_later(seconds, wake)
    future.add_done_callback(wake)
    try:
        await waiter
    finally:
        if timer is not None:
            timer.cancel()
        future.remove_done_callback(wake)
    return future.done()
