"""Who is followed on this replica, and noting that in the database."""

import threading
from collections.abc import Callable
from datetime import datetime

from buildgrid_scheduler.engine.abandoned import note_followed
from buildgrid_scheduler.engine.items import Call, Effects
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.notifier.watches import Watches
from buildgrid_scheduler.store.hot_connection import Statements

_AT_ONCE = 5000
"""Operations that one statement notes"""


class Following:
    """Safe from any thread; nothing here waits for the database."""

    def __init__(self, watches: Watches, submit: Callable[[Call[None]], None]) -> None:
        """`submit`: hands a transaction to the engine."""
        self._watches = watches
        self._submit = submit
        self._lock = threading.Lock()
        self._to_note: set[str] = set()
        self._looked_at: set[str] = set()

    def left(self, operation: str) -> None:
        """A client stopped following an operation that is not done: its time runs from now on.

        Many that leave at once, as at the end of a build, are noted by one statement.
        """
        with self._lock:
            idle = not self._to_note
            self._to_note.add(operation)
        if idle:
            self._submit(Call(Ticket(), self._note_gathered()))

    def looked_at(self, operation: str) -> None:
        """Somebody asked how an operation is that is not done.

        One that is asked for again and again is noted once per period (see `note_all`).
        """
        with self._lock:
            if operation in self._looked_at:
                return
            self._looked_at.add(operation)
        self.left(operation)

    def note_all(self) -> list[Callable[[Statements, datetime, Effects], None]]:
        """Transactions that note all that are followed by a stream here. A period begins.

        At least one, so that who runs them knows whether the database can be written to.
        """
        with self._lock:
            self._looked_at.clear()
        operations = self._watches.operations()
        return [note_followed(operations[n : n + _AT_ONCE]) for n in range(0, len(operations) or 1, _AT_ONCE)]

    def _note_gathered(self) -> Callable[[Statements, datetime, Effects], None]:
        gathered: set[str] = set()

        def transaction(db: Statements, now: datetime, effects: Effects) -> None:
            with self._lock:  # once more when the transaction is run again
                gathered.update(self._to_note)
                self._to_note.clear()
            note_followed(gathered)(db, now, effects)

        return transaction
