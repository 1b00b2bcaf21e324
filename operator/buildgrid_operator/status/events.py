"""Which events are sent: one for the first time, then a count, never one for each pass.

An event is about an object, an action and a reason. It comes again within ten minutes as a series of the same
event (events.k8s.io/v1), which is written when the object's pair of action and reason changes, otherwise at
most once in the ten minutes.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from buildgrid_operator.status.messages import printable

WINDOW = timedelta(minutes=10)
SERIES_SPACING = timedelta(minutes=1)
"""between two writes of one series, however often the object goes back and forth"""
CONTROLLER = "buildgrid.build/operator"
_OBJECT_NAME_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Regarding:
    """The object that an event is about."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that the operator did or found. `action` and `reason` are words in CamelCase."""

    regarding: Regarding
    type: Literal["Normal", "Warning"]
    action: str
    reason: str
    note: str


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to create."""

    name: str
    happening: Happening
    at: datetime

    def manifest(self, instance: str) -> dict[str, Any]:
        """The object. `instance`: which replica of the operator says it."""
        what = self.happening
        about = what.regarding
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": self.name, "namespace": about.namespace or "default"},
            "eventTime": micro_time(self.at),
            "type": what.type,
            "action": what.action,
            "reason": what.reason,
            "note": printable(what.note),
            "reportingController": CONTROLLER,
            "reportingInstance": instance[:128],
            "regarding": {
                "apiVersion": about.api_version,
                "kind": about.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
            },
        }


@dataclass(frozen=True, slots=True)
class EventSeries:
    """An event that happened again: `count` times in all, lastly `at`."""

    name: str
    namespace: str
    count: int
    at: datetime
    first: NewEvent
    """what to create when the event is gone by now"""

    def patch(self) -> dict[str, Any]:
        """A merge patch of the event."""
        return {"series": {"count": self.count, "lastObservedTime": micro_time(self.at)}}


EventWrite = NewEvent | EventSeries
_Pair = tuple[str, str]


@dataclass(slots=True)
class _Told:
    first: NewEvent
    count: int
    last_seen: datetime
    written_count: int
    last_written: datetime


@dataclass(slots=True)
class _OfObject:
    current: _Pair | None = None
    told: dict[_Pair, _Told] = field(default_factory=dict)


class EventAggregator:
    """What was told of each object. Not thread-safe."""

    def __init__(self, window: timedelta = WINDOW, spacing: timedelta = SERIES_SPACING) -> None:
        self._window = window
        self._spacing = spacing
        self._objects: dict[str, _OfObject] = {}

    def record(self, happening: Happening, now: datetime) -> EventWrite | None:
        """Something happened. Returns what to send of it, if anything."""
        of_object = self._objects.setdefault(happening.regarding.uid, _OfObject())
        pair = (happening.action, happening.reason)
        changed = of_object.current != pair
        of_object.current = pair
        told = of_object.told.get(pair)
        if told is None or now - told.last_seen > self._window:
            event = NewEvent(_event_name(happening, now), happening, now)
            of_object.told[pair] = _Told(event, 1, now, 1, now)
            return event
        told.count += 1
        told.last_seen = now
        spacing = self._spacing if changed else self._window
        return self._series(told, now) if now - told.last_written >= spacing else None

    def flush(self, now: datetime) -> list[EventWrite]:
        """Counts that were not written for a window; what did not happen for a window is forgotten."""
        writes: list[EventWrite] = []
        for uid, of_object in list(self._objects.items()):
            for pair, told in list(of_object.told.items()):
                if told.count > told.written_count and now - told.last_written >= self._window:
                    writes.append(self._series(told, now))
                if now - told.last_seen > self._window:
                    del of_object.told[pair]
            if not of_object.told:
                del self._objects[uid]
        return writes

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._objects.pop(uid, None)

    @staticmethod
    def _series(told: _Told, now: datetime) -> EventSeries:
        told.written_count = told.count
        told.last_written = now
        namespace = told.first.happening.regarding.namespace or "default"
        return EventSeries(told.first.name, namespace, told.count, told.last_seen, told.first)


def micro_time(moment: datetime) -> str:
    """A MicroTime of the API."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _event_name(happening: Happening, now: datetime) -> str:
    """Unique, and the same when the same is sent twice."""
    about = happening.regarding
    text = "\0".join((about.uid, happening.action, happening.reason, micro_time(now)))
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{about.name[:_OBJECT_NAME_LIMIT].rstrip('-.')}.{digest}"
