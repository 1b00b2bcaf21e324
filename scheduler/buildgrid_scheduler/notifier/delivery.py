"""How results leave the engine's threads: one wake-up of an event loop for all results of a batch."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Generic, TypeVar

R = TypeVar("R")


class Ticket(Generic[R]):
    """A caller that waits for a result: a thread (`loop` None) or a coroutine on `loop`."""

    __slots__ = ("_abandoned", "future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop
        self.future: Future[R] | asyncio.Future[R] = Future() if loop is None else loop.create_future()
        self._abandoned = False

    def wait(self) -> R:
        """The result, for the calling thread; raises the error if that is what came of it."""
        if not isinstance(self.future, Future):
            raise TypeError("this ticket is a coroutine's; await its future")
        return self.future.result()

    @property
    def abandoned(self) -> bool:
        """Whether the caller went away; seen by other threads a little later than by the caller's."""
        return self._abandoned

    def abandon(self) -> None:
        """The caller is no longer there to be answered."""
        self._abandoned = True


class Delivery:
    """Collects what is to be told; `flush` tells it."""

    def __init__(self) -> None:
        self._calls: dict[asyncio.AbstractEventLoop, list[tuple[Callable[..., None], tuple[Any, ...]]]]
        self._calls = defaultdict(list)

    def settle(self, ticket: Ticket[R], outcome: R | BaseException) -> None:
        """Give a caller its result or error."""
        if ticket.loop is None:
            _settle(ticket.future, outcome)
        else:
            self._calls[ticket.loop].append((_settle, (ticket.future, outcome)))

    def call(self, loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function on the event loop."""
        self._calls[loop].append((function, arguments))

    def flush(self) -> None:
        """Wake each event loop once."""
        for loop, calls in self._calls.items():
            with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(_run, calls)
        self._calls.clear()


def _run(calls: list[tuple[Callable[..., None], tuple[Any, ...]]]) -> None:
    for function, arguments in calls:
        function(*arguments)


def _settle(future: Any, outcome: Any) -> None:
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
