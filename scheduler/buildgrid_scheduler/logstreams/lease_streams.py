"""Makes log streams for leases that bots are told of, without ever holding a lease up for long.

A bot learns where to stream from the answer that first tells it of the lease, so the streams are made before
that answer is sent: on threads of their own, while nothing is locked, and within a bound. When that fails,
or takes too long, the job runs without streams.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass, field

from buildgrid_scheduler.core.job_streams import JobStreams
from buildgrid_scheduler.logstreams.client import LogStreams
from buildgrid_scheduler.outgoing.outbox import Outbox
from buildgrid_scheduler.outgoing.pause import Pause

log = logging.getLogger(__name__)

Store = Callable[[str, str, str, JobStreams], bool]
"""(instance, session, job, streams): keeps the names, for clients to see; False when the lease is gone"""


@dataclass(slots=True)
class _Request:
    instance: str
    session: str
    job: str
    deadline: float
    """monotonic: nobody waits any more"""
    outcome: "Future[JobStreams | None]" = field(default_factory=Future)


class LeaseStreams:
    """Both doors are here: `of_new_leases` for coroutines, `request` and `settle` for threads."""

    def __init__(
        self,
        streams: LogStreams,
        store: Store,
        *,
        bound: float = 2.0,
        threads: int = 4,
        capacity: int = 1_000,
        pause: Pause | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`bound`: seconds for which an answer to a bot waits for streams at most.

        At most `capacity` leases wait for one of `threads` threads; more than that run without streams.
        `store` is called on these threads and may block.
        """
        self._streams = streams
        self._store = store
        self._bound = bound
        self._pause = pause or Pause()
        self._clock = clock
        self._under_way: dict[str, Future[JobStreams | None]] = {}
        self.outbox: Outbox[_Request] = Outbox("log-streams", self._make, capacity=capacity, threads=threads)

    def start(self) -> None:
        """Start the client and the threads."""
        self._streams.start()
        self.outbox.start()

    def stop(self) -> None:
        """End after what is under way."""
        self.outbox.stop(self._bound)
        self._streams.stop()

    def request(self, instance: str, session: str, job: str) -> "Future[JobStreams | None]":
        """Have streams made for a lease that a session is told of; returns at once.

        The outcome is None, never an error, when the job is to run without.
        """
        request = _Request(instance, session, job, self._clock() + self._bound)
        request.outcome.set_running_or_notify_cancel()  # who waits no more must not cancel it
        if self._pause.active() or not self.outbox.put(request):
            request.outcome.set_result(None)
            return request.outcome
        self._under_way[job] = request.outcome
        request.outcome.add_done_callback(lambda done: self._forget(job, done))
        return request.outcome

    async def of_new_leases(
        self, instance: str, session: str, jobs: Iterable[str]
    ) -> Mapping[str, JobStreams]:
        """Streams, by job, for leases that a session is told of; of those only that were made in time."""
        outcomes = {job: self.request(instance, session, job) for job in jobs}
        if waiting := [asyncio.wrap_future(outcome) for outcome in outcomes.values() if not outcome.done()]:
            await asyncio.wait(waiting, timeout=self._bound)
        made = {job: outcome.result() for job, outcome in outcomes.items() if outcome.done()}
        return {job: streams for job, streams in made.items() if streams is not None}

    def settle(self, jobs: Iterable[str]) -> None:
        """Wait for the streams of these jobs that are being made, within the bound."""
        under_way = [outcome for job in jobs if (outcome := self._under_way.get(job)) is not None]
        if under_way:
            wait(under_way, timeout=self._bound)

    def _forget(self, job: str, outcome: "Future[JobStreams | None]") -> None:
        if self._under_way.get(job) is outcome:
            with suppress(KeyError):
                del self._under_way[job]

    def _make(self, request: _Request) -> None:
        """On a thread of the outbox, which logs and counts what is raised here."""
        streams = None
        try:
            if self._clock() < request.deadline and not self._pause.active():
                streams = self._create(request)
        finally:
            request.outcome.set_result(streams)

    def _create(self, request: _Request) -> JobStreams | None:
        try:
            streams = self._streams.create(request.instance)
        except Exception:
            self._pause.failed()
            raise
        self._pause.answered()
        # Whoever waited has gone: a stream that the bot does not know of would leave its readers waiting.
        if self._clock() >= request.deadline:
            log.info("log streams of job %s were made too late, it runs without", request.job)
            return None
        kept = self._store(request.instance, request.session, request.job, streams)
        return streams if kept else None
