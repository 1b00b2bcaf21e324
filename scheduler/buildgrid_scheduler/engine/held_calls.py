"""Calls of bots that are held until there is something to say: answered, asked again, undone."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from buildgrid_scheduler.assigner.waiting import HeldCall, WaitingBots
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.engine.hang_ups import HangUps
from buildgrid_scheduler.engine.items import Call, Synchronize, Synchronized, Tell, WriteItem
from buildgrid_scheduler.engine.sessions import SessionTransactions
from buildgrid_scheduler.engine.synchronizing import SessionOutcome, taken_over
from buildgrid_scheduler.notifier.delivery import Delivery, Ticket
from buildgrid_scheduler.notifier.waits import done_within

log = logging.getLogger(__name__)

OF_ITSELF = 1.0
"""Seconds before the end of its patience from which on a caller ends a call, and not its death: the caller's
deadline comes sooner to itself than to us."""


class HeldCalls:
    """Stands between the batches, which find out what there is to say, and `WaitingBots`."""

    def __init__(
        self,
        waiting: WaitingBots,
        sessions: SessionTransactions,
        submit: Callable[[WriteItem], None],
        hang_ups: HangUps,
    ) -> None:
        """`submit`: hands an item to the engine."""
        self._hang_ups = hang_ups
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
            self._breaks_off(item)
            item.ticket.abandon()
            if self._waiting.release(item):
                self._note_broken(item)
            future.add_done_callback(lambda late: self._undo_late(item, late))
            raise
        answer = future.result()
        if hold > 0 and item.hold_full and answer.leases and not self._leaving:
            self._hang_ups.note(item.session_name, item.call_id)
        return answer

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
            item.wakes_for, item.capacity_class = outcome.wakes_for, outcome.kind
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

    def replace(self, sessions: Sequence[str], delivery: Delivery) -> None:
        """Bots that call again do not wait in their earlier calls any more."""
        self._hang_ups.called(sessions)
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
        self._hang_ups.forget_all()
        for call in self._waiting.take_all():
            if isinstance(call, Synchronize):
                delivery.settle(call.ticket, Unavailable("this replica is shutting down; try another"))

    def unheard(self, item: Synchronize, answer: Synchronized) -> None:
        """The bot hung up before it was told: what the answer gives it waits again."""
        self._note_broken(item)
        jobs = [t.job_name for t in answer.leases if t.action is not None and t.job_name not in item.reports]
        if jobs:
            log.debug("bot %s hung up before it was told of its lease; the job waits again", item.bot_id)
            self._submit(Call(Ticket(), self._sessions.hand_back(item.session_name, jobs, item.call_id)))

    def broke_off(self, item: Synchronize, answer: Synchronized) -> None:
        """The call ended after it had been answered here, and before its bot was told."""
        self._breaks_off(item)
        self.unheard(item, answer)

    def never_named(self, session_name: str) -> None:
        """The call that opens a session broke off before the session was there, or was told."""
        if not self._leaving:
            self._hang_ups.note(session_name, "")

    def _breaks_off(self, item: Synchronize) -> None:
        item.broken_off = time.monotonic() < item.patient_until - OF_ITSELF

    def _note_broken(self, item: Synchronize) -> None:
        if item.broken_off and not self._leaving:
            self._hang_ups.note(item.session_name, item.call_id)

    def _undo_late(self, item: Synchronize, late: "asyncio.Future[Synchronized]") -> None:
        """An answer that came when nobody waited for it any more."""
        if not late.cancelled() and late.exception() is None:
            self.unheard(item, late.result())


def _is_old(tell: Tell, item: Synchronize) -> bool:
    """Whether the bot knows this already: it has just said so."""
    report = item.reports.get(tell.job_name)
    return report is not None and report.state == tell.state
