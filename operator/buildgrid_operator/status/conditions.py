"""Conditions in the Kubernetes convention: what is found in a pass, merged with what the status says already.

https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from buildgrid_operator.api.status import Condition
from buildgrid_operator.status.messages import printable

State = Literal["True", "False", "Unknown"]

READY = "Ready"
CONFIG_APPLIED = "ConfigApplied"
DEGRADED = "Degraded"
STALLED = "Stalled"
SCALING_ACTIVE = "ScalingActive"
SCALING_LIMITED = "ScalingLimited"
METRICS_STALE = "MetricsStale"
DRAINING = "Draining"
CAPACITY_BLOCKED = "CapacityBlocked"
PAUSED = "Paused"
SCHEDULER_CONDITIONS = (READY, CONFIG_APPLIED, DEGRADED, STALLED)
PROPERTY_SET_CONDITIONS = (READY, STALLED)
FLEET_CONDITIONS = (
    READY, SCALING_ACTIVE, SCALING_LIMITED, METRICS_STALE, DRAINING, CAPACITY_BLOCKED, PAUSED, STALLED,
)  # fmt: skip

GOOD: dict[str, State] = {
    READY: "True",
    CONFIG_APPLIED: "True",
    SCALING_ACTIVE: "True",
    **dict.fromkeys(
        (DEGRADED, STALLED, SCALING_LIMITED, METRICS_STALE, DRAINING, CAPACITY_BLOCKED, PAUSED), "False"
    ),
}
"""the state of each that nobody needs to look at"""
_USUAL = ((DRAINING, "Draining"), (SCALING_LIMITED, "Floor"))
"""by their reason: nobody needs to look at these either"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a pass finds of one condition. The message says what to do next, unless all is well."""

    type: str
    status: State
    reason: str
    message: str


def rfc3339(moment: datetime) -> str:
    """A time as the API server writes it, to the second."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def merged(
    before: Sequence[Condition],
    verdicts: Iterable[Verdict],
    *,
    types: Sequence[str],
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """The conditions of a status, in the order of `types`.

    lastTransitionTime moves only when status does. A condition without a verdict stays as it is, with the
    generation that it was about. Types that are not ours belong to somebody else and are left out.
    """
    old = {condition.type: condition for condition in before}
    found = {verdict.type: verdict for verdict in verdicts}
    conditions = []
    for name in types:
        verdict, earlier = found.get(name), old.get(name)
        if verdict is None:
            if earlier is not None:
                conditions.append(earlier)
            continue
        same = earlier is not None and earlier.status == verdict.status
        conditions.append(
            Condition(
                type=name,
                status=verdict.status,
                reason=verdict.reason,
                message=printable(verdict.message),
                last_transition_time=earlier.last_transition_time if earlier and same else rfc3339(now),
                observed_generation=generation,
            )
        )
    return tuple(conditions)


@dataclass(frozen=True, slots=True)
class Change:
    """A condition whose status or reason became another. `before` is None for one that was not there."""

    before: Condition | None
    after: Condition

    @property
    def good(self) -> bool:
        """Whether it is now as it should be, or nobody need do anything: a Normal event, else a Warning."""
        usual = (self.after.type, self.after.reason) in _USUAL
        return usual or self.after.status == GOOD.get(self.after.type, "True")


def changes(before: Sequence[Condition], after: Sequence[Condition]) -> tuple[Change, ...]:
    """What is worth an event. As it is found in the status, a restart of the operator tells nothing twice."""
    old = {condition.type: condition for condition in before}
    found = []
    for condition in after:
        earlier = old.get(condition.type)
        if earlier is not None and (earlier.status, earlier.reason) == (condition.status, condition.reason):
            continue
        fine = condition.type != READY and condition.status == GOOD.get(condition.type)
        # That nothing is wrong is no news of a new object, nor where there is no more to say of it: the
        # condition tells since when, and Ready has an event of its own.
        if fine and (earlier is None or not condition.message):
            continue
        found.append(Change(earlier, condition))
    return tuple(found)


def is_true(conditions: Collection[Condition], name: str) -> bool:
    """Whether the condition is there, and True."""
    return any(condition.type == name and condition.status == "True" for condition in conditions)
