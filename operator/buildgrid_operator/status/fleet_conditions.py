"""The conditions of a BotFleet, from what a pass saw.

| condition | reasons, that of the good state first |
|---|---|
| Ready | AsWanted; InvalidSpec, SchedulerMissing, PermissionMissing, ObjectRefused, NameTaken, ApplyFailed, |
|       | and what keeps all bots from coming up (ImagePullFailed, ContainerCannotStart, BotCrashed, |
|       | BotNeverRegistered, PodRefused) |
| ScalingActive | FollowsWork, Pinned; SchedulerUnreachable, DryRun, InvalidSpec, SchedulerMissing |
| ScalingLimited | WithinBounds; MaxBots, Floor, ScaleUp, ScaleDown, StartsFail |
| MetricsStale | Fresh; SchedulerUnreachable |
| Draining | NothingDrains; Draining, DrainTimeoutShort |
| CapacityBlocked | NotBlocked; Unschedulable |
| Paused | NotPaused; Paused, PausedScaleIn, PausedScaleOut |
| Stalled | AsExpected; InvalidSpec, PermissionMissing, ObjectRefused, NameTaken |

Ready means: bots can come up, and come as they are needed. A fleet at zero with nothing to do is ready.
"""

from dataclasses import dataclass
from datetime import datetime

from buildgrid_operator.planner.plan import FleetPlan, Limit
from buildgrid_operator.status.conditions import (
    CAPACITY_BLOCKED,
    DRAINING,
    METRICS_STALE,
    PAUSED,
    READY,
    SCALING_ACTIVE,
    SCALING_LIMITED,
    STALLED,
    Verdict,
    rfc3339,
)
from buildgrid_operator.status.messages import counted
from buildgrid_operator.status.scheduler_conditions import Refusal

_STALLING = ("PermissionMissing", "ObjectRefused", "NameTaken")
LIMITS = (Limit.STARTS_FAIL, Limit.MAX_BOTS, Limit.SCALE_UP, Limit.SCALE_DOWN, Limit.FLOOR)
"""those that are told in ScalingLimited, the weightiest first"""


@dataclass(frozen=True, slots=True)
class StartsFail:
    """Pods do not come up."""

    reason: str
    message: str
    """in the words of the kubelet or the API server, with what to do"""
    again_at: datetime | None = None
    """when the next pod is made; None: at once, when one is needed"""


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """What a pass saw. What was not looked at stays None, and so do conditions about it as they are."""

    problems: tuple[str, ...] = ()
    """of the spec: `field: what to do`"""
    missing: str | None = None
    """why there is no Scheduler to work for, and what to do"""
    refusals: tuple[Refusal, ...] = ()
    stale: str | None = None
    """why it is not known what waits"""
    plan: FleetPlan | None = None
    registered: int = 0
    """bots with a session"""
    blocked: int = 0
    """pods that no node takes"""
    blocked_words: str = ""
    """of the kube-scheduler"""
    draining: int = 0
    drain_note: str | None = None
    """why drain.timeout may end actions"""
    starts_fail: StartsFail | None = None
    paused_in: bool = False
    paused_out: bool = False
    dry_run: bool = False
    external: bool = False
    """an autoscaler writes spec.replicas"""
    note: str | None = None
    """what else to tell in Ready's message"""


def fleet_verdicts(facts: FleetFacts) -> tuple[Verdict, ...]:
    """All that can be said now, in the order of FLEET_CONDITIONS."""
    found = [_ready(facts), _active(facts)]
    if facts.plan is not None:
        found += [_limited(facts, facts.plan), _stale(facts), _draining(facts), _blocked(facts)]
    if not facts.problems:
        found.append(_paused(facts))
    found.append(_stalled(facts))
    return tuple(found)


def _ready(facts: FleetFacts) -> Verdict:
    def no(reason: str, message: str) -> Verdict:
        return Verdict(READY, "False", reason, message)

    if facts.problems:
        return no("InvalidSpec", _problem_words(facts))
    if facts.missing is not None:
        return no("SchedulerMissing", facts.missing)
    blocking = [refusal for refusal in facts.refusals if refusal.blocking]
    if blocking:
        return no(blocking[0].reason, blocking[0].message)
    failing = facts.starts_fail
    if failing is not None and not facts.registered:
        return no(failing.reason, _failing_words(failing))
    notes = [facts.plan.reason] if facts.plan is not None else []
    notes += [each.message for each in facts.refusals]
    notes += [facts.note] if facts.note else []
    return Verdict(READY, "True", "AsWanted", "; ".join(notes))


def _active(facts: FleetFacts) -> Verdict:
    def no(reason: str, message: str) -> Verdict:
        return Verdict(SCALING_ACTIVE, "False", reason, message)

    if facts.problems:
        return no("InvalidSpec", _problem_words(facts))
    if facts.missing is not None:
        return no("SchedulerMissing", facts.missing)
    if facts.stale is not None:
        return no(
            "SchedulerUnreachable", f"nothing is let go while it is not known what waits: {facts.stale}"
        )
    if facts.dry_run:
        return no("DryRun", "scaling.dryRun is set: decisions are told, and not carried out")
    if facts.plan is not None and Limit.PINNED in facts.plan.limits:
        if facts.external:
            words = "scaling.mode is External: an autoscaler says in spec.replicas how many bots there are"
            return Verdict(SCALING_ACTIVE, "True", "Pinned", words)
        words = (
            "spec.replicas says how many bots there are; to let the work decide, remove it: "
            'kubectl patch bgf NAME --type=merge -p \'{"spec":{"replicas":null}}\''
        )
        return Verdict(SCALING_ACTIVE, "True", "Pinned", words)
    return Verdict(SCALING_ACTIVE, "True", "FollowsWork", "")


def _limited(facts: FleetFacts, plan: FleetPlan) -> Verdict:
    if facts.starts_fail is not None:
        return Verdict(SCALING_LIMITED, "True", "StartsFail", _failing_words(facts.starts_fail))
    for limit in LIMITS:
        if limit in plan.limits:
            return Verdict(SCALING_LIMITED, "True", limit.value, plan.reason)
    return Verdict(SCALING_LIMITED, "False", "WithinBounds", "")


def _stale(facts: FleetFacts) -> Verdict:
    if facts.stale is None:
        return Verdict(METRICS_STALE, "False", "Fresh", "")
    return Verdict(METRICS_STALE, "True", "SchedulerUnreachable", facts.stale)


def _draining(facts: FleetFacts) -> Verdict:
    if facts.drain_note is not None:
        return Verdict(DRAINING, "True", "DrainTimeoutShort", facts.drain_note)
    if facts.draining:
        words = f"{counted(facts.draining, 'bot')} will get no more actions, and go once idle"
        return Verdict(DRAINING, "True", "Draining", words)
    return Verdict(DRAINING, "False", "NothingDrains", "")


def _blocked(facts: FleetFacts) -> Verdict:
    if not facts.blocked:
        return Verdict(CAPACITY_BLOCKED, "False", "NotBlocked", "")
    words = (
        f"no node takes {counted(facts.blocked, 'pod')}: {facts.blocked_words}; add nodes, or check "
        "spec.resources and the pod template's nodeSelector and tolerations"
    )
    return Verdict(CAPACITY_BLOCKED, "True", "Unschedulable", words)


def _paused(facts: FleetFacts) -> Verdict:
    def yes(reason: str, message: str) -> Verdict:
        return Verdict(PAUSED, "True", reason, message)

    if facts.paused_in and facts.paused_out:
        return yes("Paused", "scaling is paused: no bot is made or let go; unset scaling.paused")
    if facts.paused_in:
        return yes("PausedScaleIn", "no bot is let go; unset scaling.pausedScaleIn")
    if facts.paused_out:
        return yes("PausedScaleOut", "no bot is made; unset scaling.pausedScaleOut")
    return Verdict(PAUSED, "False", "NotPaused", "")


def _stalled(facts: FleetFacts) -> Verdict:
    if facts.problems:
        return Verdict(STALLED, "True", "InvalidSpec", _problem_words(facts))
    for refusal in facts.refusals:
        if refusal.blocking and refusal.reason in _STALLING:
            return Verdict(STALLED, "True", refusal.reason, refusal.message)
    return Verdict(STALLED, "False", "AsExpected", "")


def _problem_words(facts: FleetFacts) -> str:
    return f"{'; '.join(facts.problems)} (the bots that there are stay as they are)"


def _failing_words(failing: StartsFail) -> str:
    again = f" (the next one is made at {rfc3339(failing.again_at)})" if failing.again_at is not None else ""
    return f"{failing.message}{again}"
