"""Who wants to know at once that this replica has changed what is told of the farm: see fleet.state.

Jobs that were queued, handed out or ended, sessions that came or went, marks. Not each report of a bot.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildgrid_scheduler.engine.items import Effects
    from buildgrid_scheduler.engine.round import Round

Listener = Callable[[], None]


class FarmChanges:
    """A WorkObserver. Listeners are called on the engine's threads: quick, and never raising.

    Safe from any thread.
    """

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()

    def listen(self, listener: Listener) -> None:
        """Call it after each change from now on."""
        self._listeners = (*self._listeners, listener)

    def ignore(self, listener: Listener) -> None:
        """Call it no more."""
        self._listeners = tuple(known for known in self._listeners if known != listener)

    def round(self, work: "Round") -> None:
        """See WorkObserver."""
        changes = work.changes
        if self._listeners and (
            work.new_jobs
            or changes.completed
            or changes.requeued
            or changes.freed
            or any(claim.got for claim in work.claims)
            or any(outcome.closed for outcome in work.outcomes)
        ):
            self._tell()

    def errand(self, effects: "Effects") -> None:
        """See WorkObserver."""
        if self._listeners and (effects.fleet or effects.states or effects.arrivals or effects.sessions):
            self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
