"""What this replica tells the others, what it is told by them, and what it looks up in case it was not."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from buildgrid_scheduler.assigner.waiting import Arrival, WaitingBots
from buildgrid_scheduler.engine.completions import Completions
from buildgrid_scheduler.engine.held_calls import HeldCalls
from buildgrid_scheduler.engine.items import Call, Effects, Nudge, WriteItem
from buildgrid_scheduler.engine.known import KnownRows
from buildgrid_scheduler.notifier.delivery import Delivery, Ticket
from buildgrid_scheduler.notifier.messages import CHANNEL, encode
from buildgrid_scheduler.notifier.watches import Watches
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import DatabaseBusyError, Statements

_NO_TICKET: Ticket[Any] = Ticket()


class News:
    """A notifier.listener.Hearer. Safe from any thread; nothing here waits for the database."""

    def __init__(
        self,
        waiting: WaitingBots,
        watches: Watches,
        held: HeldCalls,
        known: KnownRows,
        completions: Completions,
        submit: Callable[[WriteItem], None],
    ) -> None:
        """`submit`: hands an item to the engine."""
        self.origin = uuid.uuid4().hex[:12]
        self.peers = True
        """whether other replicas listen; the notifier knows better after its first look"""
        self._waiting = waiting
        self._watches = watches
        self._held = held
        self._known = known
        self._completions = completions
        self._submit = submit
        self._unsure = False
        """a transaction may have been committed whose effects were not told here"""

    # --- to others

    def notify(self, db: Statements, effects: Effects) -> None:
        """Part of a transaction: what others are to hear once it is committed, where there are any."""
        if not self.peers:
            return
        payloads = encode(
            self.origin, jobs=effects.states, arrivals=effects.arrivals, sessions=effects.sessions
        )
        if payloads:
            db.execute(sql.NOTIFY, (CHANNEL, payloads))

    # --- from others

    def arrived(self, arrivals: Iterable[Arrival]) -> None:
        """Jobs began to wait, says another replica or an errand."""
        self._waiting.arrived(arrivals, heard=True)
        if self._waiting.held:
            self.nudge()

    def tell_arrivals(self, keys: Sequence[tuple[str, str]]) -> None:
        """Jobs with these (instance, requirement hash) began to wait."""
        if not keys:
            return
        required = [(i, h, self._known.requires(h)) for i, h in keys]
        self.arrived([Arrival(i, h, requires) for i, h, requires in required if requires is not None])
        if any(requires is None for _, _, requires in required):
            self.look_for_work()

    def jobs_changed(self, jobs: Sequence[str] | None) -> None:
        """These jobs changed; None: any may have."""
        delivery = Delivery()
        self._watches.publish_all_stale(jobs, delivery)
        delivery.flush()

    def poke(self, sessions: Iterable[str]) -> None:
        """These sessions have something to be told."""
        self._held.poke(sessions)

    # --- by looking

    def nudge(self) -> None:
        """Let the next batch look who can be given work."""
        self._submit(Nudge(_NO_TICKET))

    def look_for_work(self) -> None:
        """Read the distinct requirement hashes in the queue and act on them. Rare: the safety net."""

        def transaction(db: Statements, now: datetime, effects: Effects) -> None:
            began = self._waiting.looking()
            rows = db.rows(sql.WAITING_HASHES)
            found = [Arrival(i, h, self._known.learn(h, requirements)) for i, h, requirements in rows]
            if self._waiting.some_wait(found, began):
                self.nudge()

        self._submit(Call(Ticket(), transaction))
        self._completions.clear_up()

    def catch_up(self) -> None:
        """News may have been lost, of anything: look at all that somebody waits for here."""
        self.jobs_changed(None)
        self._held.poke(None)
        self.look_for_work()

    # --- commits that nobody heard of

    def failed(self, error: BaseException, effects: Effects, now: datetime) -> None:
        """A transaction failed, or its answer was lost."""
        if isinstance(error, DatabaseBusyError) and error.unknown:
            self._unsure = True
            self._completions.doubt(effects.completed, now)

    def reached(self) -> None:
        """The database answers again: whatever was committed unheard is looked at now."""
        if self._unsure:
            self._unsure = False
            self.catch_up()
