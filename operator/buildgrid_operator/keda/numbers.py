"""What the planner said of each fleet: kept by passes, read by the scaler and by metrics."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from buildgrid_scheduler.core.clock import Clock, utc_now

from buildgrid_operator.cluster.kinds import BOT_FLEET, Manifest, ObjectRef
from buildgrid_operator.keda.answers import (
    Decided,
    Refused,
    Target,
    Why,
    bots_of,
    check_mode,
)
from buildgrid_operator.planner.plan import FleetPlan
from buildgrid_operator.reconcile.farm_key import scheduler_of
from buildgrid_operator.reconcile.fleet_preparing import Prepared
from buildgrid_operator.reconcile.fleet_steps import Done


@dataclass(frozen=True, slots=True)
class _Entry:
    decided: Decided
    scheduler: ObjectRef | None


class FleetNumbers:
    """Thread-safe."""

    def __init__(
        self,
        find: Callable[[ObjectRef], Manifest | None],
        heard: Callable[[ObjectRef], datetime | None],
        blind: Callable[[], str | None],
        clock: Clock = utc_now,
    ) -> None:
        """`find`: a BotFleet as the cluster has it. `heard`: when a Scheduler last told what waits.

        `blind`: why `find` does not see all; None: it does.
        """
        self._find = find
        self._heard = heard
        self._blind = blind
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[ObjectRef, _Entry] = {}
        self._listeners: dict[int, tuple[ObjectRef, Callable[[], None]]] = {}
        self._next = 0

    def seen(self, each: Prepared, plan: FleetPlan, done: Done, figures: Mapping[str, Any]) -> None:
        """A pass ended."""
        self.decided(each.read.ref, scheduler_of(each.read.obj), plan.for_work)

    def decided(self, ref: ObjectRef, scheduler: ObjectRef | None, bots: int | None) -> None:
        """So many are needed now, by the state of this Scheduler; None: its state is not known."""
        with self._lock:
            self._entries[ref] = _Entry(Decided(bots, self._clock()), scheduler)
        self._tell(ref)

    def gone(self, ref: ObjectRef) -> None:
        """There is no such fleet any more."""
        with self._lock:
            self._entries.pop(ref, None)
        self._tell(ref)

    def check(self, target: Target) -> None:
        """Raises Refused for a fleet that there is not, or that is not for autoscalers."""
        obj = self._find(_ref(target))
        if obj is None and (blind := self._blind()) is not None:
            raise Refused(Why.NOT_KNOWN, f"the cluster is not seen: {blind}")
        mode = None if obj is None else (obj["spec"].get("scaling") or {}).get("mode", "Auto")
        check_mode(target, mode)

    def bots(self, target: Target) -> int:
        """That its work needs. Raises Refused, also where that is not known at the moment."""
        self.check(target)
        return self._bots(_ref(target), target)

    def known(self) -> dict[ObjectRef, int]:
        """Of all fleets, whatever their mode, whose number is known at the moment."""
        with self._lock:
            refs = list(self._entries)
        found = {}
        for ref in refs:
            try:
                found[ref] = self._bots(ref, Target(ref.namespace, ref.name))
            except Refused:
                continue
        return found

    @contextmanager
    def listening(self, target: Target, changed: Callable[[], None]) -> Iterator[None]:
        """Meanwhile `changed` is called, on any thread, whenever there is something new of a fleet."""
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._listeners[number] = (_ref(target), changed)
        try:
            yield
        finally:
            with self._lock:
                del self._listeners[number]

    def _bots(self, ref: ObjectRef, target: Target) -> int:
        with self._lock:
            entry = self._entries.get(ref)
        scheduler = entry.scheduler if entry is not None else None
        heard = self._heard(scheduler) if scheduler is not None else None
        return bots_of(target, entry.decided if entry is not None else None, heard, self._clock())

    def _tell(self, ref: ObjectRef) -> None:
        with self._lock:
            listeners = [changed for about, changed in self._listeners.values() if about == ref]
        for changed in listeners:
            changed()


def _ref(target: Target) -> ObjectRef:
    return ObjectRef(BOT_FLEET, target.namespace, target.name)
