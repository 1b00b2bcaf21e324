import asyncio

import pytest
from buildgrid_scheduler.notifier.waits import done_within


async def test_a_future_that_is_done_is_not_waited_for() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_result(1)
    assert await done_within(future, 0)


async def test_a_future_that_gets_done_ends_the_wait() -> None:
    loop = asyncio.get_running_loop()
    for seconds in (None, 60.0):
        future: asyncio.Future[int] = loop.create_future()
        loop.call_soon(future.set_result, 1)
        async with asyncio.timeout(10):
            assert await done_within(future, seconds)


async def test_the_end_of_the_time_leaves_the_future_as_it_is() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    assert not await done_within(future, 0.01)
    assert not future.done()


async def test_a_failed_future_is_done() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.set_exception(ValueError("as expected"))
    assert await done_within(future, 1)
    with pytest.raises(ValueError, match="as expected"):
        future.result()


async def test_a_cancellation_hits_the_wait_alone() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(done_within(future, 60))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not future.done()
    future.set_result(1)  # nobody is woken, and nothing complains
    assert await done_within(future)
