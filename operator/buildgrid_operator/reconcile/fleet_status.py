"""The status of a BotFleet, from what a pass found. Pure."""

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.desired.bots import grace_period, sandbox_level
from buildgrid_operator.desired.bots.names import selector
from buildgrid_operator.fleets.bots import Situation, leases_of, situation_of
from buildgrid_operator.fleets.starting import failing, start_time
from buildgrid_operator.fleets.views import BotView, Phase
from buildgrid_operator.planner.plan import FleetPlan, Plan
from buildgrid_operator.reconcile.fleet_preparing import Prepared
from buildgrid_operator.status.conditions import rfc3339
from buildgrid_operator.status.fleet_conditions import FleetFacts, StartsFail

_UP = (Situation.IDLE, Situation.BUSY, Situation.SICK, Situation.DRAINING)


def figures_of(each: Prepared, state: FleetState | None, plan: Plan) -> dict[str, Any]:
    """Attributes of a BotFleetStatus."""
    view, spec = each.view, each.fleet.spec
    here = [bot for bot in view.bots if situation_of(bot) is not Situation.GONE]
    count = Counter(situation_of(bot) for bot in here)
    found: dict[str, Any] = {
        "replicas": len(here),
        "selector": ",".join(
            f"{key}={value}" for key, value in sorted(selector(each.fleet.metadata).items())
        ),
        "desired_bots": plan.fleets[view.key].need,
        "ready_bots": sum(count[situation] for situation in _UP),
        "starting_bots": count[Situation.STARTING] + count[Situation.BLOCKED],
        "idle_bots": count[Situation.IDLE],
        "busy_bots": count[Situation.BUSY],
        "draining_bots": count[Situation.DRAINING],
        "updated_bots": sum(bot.pod.template_hash == view.template_hash for bot in here),
        "executing_jobs": sum(leases_of(bot) for bot in here),
        "created_bots": each.memory.next_number - 1,
        "instance": each.read.instance,
        "image": each.inputs.image,
        "template_hash": view.template_hash,
        "sandbox": sandbox_level(spec.sandbox),
    }
    if each.memory.starts.starts:
        found["start_seconds"] = round(start_time(each.memory.starts).total_seconds())
    if state is not None:
        served = [requirement for requirement in state.requirements if each.serves(requirement)]
        oldest = min((one.oldest_queued for one in served if one.oldest_queued is not None), default=None)
        found["queued_jobs"] = sum(requirement.queued for requirement in served)
        found["oldest_queued_time"] = None if oldest is None else rfc3339(oldest)
    return found


def facts_of(
    each: Prepared, stale: str | None, plan: FleetPlan, figures: dict[str, Any], now: datetime
) -> FleetFacts:
    """What the conditions are made of."""
    spec = each.fleet.spec
    blocked = [bot for bot in each.view.bots if bot.pod.phase is Phase.UNSCHEDULABLE and _is_here(bot)]
    scaling = spec.scaling
    return FleetFacts(
        refusals=each.refusals,
        stale=stale,
        plan=plan,
        registered=figures["ready_bots"],
        blocked=len(blocked),
        blocked_words=blocked[0].pod.words if blocked else "",
        draining=figures["draining_bots"],
        drain_note=_drain_note(each),
        starts_fail=_starts_fail(each, now),
        paused_in=scaling.paused or scaling.paused_scale_in,
        paused_out=scaling.paused or scaling.paused_scale_out,
        dry_run=scaling.dry_run,
        external=scaling.mode == "External",
        note="; ".join(each.notes) or None,
    )


def _starts_fail(each: Prepared, now: datetime) -> StartsFail | None:
    refusal = each.memory.refusal
    if refusal is not None:
        words = f"the API server refuses the bots' pods: {refusal.words}"
        return StartsFail("PodRefused", words, refusal.again_at)
    backoff = failing(each.memory.starts, each.view.template_hash)
    if backoff is None:
        return None
    return StartsFail(backoff.trouble.value, backoff.words, backoff.until if backoff.until > now else None)


def _drain_note(each: Prepared) -> str | None:
    """That drain.timeout may end an action which the Scheduler allows to run."""
    timeout = each.fleet.spec.drain.timeout
    longest = grace_period(each.inputs)
    if timeout is None or timeout >= longest - timedelta(minutes=2):
        return None
    return (
        f"drain.timeout of {timeout} is shorter than actions may run: a bot that drains for longer is ended "
        "with what it runs, which is counted as interrupted; unset it, or make it longer"
    )


def _is_here(bot: BotView) -> bool:
    return situation_of(bot) is not Situation.GONE
