"""Which bots go first, and which are replaced."""

from collections.abc import Iterable

from buildgrid_operator.planner.farm import Bot, BotState, Fleet

UNREGISTERED = (BotState.BLOCKED, BotState.STARTING)
STAYING = (*UNREGISTERED, BotState.IDLE, BotState.BUSY)
"""those that drain are on their way out"""


def staying(fleet: Fleet) -> list[Bot]:
    """All that do not drain."""
    return [bot for bot in fleet.bots if bot.state in STAYING]


def outdated(fleet: Fleet) -> list[Bot]:
    """Those to be replaced, the most useless first."""
    return by_use(bot for bot in staying(fleet) if is_outdated(fleet, bot))


def is_outdated(fleet: Fleet, bot: Bot) -> bool:
    """Of an older template, or worn out."""
    most = fleet.policy.max_actions_per_bot
    return bot.outdated or (most is not None and bot.actions >= most)


def by_use(bots: Iterable[Bot]) -> list[Bot]:
    """The most useless first: blocked, not registered, outdated and idle, idle longest; busy last."""
    return sorted(bots, key=_usefulness)


def _usefulness(bot: Bot) -> tuple[int, bool, int, float, str]:
    newest_first = bot.state in UNREGISTERED
    since = -bot.since.timestamp() if newest_first else bot.since.timestamp()
    return STAYING.index(bot.state), not bot.outdated, bot.busy_slots, since, bot.name
