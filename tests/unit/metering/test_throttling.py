"""Answers of the metering service: remembered for a while, never waited for for long."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from buildgrid_scheduler.core.metering import IdentityKey
from buildgrid_scheduler.metering.throttling import Throttling
from buildgrid_scheduler.outgoing.pause import Pause

from tests.farm.waiting import eventually_sync

JO: IdentityKey = ("main", "build", "bazel", "jo")
ANN: IdentityKey = ("main", "build", "bazel", "ann")
WITHIN = 20.0
Make = Callable[..., Throttling]


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Service:
    """Answers what it is set to."""

    def __init__(self) -> None:
        self.throttled = {JO}
        self.down = False
        self.asked: list[IdentityKey] = []
        self.answers = threading.Event()
        self.answers.set()
        self.reached = threading.Event()

    def ask(self, identity: IdentityKey) -> bool:
        self.asked.append(identity)
        self.reached.set()
        assert self.answers.wait(WITHIN)
        if self.down:
            raise ConnectionError("refused")
        return identity in self.throttled


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.answers.set()


@pytest.fixture
def make(service: Service, time: Time) -> Iterator[Make]:
    made: list[Throttling] = []

    def make(**options: object) -> Throttling:
        settings: dict[str, object] = {"bound": WITHIN, "clock": time, "pause": Pause(clock=time), **options}
        throttling = Throttling(service.ask, **settings)  # type: ignore[arg-type]
        throttling.start()
        made.append(throttling)
        return throttling

    yield make
    service.answers.set()
    for throttling in made:
        throttling.stop()


def test_each_client_is_asked_about_once_and_remembered(make: Make, service: Service, time: Time) -> None:
    throttling = make(fresh_for=5)
    for _ in range(3):
        assert throttling.is_throttled(JO)
        assert not throttling.is_throttled(ANN)
        time.now += 1
    assert service.asked == [JO, ANN]


def test_a_stale_answer_counts_while_a_newer_one_is_asked_for(
    make: Make, service: Service, time: Time
) -> None:
    throttling = make(fresh_for=5, stale_for=60)
    assert throttling.is_throttled(JO)
    service.throttled.clear()
    service.answers.clear()
    time.now += 6
    assert throttling.is_throttled(JO)
    assert throttling.is_throttled(JO)
    service.answers.set()
    eventually_sync(lambda: throttling.known(JO) is False, WITHIN, lambda: str(service.asked))
    assert service.asked == [JO, JO]


def test_an_old_answer_does_not_count(make: Make, service: Service, time: Time) -> None:
    throttling = make(fresh_for=5, stale_for=60)
    assert throttling.is_throttled(JO)
    service.throttled.clear()
    time.now += 61
    assert not throttling.is_throttled(JO)


def test_without_remembering_each_action_is_asked_about(make: Make, service: Service) -> None:
    throttling = make(fresh_for=0)
    assert throttling.is_throttled(JO)
    service.throttled.clear()
    assert not throttling.is_throttled(JO)


def test_many_actions_of_a_client_at_once_ask_once(make: Make, service: Service) -> None:
    throttling = make()
    service.answers.clear()

    async def all_of_them() -> list[bool]:
        waiting = [asyncio.ensure_future(throttling.is_throttled_async(JO)) for _ in range(10)]
        await asyncio.to_thread(service.reached.wait, WITHIN)
        service.answers.set()
        return await asyncio.gather(*waiting)

    assert asyncio.run(all_of_them()) == [True] * 10
    assert service.asked == [JO]


def test_a_service_that_is_down_throttles_nobody_and_is_left_alone_for_a_while(
    make: Make, service: Service, time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    throttling = make(pause=Pause(failures=2, seconds=10, clock=time))
    service.down = True
    names = [("main", "build", "bazel", str(n)) for n in range(5)]
    assert not any(throttling.is_throttled(name) for name in names)
    assert service.asked == names[:2]
    # Another thread says so.
    said = "throttling: not sent: ConnectionError: refused"
    eventually_sync(lambda: said in caplog.text, 10, lambda: caplog.text)
    service.down = False
    time.now += 10
    assert throttling.is_throttled(JO)


def test_a_slow_answer_is_not_waited_for_but_counts_later(
    make: Make, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    throttling = make(bound=0.05)
    service.answers.clear()
    assert not throttling.is_throttled(JO)
    assert not asyncio.run(throttling.is_throttled_async(JO))
    assert "no answer within 0.05 s" in caplog.text
    service.answers.set()
    eventually_sync(lambda: throttling.known(JO) is True, WITHIN, lambda: str(service.asked))


def test_a_caller_that_goes_away_does_not_take_the_answer_from_others(make: Make, service: Service) -> None:
    throttling = make()
    service.answers.clear()

    async def two() -> bool:
        first = asyncio.ensure_future(throttling.is_throttled_async(JO))
        second = asyncio.ensure_future(throttling.is_throttled_async(JO))
        await asyncio.to_thread(service.reached.wait, WITHIN)
        first.cancel()
        service.answers.set()
        return await second

    assert asyncio.run(two())


def test_more_questions_than_can_wait_throttle_nobody(make: Make, service: Service) -> None:
    throttling = make(threads=1, capacity=1, bound=0.05)
    service.answers.clear()
    for number in range(4):
        assert not throttling.is_throttled(("main", "build", "bazel", str(number)))
    assert len(service.asked) == 1
    assert throttling.outbox.counts().dropped == 2
