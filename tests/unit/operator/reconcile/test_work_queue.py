"""The queue's tasks, on a clock that the test moves."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from buildgrid_operator.cluster.errors import ServerError, TooManyRequests
from buildgrid_operator.reconcile.key_states import Pace
from buildgrid_operator.reconcile.work_queue import DONE, GONE, Outcome, WorkQueue


class MovedClock:
    """Time passes only by `advance`."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.now + seconds, woken))
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        for due, woken in self._sleepers:
            if due <= self.now:
                woken.set()
        await settle()


async def settle() -> None:
    """Let every task go on until it waits for something."""
    for _ in range(50):
        await asyncio.sleep(0)


class Passes:
    """Passes that begin when they are asked for, and end when the test says so."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.results: dict[str, list[Outcome | Exception]] = {}
        self.held: set[str] = set()
        self.release = asyncio.Event()
        self.at_once = 0
        self.most_at_once = 0

    async def __call__(self, key: str) -> Outcome:
        self.begun.append(key)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if key in self.held:
                await self.release.wait()
        finally:
            self.at_once -= 1
        results = self.results.get(key)
        result = results.pop(0) if results else DONE
        if isinstance(result, Exception):
            raise result
        return result


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def passes() -> Passes:
    return Passes()


@pytest.fixture
async def queue(clock: MovedClock, passes: Passes) -> AsyncIterator[WorkQueue[str]]:
    queue: WorkQueue[str] = WorkQueue(
        passes, workers=3, pace=Pace(), clock=clock, sleep=clock.sleep, randomness=lambda: 0.5
    )
    running = asyncio.create_task(queue.run())
    await settle()
    yield queue
    passes.release.set()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_an_added_key_gets_a_pass(queue: WorkQueue[str], passes: Passes, clock: MovedClock) -> None:
    queue.add("a")
    await clock.advance(0.1)
    assert passes.begun == ["a"]


async def test_a_hundred_edits_in_a_second_are_few_passes(
    queue: WorkQueue[str], passes: Passes, clock: MovedClock
) -> None:
    for _ in range(100):
        queue.add("a")
        await clock.advance(0.01)
    await clock.advance(5.0)
    assert passes.begun == ["a", "a"]


async def test_keys_run_side_by_side_up_to_the_number_of_workers(
    queue: WorkQueue[str], passes: Passes, clock: MovedClock
) -> None:
    passes.held = set("abcde")
    for key in "abcde":
        queue.add(key)
    await clock.advance(0.1)
    assert passes.begun == ["a", "b", "c"]
    passes.release.set()
    await settle()
    assert passes.begun == list("abcde")
    assert passes.most_at_once == 3


async def test_a_key_never_runs_twice_at_the_same_time(
    queue: WorkQueue[str], passes: Passes, clock: MovedClock
) -> None:
    passes.held = {"a"}
    queue.add("a")
    await clock.advance(0.1)
    queue.add("a")
    await clock.advance(60.0)
    assert passes.begun == ["a"]
    passes.release.set()
    await settle()
    await clock.advance(0.1)
    assert passes.begun == ["a", "a"]


async def test_a_failed_pass_is_tried_again_and_others_go_on(
    queue: WorkQueue[str], passes: Passes, clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    passes.results = {"bad": [ServerError("etcd is gone"), ServerError("etcd is gone")]}
    queue.add("bad")
    queue.add("good")
    await clock.advance(0.1)
    assert passes.begun == ["bad", "good"]
    await clock.advance(1.0)
    assert passes.begun[2:] == ["bad"]
    await clock.advance(1.9)
    assert len(passes.begun) == 3
    await clock.advance(0.1)
    assert passes.begun[3:] == ["bad"]
    assert queue.retries == 2
    assert "the pass of bad failed: etcd is gone; again in 2.0 s" in caplog.text


async def test_a_bug_in_a_pass_is_told_with_its_trace_and_ends_nothing(
    queue: WorkQueue[str], passes: Passes, clock: MovedClock, caplog: pytest.LogCaptureFixture
) -> None:
    passes.results = {"a": [KeyError("spec")]}
    queue.add("a")
    await clock.advance(0.1)
    record = next(r for r in caplog.records if r.levelno == logging.ERROR)
    assert record.exc_info is not None
    await clock.advance(1.0)
    assert passes.begun == ["a", "a"]


async def test_the_pause_that_the_api_server_asks_for_is_kept_to(
    queue: WorkQueue[str], passes: Passes, clock: MovedClock
) -> None:
    passes.results = {"a": [TooManyRequests("busy", retry_after=timedelta(seconds=20))]}
    queue.add("a")
    await clock.advance(0.1)
    await clock.advance(19.9)
    assert passes.begun == ["a"]
    await clock.advance(0.1)
    assert passes.begun == ["a", "a"]


async def test_a_pass_may_ask_to_come_again(queue: WorkQueue[str], passes: Passes, clock: MovedClock) -> None:
    passes.results = {"a": [Outcome(again_after=timedelta(seconds=10))]}
    queue.add("a")
    await clock.advance(0.1)
    await clock.advance(9.9)
    assert passes.begun == ["a"]
    await clock.advance(0.1)
    assert passes.begun == ["a", "a"]


async def test_a_key_comes_again_for_its_resync_and_not_when_it_is_gone(
    queue: WorkQueue[str], passes: Passes, clock: MovedClock
) -> None:
    passes.results = {"gone": [GONE]}
    queue.add("kept")
    queue.add("gone")
    await clock.advance(0.1)
    await clock.advance(600.0)
    assert passes.begun == ["kept", "gone", "kept"]
    assert queue.figures().known == 1


async def test_a_key_can_be_added_for_later(queue: WorkQueue[str], passes: Passes, clock: MovedClock) -> None:
    queue.add_after("a", timedelta(seconds=3))
    await settle()
    await clock.advance(2.9)
    assert passes.begun == []
    await clock.advance(0.1)
    assert passes.begun == ["a"]


async def test_a_key_can_be_added_from_a_thread(
    queue: WorkQueue[str], passes: Passes, clock: MovedClock
) -> None:
    thread = threading.Thread(target=queue.add_from_thread, args=("a",))
    thread.start()
    thread.join()
    await settle()
    await clock.advance(0.1)
    assert passes.begun == ["a"]


async def test_before_it_runs_a_thread_is_told_so(passes: Passes) -> None:
    with pytest.raises(RuntimeError, match="does not run"):
        WorkQueue[str](passes).add_from_thread("a")


async def test_stopping_lets_passes_end_and_begins_no_new_ones(passes: Passes, clock: MovedClock) -> None:
    queue: WorkQueue[str] = WorkQueue(passes, workers=1, clock=clock, sleep=clock.sleep)
    passes.held = {"a"}
    running = asyncio.create_task(queue.run())
    queue.add("a")
    queue.add("b")
    await settle()
    await clock.advance(0.1)
    queue.stop()
    await settle()
    assert not running.done()
    passes.release.set()
    await running
    assert passes.begun == ["a"]


async def test_a_pass_that_does_not_end_in_time_is_cancelled(passes: Passes, clock: MovedClock) -> None:
    cancelled: list[str] = []

    async def handler(key: str) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(key)
            raise
        return DONE

    queue: WorkQueue[str] = WorkQueue(handler, clock=clock, sleep=clock.sleep)
    running = asyncio.create_task(queue.run(grace=timedelta(milliseconds=10)))
    queue.add("a")
    await settle()
    await clock.advance(0.1)
    queue.stop()
    await running
    assert cancelled == ["a"]


async def test_every_pass_is_observed(passes: Passes, clock: MovedClock) -> None:
    seen: list[tuple[object, float, Exception | None]] = []
    error = ServerError("etcd is gone")
    passes.results = {"bad": [error]}

    async def slow(key: str) -> Outcome:
        clock.now += 2.0
        return await passes(key)

    handler: Callable[[str], Awaitable[Outcome]] = slow
    queue: WorkQueue[str] = WorkQueue(
        handler, clock=clock, sleep=clock.sleep, observe=lambda *told: seen.append(told)
    )
    running = asyncio.create_task(queue.run())
    queue.add("good")
    queue.add("bad")
    await settle()
    await clock.advance(0.1)
    queue.stop()
    await running
    assert [(key, failure) for key, _, failure in seen] == [("good", None), ("bad", error)]
    assert [seconds for _, seconds, _ in seen] == [pytest.approx(2.0)] * 2
