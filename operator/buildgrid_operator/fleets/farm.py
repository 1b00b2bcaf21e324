"""All fleets of a Scheduler, and what waits there, as the planner is told of them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from buildgrid_operator.cluster.fleet_state import FleetState, Requirement
from buildgrid_operator.fleets.bots import bot_state, leases_of, takes_leases
from buildgrid_operator.fleets.disruption import is_disrupted
from buildgrid_operator.fleets.matching import Pairs, Serving, offer_of
from buildgrid_operator.fleets.policies import policy_of
from buildgrid_operator.fleets.starting import USUAL_START
from buildgrid_operator.fleets.steps import may_return
from buildgrid_operator.fleets.views import BotView, FleetView, Phase
from buildgrid_operator.planner.farm import Bot, BotState, Demand, Farm, Fleet


def farm_of(
    views: Sequence[FleetView],
    state: FleetState | None,
    seen: datetime | None,
    serving: Serving,
    start_times: Mapping[str, timedelta],
    now: datetime,
    *,
    held: Collection[str] = (),
) -> Farm:
    """What the planner decides by. Fleets are known by their `key`, in `start_times` and in `held`, too.

    `seen`: when the state was true. `held`: fleets that make no pods now, because those before did not come
    up: the work goes to others meanwhile.
    """
    requirements = state.requirements if state is not None else ()
    offers = {view.key: offer_of(view.fleet.spec) for view in views}
    fleets = []
    for view in views:
        policy = policy_of(view.fleet.spec)
        served = [
            each
            for each in requirements
            if each.instance == view.instance and serving.serves(offers[view.key], each)
        ]
        fleets.append(
            Fleet(
                view.key,
                replace(policy, held=view.key in held),
                tuple(_bots(view, now)),
                frozenset(demand.key for each in served for demand in _demands(each, "")),
                start_times.get(view.key, USUAL_START),
            )
        )
    demands = [
        demand
        for each in requirements
        for demand in _demands(
            each, _words(each, [offers[v.key] for v in views if v.instance == each.instance])
        )
    ]
    return Farm(fleets, demands, seen)


def requirement_of(demand: Demand, state: FleetState) -> Requirement | None:
    """The one that a demand was made of; None: it is none of this state's."""
    return next(
        (each for each in state.requirements if any(it.key == demand.key for it in _demands(each, ""))), None
    )


def _bots(view: FleetView, now: datetime) -> Iterable[Bot]:
    """Those that are not ending, and those that are beyond what maxSurge allows beside the others."""
    for bot in view.bots:
        told = _bot(bot, view, now)
        if told is not None:
            yield told
    ending = [bot for bot in view.bots if bot.pod.ending and bot.pod.phase is not Phase.ENDED]
    for bot in ending[view.fleet.spec.rollout.max_surge :]:
        yield Bot(bot.pod.name, BotState.DRAINING, bot.since or now, outdated=True)


def _bot(bot: BotView, view: FleetView, now: datetime) -> Bot | None:
    state = bot_state(bot)
    if state is None:
        return None
    going = is_disrupted(bot, view)
    if going:
        state = BotState.DRAINING
    session, slots = bot.session, view.fleet.spec.slots_per_bot
    busy = min(slots, leases_of(bot))
    if state is BotState.BUSY and not takes_leases(bot):
        busy = slots  # none is free
    return Bot(
        name=bot.pod.name,
        state=state,
        since=bot.since or bot.pod.created,
        busy_slots=busy,
        outdated=_is_outdated(bot, view),
        actions=session.lease_count if session is not None else 0,
    )


def _is_outdated(bot: BotView, view: FleetView) -> bool:
    """Of those that drain also whether they cannot be taken back: the planner restores no outdated ones."""
    if bot.pod.template_hash != view.template_hash or is_disrupted(bot, view):
        return True
    return bot.mark is not None and not may_return(bot, view)


def _demands(requirement: Requirement, words: str) -> list[Demand]:
    """One of those that may go anywhere, and one for each capacity class that jobs avoid."""
    key = f"{requirement.instance}/{requirement.hash}"
    avoiding = {name: count for name, count in sorted(requirement.avoidances.items()) if count}
    common = Demand(
        key,
        words,
        queued=max(0, requirement.queued - sum(avoiding.values())),
        executing=requirement.executing,
        oldest_queued=requirement.oldest_queued,
        duration=requirement.duration,
    )
    return [
        common,
        *(
            replace(common, key=f"{key} without {name}", queued=count, executing=0, avoided=name)
            for name, count in avoiding.items()
        ),
    ]


def _words(requirement: Requirement, offers: Sequence[Pairs]) -> str:
    """What makes it different: without the properties that all fleets of the instance offer."""
    wanted = [(key, value) for key, values in sorted(requirement.properties.items()) for value in values]
    usual = set.intersection(*(set(offer) for offer in offers)) if offers else set()
    told = [each for each in wanted if each not in usual] or wanted
    return ", ".join(f"{key}={value}" for key, value in told) or "any bot"
