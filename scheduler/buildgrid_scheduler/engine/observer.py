"""Who watches the engine work: metrics, figures. Nothing is measured where nobody watches."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from buildgrid_scheduler.engine.items import Effects
    from buildgrid_scheduler.engine.round import Round


class WorkObserver(Protocol):
    """Called on the engine's threads, after the fact: quick, and never raising."""

    def round(self, work: "Round") -> None:
        """A round of the writer is committed."""
        ...

    def errand(self, effects: "Effects") -> None:
        """A transaction of its own is committed."""
        ...


class EngineObserver(WorkObserver, Protocol):
    """Is told of the time that all takes, too."""

    def batch(self, thread: str, items: int, seconds: float) -> None:
        """A thread (write, errand, read) has run a batch, retries included."""
        ...

    def statement(self, name: str, seconds: float) -> None:
        """The answer to a statement was waited for: see HotConnection."""
        ...
