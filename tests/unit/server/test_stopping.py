"""The end of a server: each step is tried, whatever becomes of the others."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from buildgrid_scheduler.server.stopping import all_done, tried, tried_within

LONG = timedelta(seconds=60)
PATIENCE = 20


class Steps:
    """Records which were taken, and in which order."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def well(self, name: str) -> Callable[[], None]:
        return lambda: self.taken.append(name)

    def failing(self, name: str) -> Callable[[], None]:
        def break_down() -> None:
            self.taken.append(name)
            raise OSError(f"{name} is out of order")

        return break_down


@pytest.fixture
def steps() -> Steps:
    return Steps()


def test_a_step_that_fails_does_not_keep_the_others_from_being_taken(
    steps: Steps, caplog: pytest.LogCaptureFixture
) -> None:
    assert not tried(steps.well("a"), steps.failing("b"), None, steps.failing("c"), steps.well("d"))
    assert steps.taken == ["a", "b", "c", "d"]
    assert caplog.messages == [f"stopping: {steps.failing('x').__qualname__} failed"] * 2
    assert "OSError: b is out of order" in caplog.text
    assert "OSError: c is out of order" in caplog.text


async def test_all_steps_are_taken_in_order_off_the_loop(steps: Steps) -> None:
    threads: list[int] = []
    assert await tried_within(LONG, steps.well("a"), None, lambda: threads.append(threading.get_ident()))
    assert steps.taken == ["a"]
    assert threads != [threading.get_ident()]


async def test_a_failure_is_told_and_the_later_steps_are_taken(steps: Steps) -> None:
    assert not await tried_within(LONG, steps.failing("a"), steps.well("b"))
    assert steps.taken == ["a", "b"]


async def test_steps_that_hang_are_left_alone(steps: Steps, caplog: pytest.LogCaptureFixture) -> None:
    released, over = threading.Event(), threading.Event()

    def hang() -> None:
        assert released.wait(PATIENCE)

    assert not await tried_within(timedelta(milliseconds=50), hang, steps.well("b"), over.set)
    assert steps.taken == []
    assert "given up" in caplog.text
    released.set()
    assert await asyncio.to_thread(over.wait, PATIENCE)


async def test_a_port_that_cannot_be_closed_is_told_when_the_others_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    closed = asyncio.Event()

    async def fail() -> None:
        raise OSError("no such port")

    async def close() -> None:
        await asyncio.sleep(0)
        closed.set()

    assert not await all_done({"fleet port": fail(), "server": close()})
    assert closed.is_set()
    assert caplog.messages == ["stopping: fleet port failed"]
    assert await all_done({"server": close()})
