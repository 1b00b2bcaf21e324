"""Policies at the same wait: what others cost, each tuned, and what our planner costs for no longer waits."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from buildgrid_operator.simulator.policies import KINDS, OURS, NamedPolicy, parse_policy, with_setting
from buildgrid_operator.simulator.report import Figures, Setting, aligned, cheapest, run

_WARM = (2.0, 5.0, 10.0, 20.0, 50.0)
_FLOORS = (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 75.0, 100.0, 150.0, 200.0)
_MAXIMA = (20.0, 50.0, 100.0)
"""bots, all of them"""


@dataclass(frozen=True, slots=True)
class Pair:
    """A setting of another policy, and the cheapest of ours whose p95 of waits is not longer."""

    kind: str
    peer: Figures
    ours: Figures | None

    @property
    def price(self) -> float | None:
        """What ours costs, as a part of what the other does."""
        return None if self.ours is None else self.ours.cost / self.peer.cost


def compare(setting: Setting, kinds: Iterable[str], longest: float) -> list[Pair]:
    """Of each other policy the settings that no other setting of it beats in both wait and cost.

    `longest`: seconds; settings with a longer p95 are left out. Raises ValueError as `run` does.
    """
    ours = [run(setting, policy)[0] for policy in _ours()]
    pairs = []
    for kind in kinds:
        if kind != OURS:
            tried = [run(setting, policy)[0] for policy in _tuned(kind)]
            pairs += [
                Pair(kind, peer, cheapest(ours, peer.wait_p95))
                for peer in _unbeaten(tried)
                if peer.wait_p95 <= longest
            ]
    return pairs


def worst(pairs: Iterable[Pair]) -> list[Pair]:
    """Of each policy the pair that is worst for ours."""
    found: dict[str, Pair] = {}
    for pair in pairs:
        known = found.get(pair.kind)
        if known is None or _badness(pair) > _badness(known):
            found[pair.kind] = pair
    return list(found.values())


def pair_table(pairs: Iterable[Pair]) -> str:
    """For people."""
    header = (
        "policy",
        "p95",
        "cost",
        "buildgrid, at most as long a p95",
        "p95",
        "cost",
        "x policy",
        "x bound",
    )
    return aligned([header, *(_row(pair) for pair in pairs)])


def _ours() -> Iterable[NamedPolicy]:
    """Bots that are let go early and late; for short waits also with some that are always ready."""
    plain = parse_policy(OURS)
    name, waits = KINDS[OURS].also or ("targetWait", (30.0,))
    for idle, wait in product((0.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 1200.0), waits):
        yield with_setting(with_setting(plain, "idleTimeout", idle), name, wait)
    eager = with_setting(plain, name, waits[0])
    for bots, idle in product(_WARM, (30.0, 300.0, 1200.0)):
        yield with_setting(with_setting(eager, "idleTimeout", idle), "warmBots", bots)
    eager = with_setting(eager, "idleTimeout", 30.0)
    for bots, wait in product(_FLOORS, (waits[0], waits[-1])):
        yield with_setting(with_setting(eager, "minBots", bots), name, wait)
    for bots in _MAXIMA:
        yield with_setting(eager, "maxBots", bots)


def _tuned(kind: str) -> Iterable[NamedPolicy]:
    plain = parse_policy(kind)
    name, values = KINDS[kind].sweep
    other, others = KINDS[kind].also or (name, ())
    for value in values:
        policy = with_setting(plain, name, value)
        yield from (with_setting(policy, other, each) for each in others)
        if not others:
            yield policy


def _unbeaten(tried: Sequence[Figures]) -> list[Figures]:
    """By wait, the shortest first."""
    found: list[Figures] = []
    for each in sorted(tried, key=lambda each: (each.wait_p95, each.cost)):
        if not found or each.cost < found[-1].cost:
            found.append(each)
    return found


def _badness(pair: Pair) -> float:
    return float("inf") if pair.price is None else pair.price


def _row(pair: Pair) -> tuple[str, ...]:
    peer, ours = pair.peer, pair.ours
    theirs = (peer.policy, f"{peer.wait_p95:.1f}", f"{peer.cost / 3600:.1f}")
    if ours is None or pair.price is None:
        return (*theirs, "none", "", "", "", "")
    own = (ours.policy, f"{ours.wait_p95:.1f}", f"{ours.cost / 3600:.1f}")
    return (*theirs, *own, f"{pair.price:.2f}", f"{ours.of_bound:.2f}")
