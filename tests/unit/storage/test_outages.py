"""What is waited for, for how long, and what is told in the end."""

import threading
from collections.abc import Callable
from datetime import timedelta

import grpc
import pytest
from buildgrid_scheduler.core.errors import (
    DataLoss,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    SchedulerError,
    Unavailable,
)
from buildgrid_scheduler.storage.outages import CallFailed, Outages

AWAY = CallFailed(grpc.StatusCode.UNAVAILABLE, "connection refused")


class Time:
    """Waiting takes no time, but the clock believes that it does."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []
        self.before_pause: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return self.now

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.before_pause()
        self.now += seconds
        return event.is_set()


class Call:
    """Fails as told, then answers."""

    def __init__(self, *failures: CallFailed, takes: float = 0.0, time: Time | None = None) -> None:
        self.failures = list(failures)
        self.tries = 0
        self._takes = takes
        self._time = time

    def __call__(self) -> str:
        self.tries += 1
        if self._time is not None:
            self._time.now += self._takes
        if self.failures:
            raise self.failures.pop(0)
        return "answer"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def outages(time: Time) -> Outages:
    return Outages("the store", timedelta(minutes=5), clock=time.clock, rand=lambda: 1.0, wait=time.wait)


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    ],
)
def test_an_outage_is_waited_out(outages: Outages, time: Time, code: grpc.StatusCode) -> None:
    call = Call(*[CallFailed(code, "away")] * 40)
    assert outages.retrying("read", call) == "answer"
    assert call.tries == 41
    assert time.pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert max(time.pauses) == 5.0


def test_an_outage_beyond_the_tolerance_is_told_with_its_length(outages: Outages, time: Time) -> None:
    with pytest.raises(
        Unavailable, match="cannot read in the store: UNAVAILABLE: connection refused; away for 300 s"
    ):
        outages.retrying("read", Call(*[AWAY] * 1000))
    assert time.now == pytest.approx(1300, abs=1)


def test_a_call_that_comes_late_in_an_outage_waits_for_what_is_left(outages: Outages, time: Time) -> None:
    with pytest.raises(Unavailable):
        outages.retrying("read", Call(*[AWAY] * 1000))
    call = Call(*[AWAY] * 1000)
    with pytest.raises(Unavailable):
        outages.retrying("read", call)
    assert call.tries == 1, "the outage is as long for the second as for the first"
    assert outages.retrying("read", Call()) == "answer"
    call = Call(*[AWAY] * 10)
    assert outages.retrying("read", call) == "answer", "an answer ends the outage"


def test_what_nobody_has_looked_at_for_long_is_a_new_outage(outages: Outages, time: Time) -> None:
    with pytest.raises(Unavailable):
        outages.retrying("read", Call(*[AWAY] * 1000))
    time.now += 3600
    assert outages.retrying("read", Call(*[AWAY] * 10)) == "answer"


def test_calls_that_hang_until_their_deadline_are_one_outage(outages: Outages, time: Time) -> None:
    slow = CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, "slow")
    with pytest.raises(Unavailable):
        outages.retrying("read", Call(*[slow] * 1000, takes=60, time=time))
    call = Call(*[slow] * 1000, takes=60, time=time)
    with pytest.raises(Unavailable):
        outages.retrying("read", call)
    assert call.tries == 1


def test_one_call_that_fails_among_others_that_succeed_ends_too(outages: Outages, time: Time) -> None:
    time.before_pause = lambda: outages.attempts("write").succeeded()
    with pytest.raises(Unavailable):
        outages.retrying("read", Call(*[AWAY] * 1000))
    assert time.now == pytest.approx(1300, abs=1)


def test_a_tolerance_of_its_own_replaces_the_storages(outages: Outages, time: Time) -> None:
    with pytest.raises(Unavailable, match="10 s are tolerated"):
        outages.retrying("read", Call(*[AWAY] * 1000), tolerance=timedelta(seconds=10))
    assert time.now == pytest.approx(1010, abs=1)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.INTERNAL, SchedulerError),
        (grpc.StatusCode.UNKNOWN, SchedulerError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ResourceExhausted),
        (grpc.StatusCode.UNAUTHENTICATED, PermissionDenied),
        (grpc.StatusCode.DATA_LOSS, DataLoss),
    ],
)
def test_doubtful_failures_get_three_tries(
    outages: Outages, time: Time, code: grpc.StatusCode, error: type[SchedulerError]
) -> None:
    assert outages.retrying("read", Call(*[CallFailed(code, "no")] * 2)) == "answer"
    call = Call(*[CallFailed(code, "no")] * 1000)
    with pytest.raises(error) as caught:
        outages.retrying("read", call)
    assert type(caught.value) is error
    assert call.tries == 3
    assert time.now < 1002


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, PermissionDenied),
        (grpc.StatusCode.NOT_FOUND, NotFound),
        (grpc.StatusCode.OUT_OF_RANGE, OutOfRange),
        (grpc.StatusCode.INVALID_ARGUMENT, SchedulerError),
        (grpc.StatusCode.FAILED_PRECONDITION, SchedulerError),
        (grpc.StatusCode.UNIMPLEMENTED, SchedulerError),
    ],
)
def test_clear_failures_are_told_at_once(
    outages: Outages, time: Time, code: grpc.StatusCode, error: type[SchedulerError]
) -> None:
    call = Call(CallFailed(code, "no"))
    with pytest.raises(error) as caught:
        outages.retrying("read", call)
    assert type(caught.value) is error
    assert call.tries == 1
    assert time.pauses == []


def test_progress_gives_a_long_transfer_the_whole_tolerance_again(outages: Outages, time: Time) -> None:
    attempts = outages.attempts("read")
    for _ in range(5):
        begun = time.now
        while time.now < begun + 250:
            attempts.begin()
            attempts.failed(AWAY)
        attempts.progressed()
    attempts.begin()
    attempts.failed(AWAY)


def test_the_first_try_may_be_made_by_others(outages: Outages, time: Time) -> None:
    call = Call()
    assert outages.retrying("read", call, failure=AWAY) == "answer"
    assert time.pauses == [0.1]
    with pytest.raises(PermissionDenied):
        outages.retrying("read", call, failure=CallFailed(grpc.StatusCode.PERMISSION_DENIED, "no"))
    assert call.tries == 1


def test_stop_waiting_ends_those_who_wait_and_not_those_who_succeed(outages: Outages, time: Time) -> None:
    time.before_pause = outages.stop_waiting
    with pytest.raises(Unavailable, match="this server is stopping"):
        outages.retrying("read", Call(*[AWAY] * 1000))
    assert outages.retrying("read", Call()) == "answer"
    with pytest.raises(Unavailable, match="this server is stopping"):
        outages.retrying("read", Call(AWAY))
    assert len(time.pauses) == 2


def test_after_stop_nothing_is_called_until_start(outages: Outages) -> None:
    outages.stop()
    call = Call()
    with pytest.raises(Unavailable, match="this server is stopping"):
        outages.retrying("read", call)
    assert call.tries == 0
    outages.start()
    assert outages.retrying("read", call) == "answer"


def test_an_outage_is_logged_once_at_its_beginning_and_once_at_its_end(
    outages: Outages, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert outages.retrying("read", Call(*[AWAY] * 20)) == "answer"
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "cannot read" in caplog.messages[0]
    assert "the store answers again" in caplog.messages[1]
