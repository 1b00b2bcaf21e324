"""Whether clients are throttled: asked in the background, remembered for a while, never a reason to fail."""

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from buildgrid_scheduler.core.metering import IdentityKey
from buildgrid_scheduler.outgoing.complaints import Complaints
from buildgrid_scheduler.outgoing.outbox import Outbox
from buildgrid_scheduler.outgoing.pause import Pause

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    throttled: bool
    at: float


@dataclass(slots=True)
class _Question:
    identity: IdentityKey
    answer: "Future[bool]" = field(default_factory=Future)


class Throttling:
    """A service that is down, slow or refusing throttles nobody: it is logged, and left alone for a while.

    An answer counts for `fresh_for` seconds. For `stale_for` seconds it still does, while a newer one is
    asked for, so that only the first action of a client waits at all, and that for `bound` seconds at most.
    """

    def __init__(
        self,
        ask: Callable[[IdentityKey], bool],
        *,
        fresh_for: float = 5.0,
        stale_for: float = 60.0,
        bound: float = 1.0,
        threads: int = 4,
        capacity: int = 1_000,
        remembered: int = 10_000,
        pause: Pause | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ask` blocks, and may raise anything. `fresh_for` 0: each action's client is asked about."""
        self._ask = ask
        self._fresh_for = fresh_for
        self._stale_for = stale_for if fresh_for else 0.0
        self._bound = bound
        self._remembered = remembered
        self._pause = pause or Pause()
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: OrderedDict[IdentityKey, _Answer] = OrderedDict()
        self._asking: dict[IdentityKey, Future[bool]] = {}
        self._late = Complaints(log, f"throttling: no answer within {bound:g} s, the client is not throttled")
        self.outbox: Outbox[_Question] = Outbox(
            "throttling", self._answer, capacity=capacity, threads=threads
        )

    def start(self) -> None:
        """Start the threads."""
        self.outbox.start()

    def stop(self) -> None:
        """Nobody waits any more."""
        self.outbox.stop(0)
        self._late.finish()

    def known(self, identity: IdentityKey) -> bool | None:
        """What is known without waiting; None: ask."""
        answer = self._answers.get(identity)
        if answer is None:
            return None
        age = self._clock() - answer.at
        if age < self._fresh_for:
            return answer.throttled
        if age < self._stale_for:
            self._question(identity)
            return answer.throttled
        return None

    def is_throttled(self, identity: IdentityKey) -> bool:
        """For threads: waits for the answer within the bound."""
        known = self.known(identity)
        if known is not None:
            return known
        try:
            return self._question(identity).result(self._bound)
        except TimeoutError:
            return self._too_late(identity)

    async def is_throttled_async(self, identity: IdentityKey) -> bool:
        """For coroutines."""
        known = self.known(identity)
        if known is not None:
            return known
        answer = asyncio.wrap_future(self._question(identity))
        await asyncio.wait([answer], timeout=self._bound)
        return answer.result() if answer.done() else self._too_late(identity)

    def _too_late(self, identity: IdentityKey) -> bool:
        self._late.add(" / ".join(identity))
        return False

    def _question(self, identity: IdentityKey) -> "Future[bool]":
        with self._lock:
            if (under_way := self._asking.get(identity)) is not None:
                return under_way
            question = _Question(identity)
            self._asking[identity] = question.answer
        if self._pause.active() or not self.outbox.put(question):
            self._settle(question, throttled=False, remember=False)
        return question.answer

    def _answer(self, question: _Question) -> None:
        """On a thread of the outbox, which logs and counts what is raised here."""
        if self._pause.active():
            self._settle(question, throttled=False, remember=False)
            return
        throttled = False
        began = self._clock()
        try:
            throttled = self._ask(question.identity)
        except Exception:
            self._pause.failed()
            raise
        else:
            if self._clock() - began > self._bound:
                self._pause.failed()  # it answers, but nobody can wait that long
            else:
                self._pause.answered()
        finally:
            self._settle(question, throttled=throttled, remember=True)

    def _settle(self, question: _Question, *, throttled: bool, remember: bool) -> None:
        with self._lock:
            self._asking.pop(question.identity, None)
            if remember:
                self._answers[question.identity] = _Answer(throttled, self._clock())
                self._answers.move_to_end(question.identity)
                while len(self._answers) > self._remembered:
                    self._answers.popitem(last=False)
        question.answer.set_result(throttled)
