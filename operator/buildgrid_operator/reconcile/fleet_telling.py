"""Tells of BotFleets: status, events, metrics."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from buildgrid_operator.api.resource import Metadata
from buildgrid_operator.api.status import BotFleetStatus, Decision
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.cluster.kinds import Manifest, ObjectRef
from buildgrid_operator.planner.plan import FleetPlan, Plan
from buildgrid_operator.reconcile.event_recorder import EventRecorder
from buildgrid_operator.reconcile.farm_reading import ReadFleet
from buildgrid_operator.reconcile.fleet_preparing import Prepared
from buildgrid_operator.reconcile.fleet_status import facts_of, figures_of
from buildgrid_operator.reconcile.fleet_steps import Done
from buildgrid_operator.reconcile.reading import status_of
from buildgrid_operator.reconcile.status_writer import StatusWriter, Told, regarding
from buildgrid_operator.status.conditions import FLEET_CONDITIONS, rfc3339
from buildgrid_operator.status.events import Happening
from buildgrid_operator.status.fleet_conditions import FleetFacts, fleet_verdicts
from buildgrid_operator.status.messages import counted
from buildgrid_operator.status.writes import FLEET_FIGURES


class Observer(Protocol):
    """Is told of fleets, for metrics. On threads."""

    def seen(self, each: Prepared, plan: FleetPlan, done: Done, figures: Mapping[str, Any]) -> None:
        """A pass: what was decided and done, and the attributes of the status."""

    def gone(self, ref: ObjectRef) -> None:
        """There is no such fleet any more."""


class FleetTelling:
    """Thread-safe, for passes of different Schedulers at once."""

    def __init__(self, writer: StatusWriter, recorder: EventRecorder, observer: Observer) -> None:
        self._writer = writer
        self._recorder = recorder
        self._observer = observer
        self._refs: dict[str, ObjectRef] = {}

    def unusable(self, read: ReadFleet) -> timedelta | None:
        """Why a fleet is not planned for. Returns when to look again. Raises ClusterError."""
        refusals = () if read.refusal is None else (read.refusal,)
        facts = FleetFacts(problems=read.problems, missing=read.missing, refusals=refusals)
        return self._write(read.obj, status_of(read.obj, BotFleetStatus), {}, facts)

    def tell(
        self,
        each: Prepared,
        state: FleetState | None,
        stale: str | None,
        plan: Plan,
        done: Done,
        now: datetime,
    ) -> timedelta | None:
        """What a pass found and did. Likewise."""
        mine, obj = plan.fleets[each.view.key], each.read.obj
        figures = figures_of(each, state, plan)
        self._observer.seen(each, mine, done, figures)
        if done.created or done.deleted:
            each.memory.decision = Decision(time=rfc3339(now), message=mine.reason)
            self._recorder.record(_happening(obj, mine, done))
        if each.memory.decision is not None:
            figures["last_decision"] = each.memory.decision
        facts = facts_of(each, stale, mine, figures, now)
        return self._write(obj, status_of(obj, BotFleetStatus), figures, facts)

    def forget(self, uid: str) -> None:
        """The fleet is gone."""
        self._writer.forget(uid)
        if (ref := self._refs.pop(uid, None)) is not None:
            self._observer.gone(ref)

    def _write(
        self, obj: Manifest, before: BotFleetStatus, figures: Mapping[str, Any], facts: FleetFacts
    ) -> timedelta | None:
        self._refs[obj["metadata"]["uid"]] = ObjectRef.of(obj)
        told = Told(fleet_verdicts(facts), FLEET_CONDITIONS, FLEET_FIGURES)
        generation = Metadata.model_validate(obj["metadata"]).generation
        return self._writer.write(obj, before, before.model_copy(update=dict(figures)), told, generation)


def _happening(obj: Manifest, plan: FleetPlan, done: Done) -> Happening:
    interrupted = sum(deletion.interrupts for deletion in done.deleted)
    if done.created and not done.deleted:
        reason, did = "ScaledOut", f"made {counted(done.created, 'pod')}"
    elif not done.created:
        reason, did = "ScaledIn", f"deleted {counted(len(done.deleted), 'pod')}"
    else:
        reason, did = "Replaced", f"made {counted(done.created, 'pod')} and deleted {len(done.deleted)}"
    ended = f", which ended {interrupted} actions: spec.drain.timeout was over" if interrupted else ""
    return Happening(
        regarding=regarding(obj),
        type="Warning" if interrupted else "Normal",
        action="Scaling",
        reason=reason,
        note=f"{did}{ended}: {plan.reason}",
    )
