"""The state of the farm, for those who watch it: read by one task for all that watch the same instances.

It is read when this replica has changed it, and every quarter of a second in case another one has: what
other replicas do is seen without their help. But for who begins to watch, no read begins before ten times
what the last one took is over, so that it costs a tenth of a core at most, however large the farm is. Where
nobody watches, nothing is read.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import FleetState

from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.engine.farm_changes import FarmChanges
from buildgrid_scheduler.fleet.state import FarmSnapshot
from buildgrid_scheduler.services.fleet_messages import at_moment_of, state_message

Instances = tuple[str, ...]
ReadFarm = Callable[[Instances], FarmSnapshot]


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds."""

    least: float = 0.1
    """between two messages, and between two reads"""
    poll: float = 0.25
    """between two reads, when nothing is known to have changed"""
    rest: float = 10.0
    """a read is begun no earlier than so many times what the last one took after that one began"""
    heartbeat: float = 5.0
    """until the state is told again, though it has not changed"""
    patience: float = 5.0
    """with a database that does not answer"""

    def next_read(self, took: float, *, changed: bool) -> float:
        """After the beginning of a read that took so long. `changed`: something is known to have."""
        return max(self.least if changed else self.poll, self.rest * took)


class FarmWatches:
    """All who watch, on one event loop. `stop` from any thread; everything else on the loop."""

    def __init__(self, read: ReadFarm, changes: FarmChanges, pace: Pace | None = None) -> None:
        """`read` may block. `changes`: what this replica does."""
        self._read = read
        self._changes = changes
        self._pace = pace or Pace()
        self._readers: dict[Instances, _Reader] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = False
        # Not that of other services: a database that does not answer may keep the thread for long.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="fleet-watch")
        self._leaving = False

    @contextmanager
    def watching(self, instances: Instances) -> Iterator["Feed"]:
        """The state of these instances, until the block ends. Raises Unavailable if this replica stops."""
        if self._leaving:
            raise _leaving()
        if not self._readers:
            self._loop = asyncio.get_running_loop()
            self._changes.listen(self._changed)
        reader = self._readers.get(instances)
        if reader is None or reader.failure is not None:
            reader = self._readers[instances] = _Reader(self._read, instances, self._executor, self._pace)
        feed = Feed(reader, self._pace)
        reader.join(feed)
        try:
            yield feed
        finally:
            reader.leave(feed)
            if not reader.feeds and self._readers.get(instances) is reader:
                del self._readers[instances]
            if not self._readers:
                self._changes.ignore(self._changed)

    def send_elsewhere(self) -> None:
        """Whoever watches gets Unavailable at once, and finds another replica."""
        self._leaving = True
        for reader in list(self._readers.values()):
            reader.fail(_leaving())

    def stop(self) -> None:
        """Wait for the read that runs, if any."""
        self._executor.shutdown(cancel_futures=True)

    def _changed(self) -> None:
        """On a thread of the engine. One call wakes the loop, however many come before it has woken."""
        if self._told or self._loop is None:
            return
        self._told = True
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the loop is closed: nobody watches any more
            return

    def _wake(self) -> None:
        self._told = False
        for reader in self._readers.values():
            reader.changed()


class _Reader:
    """Reads the state of some instances again and again, while there are feeds."""

    def __init__(
        self, read: ReadFarm, instances: Instances, executor: ThreadPoolExecutor, pace: Pace
    ) -> None:
        self.feeds: set[Feed] = set()
        self.failure: Exception | None = None
        self.begun = 0
        """reads so far"""
        self.latest: _Latest | None = None
        self._read_farm = read
        self._instances = instances
        self._executor = executor
        self._pace = pace
        self._news = asyncio.Event()
        self._something_changed = False
        self._at_once = False
        self._task: asyncio.Task[None] | None = None

    def join(self, feed: "Feed") -> None:
        """It is told what is read from now on: at once, whatever was read before."""
        self.feeds.add(feed)
        self._at_once = True
        self._news.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def leave(self, feed: "Feed") -> None:
        """The last one ends the reading."""
        self.feeds.discard(feed)
        if not self.feeds and self._task is not None:
            self._task.cancel()

    def changed(self) -> None:
        """By this replica."""
        if not self._something_changed:
            self._something_changed = True
            self._news.set()

    def fail(self, failure: Exception) -> None:
        """All feeds end with this."""
        self.failure = self.failure or failure
        for feed in self.feeds:
            feed.news.set()

    async def _run(self) -> None:
        took = 0.0
        began = time.monotonic()
        try:
            while True:
                await self._until_due(began, took)
                self._at_once = self._something_changed = False
                self.begun += 1
                began = time.monotonic()
                self.latest = await self._read()
                took = time.monotonic() - began
                for feed in self.feeds:
                    feed.news.set()
        except Exception as error:  # noqa: BLE001 - for those who watch: the calls end with it
            self.fail(error)

    async def _until_due(self, began: float, took: float) -> None:
        while not self._at_once:
            due = began + self._pace.next_read(took, changed=self._something_changed)
            left = due - time.monotonic()
            if left <= 0:
                return
            self._news.clear()
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                return

    async def _read(self) -> "_Latest":
        job = asyncio.get_running_loop().run_in_executor(
            self._executor, _read_and_tell, self._read_farm, self._instances, self.begun, self.latest
        )
        try:
            async with asyncio.timeout(self._pace.patience):
                return await job
        except TimeoutError:
            raise Unavailable("the database does not answer; try again") from None


@dataclass(slots=True)
class _Latest:
    """What was read last."""

    read: int
    """its number among the reader's reads, from 1"""
    version: int
    """another one: the state has changed"""
    snapshot: FarmSnapshot
    _message: FleetState
    _up_to_date: bool

    def message(self) -> FleetState:
        """Shared by all feeds: not to be changed."""
        if not self._up_to_date:
            self._message, self._up_to_date = at_moment_of(self.snapshot, self._message), True
        return self._message

    @classmethod
    def after(cls, before: "_Latest | None", read: int, snapshot: FarmSnapshot) -> "_Latest":
        """The message is made anew only where the state is another one: that takes as long as reading it."""
        if before is not None and before.snapshot.state == snapshot.state:
            return cls(read, before.version, snapshot, before._message, _up_to_date=False)
        return cls(read, read, snapshot, state_message(snapshot), _up_to_date=True)


def _read_and_tell(read_farm: ReadFarm, instances: Instances, read: int, before: _Latest | None) -> _Latest:
    return _Latest.after(before, read, read_farm(instances))


class Feed:
    """The state, for one who watches. Keeps nothing: who is slow is told the newest state alone."""

    def __init__(self, reader: _Reader, pace: Pace) -> None:
        self.news = asyncio.Event()
        self._reader = reader
        self._pace = pace
        self._first_read = reader.begun + 1
        self._version = 0
        self._told_at = 0.0

    async def next(self) -> FleetState:
        """Once the state has changed, or the heartbeat is due; the first time as soon as it is read.

        Raises Unavailable when the database does not answer, or this replica stops.
        """
        while self._reader.failure is None:
            self.news.clear()
            left = None
            latest = self._reader.latest
            if latest is not None and latest.read >= self._first_read:
                wait = self._pace.heartbeat if latest.version == self._version else self._pace.least
                left = self._told_at + wait - time.monotonic() if self._version else 0.0
                if left <= 0:
                    self._version, self._told_at = latest.version, time.monotonic()
                    return latest.message()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self.news.wait()
        raise self._reader.failure


def _leaving() -> Unavailable:
    return Unavailable("this replica is shutting down; watch another one")
