"""What is put into an outbox is sent, or counted and logged; nobody waits for it."""

import logging
import threading
from collections.abc import Callable, Iterator

import pytest
from buildgrid_scheduler.outgoing.metrics import OutboxCollector
from buildgrid_scheduler.outgoing.outbox import Outbox, OutboxCounts
from prometheus_client import CollectorRegistry

from tests.farm.waiting import eventually_sync

WITHIN = 20.0


class Gate:
    """A service that takes what it is sent once it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reached = threading.Semaphore(0)
        self.got: list[int] = []

    def send(self, item: int) -> None:
        self.reached.release()
        assert self.open.wait(WITHIN)
        self.got.append(item)


@pytest.fixture
def start() -> Iterator[Callable[..., Outbox[int]]]:
    started: list[Outbox[int]] = []

    def start(send: Callable[[int], None], **options: int) -> Outbox[int]:
        outbox = Outbox("test", send, **options)
        outbox.start()
        started.append(outbox)
        return outbox

    yield start
    for outbox in started:
        outbox.stop(WITHIN)


def test_items_are_sent_in_order_and_counted(start: Callable[..., Outbox[int]]) -> None:
    got: list[int] = []
    outbox = start(got.append)
    assert all(outbox.put(n) for n in range(100))
    outbox.stop(WITHIN)
    assert got == list(range(100))
    assert outbox.counts() == OutboxCounts(sent=100, failed=0, dropped=0, waiting=0)


def test_what_fails_does_not_keep_the_next_item_from_being_sent(
    start: Callable[..., Outbox[int]], caplog: pytest.LogCaptureFixture
) -> None:
    got: list[int] = []

    def send(item: int) -> None:
        if item < 3:
            raise ConnectionError(f"no way\nfor {item}")
        got.append(item)

    outbox = start(send)
    for n in range(5):
        outbox.put(n)
    outbox.stop(WITHIN)
    assert got == [3, 4]
    assert outbox.counts() == OutboxCounts(sent=2, failed=3, dropped=0, waiting=0)
    assert "test: not sent: ConnectionError: no way for 0" in caplog.text
    assert "(2 times since the last such line): ConnectionError: no way for 2" in caplog.text


def test_what_has_no_room_is_dropped_at_once_and_logged_with_its_number(
    start: Callable[..., Outbox[int]], caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    outbox = start(gate.send, capacity=2)
    outbox.put(0)
    assert gate.reached.acquire(timeout=WITHIN)  # it is being sent, and does not wait any more
    assert [outbox.put(n) for n in (1, 2, 3, 4)] == [True, True, False, False]
    assert outbox.counts() == OutboxCounts(sent=0, failed=0, dropped=2, waiting=2)
    gate.open.set()
    outbox.stop(WITHIN)
    assert gate.got == [0, 1, 2]
    assert "test: dropped: 2 items wait already" in caplog.text


def test_several_threads_send_at_a_time(start: Callable[..., Outbox[int]]) -> None:
    gate = Gate()
    outbox = start(gate.send, threads=3)
    for n in range(3):
        outbox.put(n)
    for _ in range(3):
        assert gate.reached.acquire(timeout=WITHIN)
    gate.open.set()


def test_stopping_does_not_wait_for_a_service_that_hangs(
    start: Callable[..., Outbox[int]], caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    outbox = start(gate.send)
    for n in range(4):
        outbox.put(n)
    assert gate.reached.acquire(timeout=WITHIN)
    outbox.stop(0.01)
    assert outbox.counts().dropped == 3
    assert "3 items could not be sent before the end" in caplog.text
    gate.open.set()
    eventually_sync(lambda: gate.got == [0], WITHIN, lambda: str(gate.got))


def test_what_is_put_after_the_end_is_dropped(start: Callable[..., Outbox[int]]) -> None:
    outbox = start(lambda item: None)
    outbox.stop(WITHIN)
    assert not outbox.put(1)
    assert outbox.counts().dropped == 1


def test_an_outbox_that_was_never_started_can_be_stopped() -> None:
    outbox: Outbox[int] = Outbox("test", lambda item: None)
    outbox.put(1)
    outbox.stop(0.01)
    assert outbox.counts().dropped == 1


def test_metrics_tell_what_became_of_the_items(
    start: Callable[..., Outbox[int]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    outbox = start(lambda item: None)
    outbox.put(1)
    outbox.stop(WITHIN)
    outbox.put(2)
    registry = CollectorRegistry()
    registry.register(OutboxCollector([outbox]))

    def value(outcome: str) -> float | None:
        return registry.get_sample_value(
            "buildgrid_outbox_items_total", {"outbox": "test", "outcome": outcome}
        )

    assert (value("sent"), value("failed"), value("dropped")) == (1, 0, 1)
    assert registry.get_sample_value("buildgrid_outbox_waiting", {"outbox": "test"}) == 0
