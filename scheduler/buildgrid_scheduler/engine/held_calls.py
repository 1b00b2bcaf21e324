"""Calls of bots that are held until there is something to say: answered, asked again, undone."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from buildgrid_scheduler.assigner.waiting import HeldCall, WaitingBots
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.engine.items import Call, Synchronize, Synchronized, Tell, WriteItem
from buildgrid_scheduler.engine.sessions import SessionTransactions
from buildgrid_scheduler.engine.synchronizing import SessionOutcome, taken_over
from buildgrid_scheduler.notifier.delivery import Delivery, Ticket
from buildgrid_scheduler.notifier.waits import done_within

log = logging.getLogger(__name__)


class HeldCalls:
    """Stands between the batches, which find out what there is to say, and `WaitingBots`."""

    def __init__(
        self, waiting: WaitingBots, sessions: SessionTransactions, submit: Callable[[WriteItem], None]
    ) -> None:
        """`submit`: hands an item to the engine."""
        self._waiting = waiting
        self._sessions = sessions
        self._submit = submit
        self._leaving = False

    async def wait(
        self, item: Synchronize, future: "asyncio.Future[Synchronized]", hold: float
    ) -> Synchronized:
        """The answer to a submitted call; after `hold` seconds whatever there is to say then."""
        try:
            if hold > 0 and not await done_within(future, hold) and self._waiting.release(item):
                self.ask_again(item)
            # A wait, not the future itself, is what a cancellation hits: a claim may be on its way to it.
            await done_within(future)
        except asyncio.CancelledError:
            item.ticket.abandon()
            self._waiting.release(item)
            future.add_done_callback(lambda late: self._undo_late(item, late))
            raise
        return future.result()

    def conclude(self, outcome: SessionOutcome, expires_at: datetime, delivery: Delivery) -> None:
        """Answer a call whose batch is committed, or hold it."""
        item = outcome.item
        if outcome.error is not None:
            delivery.settle(item.ticket, outcome.error)
            return
        answer = Synchronized(tuple(outcome.tells), expires_at)
        if item.ticket.abandoned:
            self.unheard(item, answer)
            return
        news = any(not _is_old(tell, item) for tell in outcome.tells)
        if item.hold and not news and outcome.slots.held and not outcome.at_once:
            item.wakes_for, item.capacity_class = outcome.wakes_for, outcome.capacity_class
            self.hold(item, delivery)
            return
        delivery.settle(item.ticket, answer)

    def hold(self, item: Synchronize, delivery: Delivery) -> None:
        """Hold the call; whatever it replaces is answered."""
        other: HeldCall | None = self._waiting.hold(item)
        if other is item:
            self.ask_again(item)
        elif isinstance(other, Synchronize):
            delivery.settle(other.ticket, taken_over())
        if self._leaving:
            self.send_elsewhere(delivery)

    def replace(self, sessions: Iterable[str], delivery: Delivery) -> None:
        """Bots that call again do not wait in their earlier calls any more."""
        for call in self._waiting.take(sessions):
            if isinstance(call, Synchronize):
                delivery.settle(call.ticket, taken_over())

    def poke(self, sessions: Iterable[str] | None) -> None:
        """These sessions, or all, may have something to be told: ask again for their held calls."""
        calls = self._waiting.take_all() if sessions is None else self._waiting.take(sessions)
        for call in calls:
            if isinstance(call, Synchronize):
                self.ask_again(call)

    def ask_again(self, call: Synchronize) -> None:
        """Submit a call that was held, with the patience of a new one."""
        call.woken = True
        call.submitted = time.monotonic()
        self._submit(call)

    def send_elsewhere(self, delivery: Delivery) -> None:
        """From now on no call is held: this replica stops."""
        self._leaving = True
        for call in self._waiting.take_all():
            if isinstance(call, Synchronize):
                delivery.settle(call.ticket, Unavailable("this replica is shutting down; try another"))

    def unheard(self, item: Synchronize, answer: Synchronized) -> None:
        """The bot hung up before it was told: what the answer gives it waits again."""
        jobs = [t.job_name for t in answer.leases if t.action is not None and t.job_name not in item.reports]
        if jobs:
            log.info("bot %s hung up before it was told of its lease; the job waits again", item.bot_id)
            self._submit(Call(Ticket(), self._sessions.hand_back(item.session_name, jobs, item.call_id)))

    def _undo_late(self, item: Synchronize, late: "asyncio.Future[Synchronized]") -> None:
        """An answer that came when nobody waited for it any more."""
        if not late.cancelled() and late.exception() is None:
            self.unheard(item, late.result())


def _is_old(tell: Tell, item: Synchronize) -> bool:
    """Whether the bot knows this already: it has just said so."""
    report = item.reports.get(tell.job_name)
    return report is not None and report.state == tell.state
