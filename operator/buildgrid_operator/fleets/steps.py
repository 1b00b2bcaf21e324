"""From a plan to steps, so that no running action is ended. Steps may be taken twice, or not at all.

A pod is deleted only if
- it has ended by itself, or
- the scheduler has just said, in answer to a Drain IF_IDLE, that its bot has this fleet's mark and no lease
  (`deletions_after`): a state that was pushed may be older than an Undrain, so it is not enough, or
- its bot drains for longer than spec.drain.timeout: the only one that ends actions.

So a bot that has our mark, and no lease in the state, is asked for once more before its pod goes.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from buildgrid_operator.fleets.bots import Situation, leases_of, situation_of
from buildgrid_operator.fleets.disruption import is_disrupted
from buildgrid_operator.fleets.protection import Protection, protections_of
from buildgrid_operator.fleets.starting import failed_starts
from buildgrid_operator.fleets.views import BotView, FleetView, Phase
from buildgrid_operator.planner.plan import FleetPlan, Limit

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deletion:
    """A pod that goes. The delete carries the UID."""

    name: str
    uid: str
    why: str
    interrupts: int = 0
    """actions that it ends, because spec.drain.timeout is over"""


@dataclass(frozen=True, slots=True)
class Steps:
    """In this order: marks, deletes, creates, protections. No bot is in two kinds of marks."""

    create: int = 0
    drain_if_idle: Names = ()
    """those in the answer are deleted: `deletions_after`"""
    drain_when_idle: Names = ()
    drain_disrupted: Names = ()
    """WHEN_IDLE, and what they lose is not the jobs' doing"""
    undrain: Names = ()
    delete: tuple[Deletion, ...] = ()
    settle: Names = ()
    """marks without a pod, to be taken away"""
    protections: tuple[Protection, ...] = ()
    """whom the PodDisruptionBudget keeps from now on, and whom not"""


def steps_of(
    plan: FleetPlan | None,
    view: FleetView,
    *,
    drain_timeout: timedelta | None,
    now: datetime,
    told_at: datetime | None = None,
    held: bool = False,
) -> Steps:
    """What to do now. `plan` None, or a stale one: nothing is marked or let go, ended pods are cleared.

    `told_at`: now, by the clock of the database, which marks go by; None: as `now`.

    `held`: no pod is made, because those before did not come up. A plan of a dry run has nothing to do; what
    was begun, and what others begin, is brought to its end all the same.
    """
    ended = [_ended(bot) for bot in view.bots if bot.pod.phase is Phase.ENDED and not bot.pod.ending]
    create = 0 if plan is None or held else plan.create
    if plan is None or Limit.STALE in plan.limits:
        return Steps(create=create, delete=tuple(ended))
    late = [bot for bot in view.bots if _is_late(bot, drain_timeout, told_at or now)]
    out_of_time = {bot.pod.name for bot in late}
    disrupted = [bot.pod.name for bot in view.bots if bot.pod.name in out_of_time or _to_be_told(bot, view)]
    taken = set(disrupted)
    ours = {bot.pod.name: bot for bot in view.bots if _is_free(bot)}
    scaling = view.fleet.spec.scaling
    keeps = scaling.dry_run or scaling.paused or scaling.paused_scale_in
    useless = [] if keeps else _useless(view, now)
    idle = [*plan.idle[: plan.release], *plan.remove, *_finished(view), *useless]
    drain_if_idle = _take(idle, ours, taken)
    cordoned = {name: bot for name, bot in ours.items() if bot.mark is None}
    return Steps(
        create=create,
        drain_if_idle=drain_if_idle,
        drain_when_idle=_take(plan.cordon, cordoned, taken),
        drain_disrupted=tuple(disrupted),
        undrain=_take(plan.restore, [bot.pod.name for bot in view.bots if may_return(bot, view)], taken),
        delete=(*ended, *(_timed_out(bot) for bot in late)),
        settle=tuple(mark.bot_id for mark in view.orphaned_marks),
        protections=protections_of(view, leaving=drain_if_idle),
    )


def deletions_after(names: Collection[str], view: FleetView) -> tuple[Deletion, ...]:
    """Of the bots that the answer to a Drain IF_IDLE names: they are marked, and have no lease."""
    wanted = set(names)
    return tuple(
        Deletion(bot.pod.name, bot.pod.uid, _why(bot, view))
        for bot in view.bots
        if bot.pod.name in wanted and not bot.pod.ending and bot.pod.phase is not Phase.ENDED
    )


def may_return(bot: BotView, view: FleetView) -> bool:
    """Whether a mark may be taken away: never once a delete may have been sent, which may be whenever a bot
    that has our mark has no lease.
    """
    gone = situation_of(bot) is Situation.GONE
    return bot.own_mark and not gone and leases_of(bot) > 0 and not is_disrupted(bot, view)


def _finished(view: FleetView) -> list[str]:
    """Those with our mark, and nothing to do any more."""
    return [bot.pod.name for bot in view.bots if bot.own_mark and not leases_of(bot)]


def _useless(view: FleetView, now: datetime) -> list[str]:
    """Those that do not come up, and those that have lost their session, or take no lease, for as long."""
    patience = view.fleet.spec.startup.timeout
    failed = [each.bot.pod.name for each in failed_starts(view.bots, patience, now)]
    return failed + [
        bot.pod.name
        for bot in view.bots
        if situation_of(bot) in (Situation.LOST, Situation.SICK)
        and now - (bot.since or bot.pod.created) >= patience
    ]


def _is_free(bot: BotView) -> bool:
    """Whether it is there, and nobody else has marked it."""
    return situation_of(bot) is not Situation.GONE and (bot.mark is None or bot.own_mark)


def _is_late(bot: BotView, drain_timeout: timedelta | None, now: datetime) -> bool:
    if drain_timeout is None or bot.mark is None or not bot.own_mark or not leases_of(bot):
        return False
    return situation_of(bot) is not Situation.GONE and now - bot.mark.since >= drain_timeout


def _to_be_told(bot: BotView, view: FleetView) -> bool:
    """Whether the scheduler does not know yet that somebody else ends it."""
    if not is_disrupted(bot, view) or (bot.mark is not None and bot.mark.disrupted):
        return False
    if bot.pod.phase is Phase.ENDED:
        return leases_of(bot) > 0
    if bot.mark is not None and not bot.own_mark:
        return bot.pod.ending
    return bot.mark is None or leases_of(bot) > 0


def _take(wanted: Sequence[str], allowed: Collection[str], taken: set[str]) -> Names:
    """Those of the wanted ones that are allowed and not taken yet, each once. They are taken then."""
    found = tuple(dict.fromkeys(name for name in wanted if name in allowed and name not in taken))
    taken.update(found)
    return found


def _ended(bot: BotView) -> Deletion:
    return Deletion(bot.pod.name, bot.pod.uid, bot.pod.words or "it has ended")


def _timed_out(bot: BotView) -> Deletion:
    return Deletion(
        bot.pod.name,
        bot.pod.uid,
        "it did not finish what it runs within spec.drain.timeout",
        interrupts=leases_of(bot),
    )


def _why(bot: BotView, view: FleetView) -> str:
    if is_disrupted(bot, view):
        return f"its node {bot.pod.node} goes, and it has nothing to do"
    if view.gone:
        return "its fleet is gone, and it has nothing to do"
    if not bot.registered:
        return bot.pod.words or "its bot never had a session"
    if bot.pod.template_hash != view.template_hash:
        return "its template is not the fleet's any more, and it has nothing to do"
    return "it has nothing to do"
