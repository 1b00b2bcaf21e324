"""Who acts: the holder of a Lease. One at a time, another one within seconds after it is gone.

As client-go's leader election: the holder renews the Lease every 2 s; whoever sees it unchanged for its
duration (15 s, by the own clock, so that clocks need not agree) takes it. A holder that could not renew it
for 10 s has lost it, which ends the process: it must be gone before another one begins.
"""

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from buildgrid_scheduler.core.clock import Clock, utc_now

from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError, Conflict, NotFound
from buildgrid_operator.cluster.kinds import LEASE, Manifest

_log = logging.getLogger(__name__)
T = TypeVar("T")
_SHORTEST_WAIT = 0.01


class LeadershipLost(Exception):
    """Somebody else may act now: end the process."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a Lease is good without a renewal, how long its holder tries to renew it, and how often."""

    duration: timedelta = timedelta(seconds=15)
    renew_deadline: timedelta = timedelta(seconds=10)
    retry: timedelta = timedelta(seconds=2)

    def __post_init__(self) -> None:
        if not self.duration > self.renew_deadline > self.retry > timedelta(0):
            raise ValueError("a Lease needs duration > renew_deadline > retry > 0")


@dataclass(frozen=True, slots=True)
class LeaseView:
    """What a Lease says."""

    holder: str
    renewed: str
    transitions: int
    duration: timedelta
    acquired: str = ""

    @classmethod
    def of(cls, lease: Manifest) -> "LeaseView":
        """Of the object."""
        spec: dict[str, Any] = lease.get("spec") or {}
        return cls(
            spec.get("holderIdentity") or "",
            spec.get("renewTime") or "",
            int(spec.get("leaseTransitions") or 0),
            timedelta(seconds=int(spec.get("leaseDurationSeconds") or 0)),
            spec.get("acquireTime") or "",
        )


@dataclass(frozen=True, slots=True)
class Observation:
    """A Lease as it was seen, and since when it has not changed, by the own clock (seconds)."""

    view: LeaseView
    since: float


def observe(last: Observation | None, view: LeaseView, now: float) -> Observation:
    """A Lease that says what it said before has not been renewed since."""
    return last if last is not None and last.view == view else Observation(view, now)


def may_take(seen: Observation, identity: str, now: float) -> bool:
    """Whether `identity` may write itself into the Lease: it is free, its own, or was not renewed in time."""
    view = seen.view
    return view.holder in ("", identity) or now - seen.since >= view.duration.total_seconds()


def own_identity() -> str:
    """The pod's name (POD_NAME), with which a restarted container leads on at once; else something unique."""
    pod = os.environ.get("POD_NAME")
    return pod or f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"


class Leadership:
    """A candidate. `await acquire()`, then `await hold()` while it leads, in the end `await release()`.

    Calls are made on a thread of its own: that all others are busy must not cost the Lease.
    """

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        *,
        timing: Timing | None = None,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._timing = timing or Timing()
        # Two attempts fit into the deadline.
        self._client = client.within(self._timing.renew_deadline / 2)
        self._namespace = namespace
        self._name = name
        self.identity = identity
        self._clock = clock
        self._monotonic = monotonic
        self._sleep = sleep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="leadership")
        self._seen: Observation | None = None
        self._lease: Manifest | None = None
        self._renewed = 0.0

    @property
    def leads(self) -> bool:
        """Whether it holds the Lease, and renewed it in time."""
        age = self._monotonic() - self._renewed
        return self._lease is not None and age < self._timing.renew_deadline.total_seconds()

    @property
    def holder(self) -> str:
        """Who holds the Lease as far as is known; empty for nobody."""
        return self._seen.view.holder if self._seen is not None else ""

    async def acquire(self) -> None:
        """Wait until it leads."""
        holder = None
        while True:
            try:
                if await self._on_thread(self._try_to_take):
                    _log.info("leads, as %s", self.identity)
                    return
            except ClusterError as error:
                _log.warning("the Lease %s/%s: %s", self._namespace, self._name, error)
            if self.holder != holder:
                holder = self.holder
                _log.info("waits: %s leads", holder or "nobody")
            await self._sleep(self._until_next_look())

    async def hold(self) -> None:
        """Renew the Lease until it is lost, then raise LeadershipLost. Cancel it to stop."""
        while True:
            await self._sleep(self._timing.retry.total_seconds())
            if not self.leads:
                # The process stood still: whatever the Lease says, another one may have acted meanwhile.
                self._lose("it was not renewed in time")
            try:
                await self._on_thread(self._renew)
            except (Conflict, NotFound) as error:
                if not await self._still_ours():
                    self._lose(str(error))
            except ClusterError as error:
                _log.warning("the Lease %s/%s was not renewed: %s", self._namespace, self._name, error)
            if not self.leads:
                self._lose("it was not renewed in time")

    async def release(self) -> None:
        """Let the next one lead at once. To be called when nothing of this one acts any more."""
        try:
            # On the thread: a renewal that `hold` was cancelled in is finished first, and known.
            await self._on_thread(self._free)
        except ClusterError as error:
            _log.warning("the Lease was not released, and runs out by itself: %s", error)
        finally:
            self._thread.shutdown(wait=False)

    def _until_next_look(self) -> float:
        """As often as the holder renews it, and at the moment when it runs out."""
        retry = self._timing.retry.total_seconds()
        if self._seen is None:
            return retry
        left = self._seen.since + self._seen.view.duration.total_seconds() - self._monotonic()
        return min(retry, max(left, _SHORTEST_WAIT)) if left > 0 else retry

    def _lose(self, why: str) -> None:
        self._lease = None
        raise LeadershipLost(f"the Lease {self._namespace}/{self._name} is lost: {why}")

    def _try_to_take(self) -> bool:
        begun = self._monotonic()
        lease = self._client.find(LEASE, self._namespace, self._name)
        if lease is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            fresh = {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": metadata}
            return self._took(lambda: self._client.create(self._held(fresh, 0)), begun)
        self._seen = observe(self._seen, LeaseView.of(lease), begun)
        if not may_take(self._seen, self.identity, begun):
            return False
        view = self._seen.view
        transitions = view.transitions + (view.holder != self.identity)
        return self._took(lambda: self._client.replace(self._held(lease, transitions)), begun)

    def _took(self, write: Callable[[], Manifest], begun: float) -> bool:
        try:
            lease = write()
        except Conflict:
            return False  # somebody else was faster
        self._keep(lease, begun)
        return True

    def _renew(self) -> None:
        begun = self._monotonic()
        lease = self._lease
        if lease is None:
            raise Conflict("it is not held")
        spec = {**lease["spec"], "renewTime": _micro_time(self._clock())}
        self._keep(self._client.replace({**lease, "spec": spec}), begun)

    def _free(self) -> None:
        lease, self._lease = self._lease, None
        if lease is None or lease["spec"].get("holderIdentity") != self.identity:
            return
        try:
            self._client.replace(self._freed(lease))
        except Conflict:
            # The answer of a renewal was lost, or somebody edited labels.
            current = self._client.find(LEASE, self._namespace, self._name)
            if current is None or LeaseView.of(current).holder != self.identity:
                return
            self._client.replace(self._freed(current))
        _log.info("leads no longer: the Lease is free")

    async def _still_ours(self) -> bool:
        """After a conflict: an attempt whose answer was lost, or a hand-made edit of labels, is no loss."""
        begun = self._monotonic()
        try:
            lease = await self._on_thread(lambda: self._client.find(LEASE, self._namespace, self._name))
        except ClusterError as error:
            _log.warning("the Lease %s/%s was not read: %s", self._namespace, self._name, error)
            return True  # not known; the deadline decides
        if lease is None or LeaseView.of(lease).holder != self.identity:
            return False
        # It is not renewed by that: only the next write is.
        self._seen = observe(self._seen, LeaseView.of(lease), begun)
        self._lease = lease
        return True

    def _keep(self, lease: Manifest, begun: float) -> None:
        """The Lease is good from when the call was begun: the answer may have been slow."""
        self._lease = lease
        self._renewed = begun
        self._seen = observe(self._seen, LeaseView.of(lease), begun)

    def _held(self, lease: Manifest, transitions: int) -> Manifest:
        now = _micro_time(self._clock())
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": int(self._timing.duration.total_seconds()),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        return {**lease, "spec": spec}

    def _freed(self, lease: Manifest) -> Manifest:
        now = _micro_time(self._clock())
        return {
            **lease,
            "spec": {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": now},
        }

    async def _on_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _micro_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
