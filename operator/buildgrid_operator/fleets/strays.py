"""Bots whose BotFleet is gone and has left them behind: what they have is finished, and they go."""

from buildgrid_operator.fleets.bots import Situation, situation_of
from buildgrid_operator.fleets.views import FleetView
from buildgrid_operator.planner.plan import FleetPlan

_MAY_RUN_SOMETHING = (Situation.BUSY, Situation.LOST)
_RUN_NOTHING = (Situation.IDLE, Situation.SICK, Situation.STARTING, Situation.BLOCKED)


def clearing(view: FleetView) -> FleetPlan:
    """All of them are asked for: those that run something get nothing more, the others go if that is so.

    Those that drain are not named: they go when they have nothing any more, as in any fleet.
    """
    named = [(bot.pod.name, situation_of(bot)) for bot in view.bots]
    return FleetPlan(
        need=0,
        have=len(view.bots),
        reason="their fleet is gone",
        cordon=tuple(name for name, situation in named if situation in _MAY_RUN_SOMETHING),
        remove=tuple(name for name, situation in named if situation in _RUN_NOTHING),
    )
