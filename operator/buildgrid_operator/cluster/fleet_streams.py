"""What Schedulers push: a thread for each one that is followed keeps its newest state."""

import logging
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Protocol

from buildgrid_scheduler.core.clock import Clock, utc_now

from buildgrid_operator.cluster.fleet import Cancellable, FleetError
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.cluster.kinds import ObjectRef
from buildgrid_operator.desired.endpoints import FleetAddress

_log = logging.getLogger(__name__)
SILENT_AFTER = timedelta(seconds=20)
"""A stream that says nothing for so long is begun anew: one comes every 5 s, whatever happens."""
_BEHIND = timedelta(seconds=5)
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 5.0


class Source(Protocol):
    """The client of the Fleet service."""

    def watch(self, address: FleetAddress, begun: Callable[[Cancellable], None]) -> Iterator[FleetState]:
        """See `FleetClient.watch`."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The newest that a Scheduler has told."""

    state: FleetState | None = None
    """None: nothing yet"""
    at: datetime | None = None
    """when it came, by our clock"""
    problem: str | None = None
    """why nothing comes; None: it does"""


class FleetStreams:
    """Thread-safe."""

    def __init__(
        self,
        source: Source,
        changed: Callable[[ObjectRef], None],
        *,
        clock: Clock = utc_now,
        randomness: Callable[[], float] = random.random,
    ) -> None:
        """`changed` is told, on a stream's thread, that a Scheduler has told something new, or nothing."""
        self._source = source
        self._changed = changed
        self._clock = clock
        self._randomness = randomness
        self._lock = threading.Lock()
        self._streams: dict[ObjectRef, _Stream] = {}

    def follow(self, scheduler: ObjectRef, address: FleetAddress) -> Heard:
        """What a Scheduler told last. From now on it is listened to, at this address."""
        with self._lock:
            stream = self._streams.get(scheduler)
            if stream is None or stream.address != address:
                if stream is not None:
                    stream.end()
                stream = self._streams[scheduler] = _Stream(
                    self._source,
                    address,
                    lambda: self._changed(scheduler),
                    self._clock,
                    self._randomness,
                )
                stream.start()
        return stream.heard()

    def heard_at(self, scheduler: ObjectRef) -> datetime | None:
        """When a Scheduler told last, by our clock; None: never, or it is not listened to."""
        with self._lock:
            stream = self._streams.get(scheduler)
        return None if stream is None else stream.heard().at

    def unfollow(self, scheduler: ObjectRef) -> None:
        """It has no fleets any more."""
        with self._lock:
            stream = self._streams.pop(scheduler, None)
        if stream is not None:
            stream.end()

    def stop(self) -> None:
        """Listen to nobody any more. Does not wait."""
        with self._lock:
            streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.end()


class _Stream:
    """One Scheduler."""

    def __init__(
        self,
        source: Source,
        address: FleetAddress,
        changed: Callable[[], None],
        clock: Clock,
        randomness: Callable[[], float],
    ) -> None:
        self.address = address
        self._source = source
        self._changed = changed
        self._clock = clock
        self._randomness = randomness
        self._lock = threading.Lock()
        self._heard = Heard()
        self._ended = threading.Event()
        self._call: Cancellable | None = None
        self._since = clock()
        """when the present call began"""
        self._thread = threading.Thread(target=self._run, name=f"fleet of {address.name}", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def end(self) -> None:
        """Listen no more."""
        self._ended.set()
        self._cancel()

    def heard(self) -> Heard:
        """The newest. One that has been silent for long is asked anew."""
        now = self._clock()
        with self._lock:
            heard, last = self._heard, max(self._since, self._heard.at or self._since)
            silent = self._call is not None and now - last > SILENT_AFTER
            if silent:
                self._since = now
        if silent:
            _log.warning("%s has said nothing for %s: it is asked anew", self.address.endpoint, now - last)
            self._cancel()
        return heard

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._ended.is_set():
            before = self._heard.at
            problem = self._listen()
            if self._ended.is_set():
                return
            if self._heard.at != before:
                pause = _FIRST_PAUSE
            if self._tell(replace(self._heard, problem=problem)):
                _log.warning("the state of the farm does not come: %s", problem)
            # Not all operators' streams at once, when a scheduler comes back.
            self._ended.wait(pause * (0.5 + self._randomness() / 2))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _listen(self) -> str:
        """Until it ends. Returns why."""
        try:
            for state in self._source.watch(self.address, self._began):
                now = self._clock()
                if not _is_behind(state, self._heard, now):
                    self._tell(Heard(state, now))
            return f"{self.address.endpoint}: the stream ended"
        except FleetError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - a stream that died would never be heard of again
            _log.exception("the stream of %s failed", self.address.endpoint)
            return f"{self.address.endpoint}: {type(error).__name__}: {error}"
        finally:
            with self._lock:
                self._call = None

    def _began(self, call: Cancellable) -> None:
        with self._lock:
            self._call, self._since = call, self._clock()
        if self._ended.is_set():
            call.cancel()

    def _cancel(self) -> None:
        with self._lock:
            call = self._call
        if call is not None:
            call.cancel()

    def _tell(self, heard: Heard) -> bool:
        """Whether it is news."""
        with self._lock:
            news = _essence(self._heard) != _essence(heard)
            self._heard = heard
        if news:
            self._changed()
        return news


def _is_behind(state: FleetState, heard: Heard, now: datetime) -> bool:
    """Whether another replica has told something newer. Not for long: the database may be another one now."""
    newest = heard.state.revision if heard.state is not None else 0
    return state.revision < newest and heard.at is not None and now - heard.at < _BEHIND


def _essence(heard: Heard) -> tuple[FleetState | None, str | None]:
    """Without what a heartbeat changes."""
    state = heard.state
    return (None if state is None else replace(state, revision=0, time=None)), heard.problem
