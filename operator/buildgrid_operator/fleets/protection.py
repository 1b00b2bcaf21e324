"""Which bots a fleet's PodDisruptionBudget keeps from eviction: those that work, or may be given work."""

from collections.abc import Collection
from dataclasses import dataclass

from buildgrid_operator.fleets.bots import Situation, leases_of, situation_of
from buildgrid_operator.fleets.views import BotView, FleetView


@dataclass(frozen=True, slots=True)
class Protection:
    """A pod that is to be kept from now on, or not any more."""

    name: str
    uid: str
    protected: bool


def protections_of(view: FleetView, leaving: Collection[str] = ()) -> tuple[Protection, ...]:
    """What is to change. `leaving`: names of those that go in the same step.

    A state may be older than an Undrain: a bot that is evicted right after one finishes what it has within
    its grace period, as one that is deleted by hand does.
    """
    return tuple(
        Protection(bot.pod.name, bot.pod.uid, not bot.pod.protected)
        for bot in view.bots
        if situation_of(bot) is not Situation.GONE
        and bot.pod.name not in leaving
        and bot.pod.protected is may_be_evicted(bot)
    )


def may_be_evicted(bot: BotView) -> bool:
    """Whether somebody has marked it, whoever that is, and it runs nothing: it gets nothing either."""
    return bot.mark is not None and not leases_of(bot)
