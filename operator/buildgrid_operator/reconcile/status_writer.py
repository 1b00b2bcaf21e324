"""Writes what a pass found into an object's status, tells it in events, and shows it in metrics."""

import logging
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from buildgrid_scheduler.core.clock import Clock, utc_now

from buildgrid_operator.api.status import BotFleetStatus, Condition, PropertySetStatus, SchedulerStatus
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import Conflict, Invalid, NotFound
from buildgrid_operator.cluster.kinds import Kind, Manifest, ObjectRef
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.event_recorder import EventRecorder
from buildgrid_operator.status.conditions import Change, Verdict, changes, merged
from buildgrid_operator.status.events import Happening, Regarding
from buildgrid_operator.status.writes import due

_log = logging.getLogger(__name__)
_AFTER_CONFLICT = timedelta(seconds=1)
_ASKED_AGAIN = timedelta(minutes=10)
"""whether the cluster's CRD knows a field by now"""
_FIELD = re.compile(r"status\.(?!conditions\b|observedGeneration\b)(\w+)")
AnyStatus = SchedulerStatus | PropertySetStatus | BotFleetStatus
ShowConditions = Callable[[ObjectRef, Sequence[Condition]], None]


@dataclass(frozen=True, slots=True)
class Told:
    """What a pass has to say. `types` are those of the conditions that this kind has."""

    verdicts: tuple[Verdict, ...]
    types: tuple[str, ...]
    figures: Collection[str]


class StatusWriter:
    """Thread-safe, for passes of different objects at once."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        recorder: EventRecorder,
        show: ShowConditions,
        clock: Clock = utc_now,
    ) -> None:
        self._client = client
        self._cache = cache
        self._recorder = recorder
        self._show = show
        self._clock = clock
        self._written: dict[str, datetime] = {}
        # Fields that the cluster's CRDs, older than we are, do not have; and until when that is believed.
        self._undeclared: dict[Kind, tuple[frozenset[str], datetime]] = {}

    def write(
        self, obj: Manifest, before: AnyStatus, after: AnyStatus, told: Told, generation: int
    ) -> timedelta | None:
        """Write `after`, with conditions from what is told, if that is due.

        `obj` is the object as it was read. Returns when to look again, if sooner than otherwise. Raises
        ClusterError.
        """
        ref, now, uid = ObjectRef.of(obj), self._clock(), obj["metadata"]["uid"]
        # Conditions of others in the list are not ours to compare.
        earlier = _of_types(before.conditions, told.types)
        conditions = merged(earlier, told.verdicts, types=told.types, generation=generation, now=now)
        old = before.model_copy(update={"conditions": earlier})
        new = after.model_copy(update={"conditions": conditions, "observed_generation": generation})
        self._show(ref, conditions)
        unknown = self._unknown(ref.kind, now)
        decision = due(
            _like(old, new, unknown), new, figures=told.figures, last_write=self._written.get(uid), now=now
        )
        if not decision.write:
            return decision.wait
        version = obj["metadata"]["resourceVersion"]
        try:
            written = self._patch(ref, new, version, now)
        except NotFound:
            self._cache.discard(ref, uid)
            return _AFTER_CONFLICT
        except Conflict:
            # It was changed meanwhile: the watch shows how, and the next pass is about that.
            return _AFTER_CONFLICT
        self._written[uid] = now
        self._cache.put(written)
        self._tell(obj, changes(earlier, conditions))
        return None

    def _patch(self, ref: ObjectRef, new: AnyStatus, version: str, now: datetime) -> Manifest:
        """Write all that the CRD has a field for: a status with one that it does not know is refused."""
        while True:
            unknown = self._unknown(ref.kind, now)
            status = {name: value for name, value in new.to_dict().items() if name not in unknown}
            try:
                return self._client.patch_status(ref, status, resource_version=version)
            except Invalid as error:
                # What is no server error is about the value of a field.
                found = [_FIELD.match(cause.field) for cause in error.causes if error.code >= 500]
                news = {match[1] for match in found if match} - unknown
                if not news:
                    raise
                self._undeclared[ref.kind] = (unknown | news, now + _ASKED_AGAIN)
                names = ", status.".join(sorted(news))
                remedy = "it is older than the operator: install the chart's CRDs"
                _log.warning("the CRD of %s has no status.%s; %s", ref.kind, names, remedy)

    def _unknown(self, kind: Kind, now: datetime) -> frozenset[str]:
        fields, until = self._undeclared.get(kind, (frozenset(), now))
        return fields if now < until else frozenset()

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._written.pop(uid, None)
        self._recorder.forget(uid)

    def _tell(self, obj: Manifest, found: Iterable[Change]) -> None:
        for change in found:
            self._recorder.record(
                Happening(
                    regarding=regarding(obj),
                    type="Normal" if change.good else "Warning",
                    action=change.after.type,
                    reason=change.after.reason,
                    note=change.after.message or f"{change.after.type} is {change.after.status}",
                )
            )


def _like(old: AnyStatus, new: AnyStatus, unknown: frozenset[str]) -> AnyStatus:
    """`old`, as if the fields that cannot be written had been."""
    fields = type(new).model_fields.items()
    same = {name: getattr(new, name) for name, field in fields if (field.alias or name) in unknown}
    return old.model_copy(update=same)


def regarding(obj: Manifest) -> Regarding:
    """What an event is about."""
    metadata = obj["metadata"]
    return Regarding(
        obj["apiVersion"],
        obj["kind"],
        metadata.get("namespace") or "",
        metadata["name"],
        metadata.get("uid") or "",
    )


def _of_types(conditions: Iterable[Condition], types: Sequence[str]) -> tuple[Condition, ...]:
    found = {condition.type: condition for condition in conditions}
    return tuple(found[name] for name in types if name in found)
