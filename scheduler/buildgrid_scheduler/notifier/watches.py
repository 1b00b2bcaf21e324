"""Who follows which job on this replica."""

import asyncio
import threading
from collections.abc import Iterable
from dataclasses import replace

from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.notifier.delivery import Delivery
from buildgrid_scheduler.notifier.waits import done_within


class Watch:
    """One client that follows an operation. Costs an object, not a thread.

    Belongs to an event loop: `push` and `next` are called there.
    """

    __slots__ = ("_event", "closed", "dropped", "job_name", "loop", "operation_name", "stale", "state")

    def __init__(self, operation_name: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.operation_name = operation_name
        self.state: JobState | None = None
        self.stale = False
        """something changed that was not told: load the operation"""
        self.closed = False
        """this replica stops: the client has to go elsewhere"""
        self.job_name: str | None = None
        """the job that is followed; set by `Watches`, as `dropped` is"""
        self.dropped = False
        self._event: asyncio.Future[None] | None = None

    def push(self, state: JobState | None) -> None:
        """The job has this state now; None: it has changed, load it."""
        if self.state is not None and self.state.stage is Stage.COMPLETED:
            return
        if state is None:
            self.stale = True
            self._wake()
            return
        known = self.state
        if known is not None and not (state.stdout_stream_name or state.stderr_stream_name):
            stdout, stderr = known.stdout_stream_name, known.stderr_stream_name
            if stdout or stderr:
                # Who tells of a change of stage does not know the streams, which stay what they were.
                state = replace(state, stdout_stream_name=stdout, stderr_stream_name=stderr)
        if state == self.state:
            return
        # It stays stale: what was not told may be newer than this, which took another way.
        self.state = state
        self._wake()

    def close(self) -> None:
        """Send the client elsewhere."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        if self._event is not None and not self._event.done():
            self._event.set_result(None)

    async def changed(self, timeout: float) -> bool:
        """Wait for the next push after `arm`; False when none came in `timeout` seconds."""
        if self._event is None:
            raise RuntimeError("arm the watch first")
        return await done_within(self._event, timeout)

    def arm(self) -> None:
        """From now on a push is noticed by `changed`."""
        self._event = self.loop.create_future()


class Watches:
    """All watches of this replica, by job. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_job: dict[str, set[Watch]] = {}

    def add(self, job_name: str, watch: Watch) -> None:
        """Follow a job from now on; not if the watch was dropped."""
        with self._lock:
            if watch.dropped:
                return
            watch.job_name = job_name
            self._by_job.setdefault(job_name, set()).add(watch)

    def discard(self, job_name: str, watch: Watch) -> None:
        """Follow it no longer."""
        with self._lock:
            watches = self._by_job.get(job_name)
            if watches is not None:
                watches.discard(watch)
                if not watches:
                    del self._by_job[job_name]

    def drop(self, watch: Watch) -> None:
        """Nobody is interested any more, whatever job the watch is on or is about to be put on."""
        with self._lock:
            watch.dropped = True
            job_name = watch.job_name
        if job_name is not None:
            self.discard(job_name, watch)

    def publish(self, job_name: str, state: JobState | None, delivery: Delivery) -> None:
        """Tell all who follow the job."""
        if job_name not in self._by_job:
            return
        with self._lock:
            watches = list(self._by_job.get(job_name, ()))
        for watch in watches:
            delivery.call(watch.loop, watch.push, state)

    def publish_all_stale(self, jobs: Iterable[str] | None, delivery: Delivery) -> None:
        """These jobs, or all, may have changed."""
        with self._lock:
            names = list(self._by_job) if jobs is None else [j for j in jobs if j in self._by_job]
        for name in names:
            self.publish(name, None, delivery)

    def close_all(self, delivery: Delivery) -> None:
        """Send all clients elsewhere."""
        with self._lock:
            watches = [watch for job in self._by_job.values() for watch in job]
        for watch in watches:
            delivery.call(watch.loop, watch.close)

    def operations(self) -> list[str]:
        """The operations that are followed here and not known to be done."""
        with self._lock:
            watches = [watch for job in self._by_job.values() for watch in job]
        done = Stage.COMPLETED
        return [w.operation_name for w in watches if w.state is None or w.state.stage is not done]

    @property
    def jobs(self) -> int:
        """How many jobs are followed."""
        return len(self._by_job)
