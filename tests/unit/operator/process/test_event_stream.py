"""What runs kopf ends when kopf does not."""

import asyncio
import threading
from datetime import timedelta

import pytest
from buildgrid_operator.process.event_stream import run_until_over

SOON = timedelta(milliseconds=10)


async def _misses(cancellations: int) -> None:
    """A task that goes on although it was cancelled, so many times."""
    for _ in range(cancellations):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    await asyncio.Event().wait()


async def _ends_as_kopf_does(ending: asyncio.Event, misses: int) -> None:
    watch = asyncio.create_task(_misses(misses))
    await asyncio.sleep(0)
    ending.set()
    watch.cancel()
    await asyncio.wait({watch})
    raise LookupError("404 page not found")


@pytest.mark.parametrize("misses", [0, 1, 3])
async def test_it_ends_although_a_watch_misses_its_cancellation(misses: int) -> None:
    ending, stop = asyncio.Event(), threading.Event()
    with pytest.raises(LookupError, match="404"):
        await run_until_over(_ends_as_kopf_does(ending, misses), ending, stop, SOON)
    assert stop.is_set()


async def test_it_ends_when_told_although_nothing_begins_to() -> None:
    ending, stop = asyncio.Event(), threading.Event()

    async def hangs() -> None:
        await asyncio.wait({asyncio.create_task(_misses(0))})

    stop.set()
    await run_until_over(hangs(), ending, stop, SOON)
    assert not ending.is_set()


async def test_it_runs_on_while_nothing_ends() -> None:
    ending, stop = asyncio.Event(), threading.Event()
    ticks: list[int] = []

    async def works() -> None:
        for number in range(5):
            await asyncio.sleep(2 * SOON.total_seconds())
            ticks.append(number)

    await run_until_over(works(), ending, stop, SOON)
    assert ticks == [0, 1, 2, 3, 4]
    assert stop.is_set()
