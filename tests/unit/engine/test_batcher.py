"""The batcher: what gathers while it is busy is one batch, and a fault reaches only who caused it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from buildgrid_scheduler.core.errors import InvalidArgument, Unavailable
from buildgrid_scheduler.engine import batcher as batcher_module
from buildgrid_scheduler.engine.batcher import Batcher
from buildgrid_scheduler.notifier.delivery import Delivery, Ticket
from buildgrid_scheduler.store.hot_connection import DatabaseBusyError

PATIENCE = 20  # seconds until a test fails


@dataclass
class Wish:
    """An item."""

    word: str
    key: str | None = None
    ticket: Ticket[str] = field(default_factory=Ticket)
    submitted: float = field(default_factory=time.monotonic)

    def result(self) -> str:
        granted: str = self.ticket.future.result(PATIENCE)  # type: ignore[call-arg]
        return granted


class Workshop:
    """What a batcher runs: it records batches, stops where a test wants it to, and fails on demand."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.faults: dict[str, list[Exception]] = {}
        """by word: raised, one after the other, when a batch holds it"""
        self.connecting = False
        """whether a batch that runs has not reached the database yet"""
        self.looks = threading.Semaphore(0)
        """released whenever somebody asks that"""
        self._entered = threading.Semaphore(0)
        self._gates: list[threading.Event] = []

    def run(self, batch: Sequence[Wish], delivery: Delivery) -> None:
        self.batches.append([wish.word for wish in batch])
        gate = self._gates.pop(0) if self._gates else None
        self._entered.release()
        if gate is not None:
            assert gate.wait(PATIENCE)
        for wish in batch:
            if self.faults.get(wish.word):
                raise self.faults[wish.word].pop(0)
        for wish in batch:
            delivery.settle(wish.ticket, f"{wish.word}!")

    def is_connecting(self) -> bool:
        self.looks.release()
        return self.connecting

    def stop_at_next_batch(self) -> threading.Event:
        gate = threading.Event()
        self._gates.append(gate)
        return gate

    def wait_for_batch(self) -> None:
        assert self._entered.acquire(timeout=PATIENCE)


Start = Callable[..., Batcher[Wish]]


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def start(workshop: Workshop) -> Iterator[Start]:
    started: list[Batcher[Wish]] = []

    def start(**options: object) -> Batcher[Wish]:
        batcher: Batcher[Wish] = Batcher(
            "test",
            workshop.run,
            connecting=workshop.is_connecting,
            **options,  # type: ignore[arg-type]
        )
        batcher.start()
        started.append(batcher)
        return batcher

    yield start
    for batcher in started:
        batcher.stop()


def gather(batcher: Batcher[Wish], workshop: Workshop, *wishes: Wish) -> None:
    """Submit these while the batcher is busy with something else."""
    gate = workshop.stop_at_next_batch()
    batcher.submit(Wish("busy"))
    workshop.wait_for_batch()
    for wish in wishes:
        batcher.submit(wish)
    gate.set()


def test_an_idle_batcher_runs_a_single_item_at_once(workshop: Workshop, start: Start) -> None:
    batcher = start()
    for word in "abc":
        wish = Wish(word)
        batcher.submit(wish)
        assert wish.result() == f"{word}!"
    assert workshop.batches == [["a"], ["b"], ["c"]]


def test_what_arrives_while_it_is_busy_is_one_batch_in_order(workshop: Workshop, start: Start) -> None:
    wishes = [Wish(str(n)) for n in range(50)]
    batcher = start()
    gather(batcher, workshop, *wishes)
    assert [wish.result() for wish in wishes] == [f"{n}!" for n in range(50)]
    assert workshop.batches == [["busy"], [str(n) for n in range(50)]]
    batcher.stop()
    assert (batcher.counts.batches, batcher.counts.items) == (2, 51)


def test_a_batch_has_a_largest_size(workshop: Workshop, start: Start) -> None:
    wishes = [Wish(str(n)) for n in range(5)]
    gather(start(largest=2), workshop, *wishes)
    wishes[-1].result()
    assert workshop.batches == [["busy"], ["0", "1"], ["2", "3"], ["4"]]


def test_items_with_the_same_key_never_share_a_batch_and_keep_their_order(
    workshop: Workshop, start: Start
) -> None:
    wishes = [Wish("a1", "a"), Wish("b1", "b"), Wish("a2", "a"), Wish("free"), Wish("a3", "a"), Wish("free")]
    gather(start(exclusive=lambda wish: wish.key), workshop, *wishes)
    for wish in wishes:
        wish.result()
    assert workshop.batches[1:] == [["a1", "b1", "free", "free"], ["a2"], ["a3"]]


def test_what_waits_for_a_key_and_for_the_size_keeps_its_order(workshop: Workshop, start: Start) -> None:
    wishes = [Wish("a1", "a"), Wish("a2", "a"), Wish("x"), Wish("y"), Wish("a3", "a")]
    gather(start(exclusive=lambda wish: wish.key, largest=2), workshop, *wishes)
    for wish in wishes:
        wish.result()
    assert workshop.batches[1:] == [["a1", "x"], ["a2", "y"], ["a3"]]


@pytest.mark.parametrize("fault", [InvalidArgument("a bad wish"), RuntimeError("a bug")])
def test_one_bad_item_fails_alone(workshop: Workshop, start: Start, fault: Exception) -> None:
    wishes = [Wish("a"), Wish("bad"), Wish("c")]
    workshop.faults["bad"] = [fault] * 2
    gather(start(), workshop, *wishes)
    assert wishes[0].result() == "a!"
    assert wishes[2].result() == "c!"
    with pytest.raises(type(fault), match=str(fault)):
        wishes[1].result()


def test_the_thread_outlives_a_bug(workshop: Workshop, start: Start) -> None:
    workshop.faults["bad"] = [RuntimeError("a bug")]
    batcher = start()
    bad, good = Wish("bad"), Wish("good")
    batcher.submit(bad)
    with pytest.raises(RuntimeError):
        bad.result()
    batcher.submit(good)
    assert good.result() == "good!"


def test_a_busy_database_is_asked_again_with_the_whole_batch(workshop: Workshop, start: Start) -> None:
    workshop.faults["a"] = [DatabaseBusyError("busy", 0.0)] * 3
    wishes = [Wish("a"), Wish("b")]
    gather(start(), workshop, *wishes)
    assert [wish.result() for wish in wishes] == ["a!", "b!"]
    assert workshop.batches[1:] == [["a", "b"]] * 4


def test_who_waited_too_long_for_a_busy_database_gets_unavailable_and_the_young_wait_on(
    workshop: Workshop, start: Start
) -> None:
    workshop.faults["old"] = [DatabaseBusyError("the database cannot be reached", 0.0)]
    old, young = Wish("old", submitted=time.monotonic() - 100), Wish("young")
    gather(start(patience=50), workshop, old, young)
    with pytest.raises(Unavailable, match="cannot be reached; try again"):
        old.result()
    assert young.result() == "young!"


def test_patience_ends(workshop: Workshop, start: Start) -> None:
    workshop.faults["a"] = [DatabaseBusyError("busy", 0.001)] * 100_000
    wish = Wish("a")
    start(patience=0.05).submit(wish)
    with pytest.raises(Unavailable):
        wish.result()


def test_a_bad_item_found_after_the_database_was_busy_fails_alone_too(
    workshop: Workshop, start: Start
) -> None:
    workshop.faults["bad"] = [DatabaseBusyError("busy", 0.0), InvalidArgument("no"), InvalidArgument("no")]
    wishes = [Wish("a"), Wish("bad")]
    gather(start(), workshop, *wishes)
    assert wishes[0].result() == "a!"
    with pytest.raises(InvalidArgument):
        wishes[1].result()


def test_stopping_finishes_what_was_submitted_and_refuses_what_comes_later(
    workshop: Workshop, start: Start
) -> None:
    batcher = start(largest=2)
    gate = workshop.stop_at_next_batch()
    wishes = [Wish(str(n)) for n in range(7)]
    batcher.submit(*wishes[:1])
    workshop.wait_for_batch()
    batcher.submit(*wishes[1:])
    stopping = threading.Thread(target=batcher.stop)
    stopping.start()
    gate.set()
    stopping.join()
    assert all(wish.ticket.future.done() for wish in wishes)
    assert [wish.result() for wish in wishes] == [f"{n}!" for n in range(7)]
    late = Wish("late")
    batcher.submit(late)
    with pytest.raises(Unavailable, match="shutting down"):
        late.result()


# --- the end


def away() -> DatabaseBusyError:
    return DatabaseBusyError("the database cannot be reached", 3600.0, unknown=True)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batcher_module, "HURRIED_PATIENCE", 0.2)


def test_at_the_end_a_database_that_is_away_is_not_waited_for_long(
    workshop: Workshop, start: Start, short: None
) -> None:
    """Neither for the pause until the next attempt, nor for as long as callers have patience."""
    words = [str(n) for n in range(5)]
    workshop.faults = {word: [away() for _ in range(1000)] for word in words}
    wishes = [Wish(word) for word in words]
    batcher = start(patience=3600, largest=1)
    batcher.submit(*wishes)
    workshop.wait_for_batch()
    batcher.stop()
    assert not batcher.alive
    for wish in wishes:
        with pytest.raises(Unavailable, match="cannot be reached; try again"):
            wish.result()
    assert len(workshop.batches) < 100, "it is not asked without a pause"


def test_at_the_end_a_database_that_comes_back_in_time_gets_everything(
    workshop: Workshop, start: Start
) -> None:
    workshop.faults["a"] = [away()]
    wishes = [Wish("a"), Wish("b")]
    batcher = start(patience=3600)
    gather(batcher, workshop, *wishes)
    batcher.stop()
    assert [wish.result() for wish in wishes] == ["a!", "b!"]


def test_at_the_end_a_database_that_is_merely_busy_gets_everything(
    workshop: Workshop, start: Start, short: None
) -> None:
    workshop.faults["a"] = [DatabaseBusyError("a deadlock", 0.01) for _ in range(50)]
    wishes = [Wish("a"), Wish("b")]
    batcher = start(patience=3600)
    gather(batcher, workshop, *wishes)
    batcher.stop()
    assert [wish.result() for wish in wishes] == ["a!", "b!"]


@pytest.mark.parametrize("before", [True, False], ids=["that was there before", "that never was there"])
def test_an_attempt_to_reach_a_database_that_hangs_is_left_to_itself(
    workshop: Workshop, start: Start, short: None, before: bool
) -> None:
    batcher = start(patience=3600, at_end=lambda: workshop.batches.append(["the end"]))
    if before:
        seen = Wish("seen")
        batcher.submit(seen)
        seen.result()
        workshop.wait_for_batch()
    gates = [workshop.stop_at_next_batch() for _ in range(1 + before)]
    workshop.faults["a"] = [DatabaseBusyError("the database cannot be reached", 0.0, unknown=True)] * 1000
    wish = Wish("a")
    batcher.submit(wish)
    workshop.wait_for_batch()
    if before:  # the first attempt fails at once, the next one hangs
        gates[0].set()
        workshop.wait_for_batch()
    workshop.connecting = True
    batcher.stop()
    assert batcher.alive
    assert not wish.ticket.future.done()
    gates[-1].set()
    with pytest.raises(Unavailable):
        wish.result()
    batcher._thread.join(PATIENCE)
    assert workshop.batches[-1] == ["the end"]


@pytest.mark.parametrize("tries", [1, 2], ids=["the first batch", "the first one that reaches it"])
def test_a_batch_that_is_slow_is_waited_for_however_long_it_takes(
    workshop: Workshop, start: Start, monkeypatch: pytest.MonkeyPatch, tries: int
) -> None:
    """The time for a database that is away is over from the beginning here."""
    monkeypatch.setattr(batcher_module, "HURRIED_PATIENCE", -60.0)
    batcher = start(patience=3600)
    gates = [workshop.stop_at_next_batch() for _ in range(tries)]
    if tries > 1:
        workshop.faults["a"] = [DatabaseBusyError("the database cannot be reached", 0.0, unknown=True)]
    wish = Wish("a")
    batcher.submit(wish)
    for gate in gates[:-1]:
        workshop.wait_for_batch()
        gate.set()
    workshop.wait_for_batch()
    stopping = threading.Thread(target=batcher.stop)
    stopping.start()
    for _ in range(3):
        assert workshop.looks.acquire(timeout=PATIENCE)
    assert stopping.is_alive()
    gates[-1].set()
    stopping.join(PATIENCE)
    assert wish.result() == "a!"
    assert not batcher.alive


def test_a_batcher_that_was_never_started_can_be_stopped(workshop: Workshop) -> None:
    batcher: Batcher[Wish] = Batcher("test", workshop.run)
    batcher.stop()
    late = Wish("late")
    batcher.submit(late)
    with pytest.raises(Unavailable):
        late.result()


def test_many_threads_may_submit(workshop: Workshop, start: Start) -> None:
    batcher = start()
    wishes = [[Wish(f"{t}.{n}") for n in range(100)] for t in range(8)]

    def submit(own: list[Wish]) -> None:
        for wish in own:
            batcher.submit(wish)

    threads = [threading.Thread(target=submit, args=(own,)) for own in wishes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in wishes:
        assert [wish.result() for wish in own] == [f"{wish.word}!" for wish in own]
    assert sum(len(batch) for batch in workshop.batches) == 800
