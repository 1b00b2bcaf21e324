"""The cheapest settings of our planner that hold a wait on a trace."""

from collections.abc import Iterator
from itertools import product

from buildgrid_operator.simulator.policies import OURS, NamedPolicy, parse_policy, with_setting
from buildgrid_operator.simulator.report import Figures, Setting, cheapest, run

IDLE_TIMEOUTS = (0.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0)
TARGET_WAITS = (5.0, 15.0, 30.0, 60.0, 120.0)
WARM_BOTS = (1.0, 2.0, 5.0, 10.0, 20.0)


def search(setting: Setting, wait_p95: float) -> tuple[Figures | None, list[Figures]]:
    """The cheapest, None if none holds the wait; and all that were tried.

    First without warm bots, over idle timeouts and target waits; if nothing holds the wait, warm bots are
    added to the timeouts one by one.
    """
    tried = [run(setting, policy)[0] for policy in _without_warm_bots()]
    best = cheapest(tried, wait_p95)
    if best is None:
        tried += [run(setting, policy)[0] for policy in _with_warm_bots()]
        best = cheapest(tried, wait_p95)
    return best, tried


def _without_warm_bots() -> Iterator[NamedPolicy]:
    for idle, wait in product(IDLE_TIMEOUTS, TARGET_WAITS):
        yield with_setting(with_setting(parse_policy(OURS), "idleTimeout", idle), "targetWait", wait)


def _with_warm_bots() -> Iterator[NamedPolicy]:
    for warm, idle in product(WARM_BOTS, IDLE_TIMEOUTS[2:]):
        policy = with_setting(with_setting(parse_policy(OURS), "idleTimeout", idle), "targetWait", 5.0)
        yield with_setting(policy, "warmBots", warm)
