"""Results leave the engine's threads with one wake-up of each event loop."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from buildgrid_scheduler.notifier.delivery import Delivery, Ticket


class CountingLoop:
    """Counts how often an event loop is woken from outside."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wakeups = 0
        real: Callable[..., Any] = loop.call_soon_threadsafe

        def counted(*arguments: Any, **options: Any) -> Any:
            self.wakeups += 1
            return real(*arguments, **options)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)


async def test_all_results_of_a_batch_wake_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    counting = CountingLoop(loop, monkeypatch)
    tickets: list[Ticket[int]] = [Ticket(loop) for _ in range(100)]
    called: list[str] = []

    def run() -> None:
        delivery = Delivery()
        for number, ticket in enumerate(tickets):
            delivery.settle(ticket, number)
        delivery.call(loop, called.append, "in order")
        delivery.flush()
        delivery.flush()

    thread = threading.Thread(target=run)
    thread.start()
    results = await asyncio.gather(*(t.future for t in tickets if isinstance(t.future, asyncio.Future)))
    thread.join()
    assert results == list(range(100))
    assert called == ["in order"]
    assert counting.wakeups == 1


async def test_nothing_is_told_before_the_flush() -> None:
    ticket: Ticket[int] = Ticket(asyncio.get_running_loop())
    delivery = Delivery()
    delivery.settle(ticket, 1)
    await asyncio.sleep(0)
    assert not ticket.future.done()
    delivery.flush()
    await asyncio.sleep(0)
    assert ticket.future.done()


def test_a_thread_gets_its_result_or_its_error() -> None:
    good: Ticket[int] = Ticket()
    bad: Ticket[int] = Ticket()
    delivery = Delivery()
    delivery.settle(good, 1)
    delivery.settle(bad, ValueError("no"))
    delivery.settle(good, 2)
    assert good.wait() == 1, "the first outcome stays"
    with pytest.raises(ValueError, match="no"):
        bad.wait()


async def test_a_caller_who_went_away_is_no_trouble() -> None:
    ticket: Ticket[int] = Ticket(asyncio.get_running_loop())
    ticket.future.cancel()
    delivery = Delivery()
    delivery.settle(ticket, 1)
    delivery.flush()
    await asyncio.sleep(0)
    assert ticket.future.cancelled()


def test_a_loop_that_is_closed_is_no_trouble() -> None:
    loop = asyncio.new_event_loop()
    ticket: Ticket[int] = Ticket(loop)
    loop.close()
    delivery = Delivery()
    delivery.settle(ticket, 1)
    delivery.flush()
    assert not ticket.future.done()


async def test_a_coroutine_can_not_block_on_its_ticket() -> None:
    ticket: Ticket[int] = Ticket(asyncio.get_running_loop())
    with pytest.raises(TypeError, match="await"):
        ticket.wait()


def test_abandoning_is_seen() -> None:
    ticket: Ticket[int] = Ticket()
    assert not ticket.abandoned
    ticket.abandon()
    assert ticket.abandoned
