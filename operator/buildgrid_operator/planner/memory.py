"""What the planner remembers: the greatest and the least need of a time, and how much was changed in it."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil

from buildgrid_operator.planner.farm import Changed, FleetHistory, Needed
from buildgrid_operator.planner.policy import Policy, Rate, RateChoice, RateUnit, ScalingRules


def remember_need(history: FleetHistory, now: datetime, bots: int) -> FleetHistory:
    """With what is needed now. The need before held until now.

    Only what can still become the greatest, or the least, of a time is kept: that is little.
    """
    peaks, lows = list(history.peaks), list(history.lows)
    for entries in (peaks, lows):
        if entries:
            entries[-1] = Needed(now, entries[-1].bots)
    while peaks and peaks[-1].bots <= bots:
        peaks.pop()
    while lows and lows[-1].bots >= bots:
        lows.pop()
    peaks.append(Needed(now, bots))
    lows.append(Needed(now, bots))
    return replace(history, peaks=tuple(peaks), lows=tuple(lows), since=history.since or now)


def remember_change(history: FleetHistory, now: datetime, by: int) -> FleetHistory:
    """With a change that is made now."""
    if not by:
        return history
    return replace(history, changed=(*history.changed, Changed(now, by)))


def forget_old(history: FleetHistory, now: datetime, policy: Policy) -> FleetHistory:
    """Without what no rule of the policy asks for any more."""
    keep = now - max(down_window(policy), policy.scale_up.stabilization)
    rates = [*policy.scale_up.rates, *policy.scale_down.rates]
    period = max((rate.period for rate in rates), default=timedelta())
    return replace(
        history,
        peaks=tuple(entry for entry in history.peaks if entry.until >= keep),
        lows=tuple(entry for entry in history.lows if entry.until >= keep),
        changed=tuple(change for change in history.changed if now - change.at < period),
    )


def down_window(policy: Policy) -> timedelta:
    """For how long less must have been needed, before bots are let go."""
    return max(policy.idle_timeout, policy.scale_down.stabilization)


def greatest(history: FleetHistory, now: datetime, window: timedelta) -> Needed:
    """The greatest need of the last so much time. There must be one."""
    return next(entry for entry in history.peaks if entry.until >= now - window)


def least(history: FleetHistory, now: datetime, window: timedelta) -> Needed:
    """The least need of the last so much time. There must be one."""
    return next(entry for entry in history.lows if entry.until >= now - window)


def may_grow(rules: ScalingRules, history: FleetHistory, now: datetime, have: int) -> int | None:
    """By how many bots at most; None: as many as wanted."""
    return _most(rules, history.changed, now, have, 1)


def may_shrink(rules: ScalingRules, history: FleetHistory, now: datetime, have: int) -> int | None:
    """By how many bots at most; None: as many as wanted."""
    return _most(rules, history.changed, now, have, -1)


def next_period(rules: ScalingRules, history: FleetHistory, now: datetime) -> datetime | None:
    """When the earliest of the changes that count now counts no more."""
    ends = [
        change.at + rate.period
        for rate in rules.rates
        for change in history.changed
        if now < change.at + rate.period
    ]
    return min(ends, default=None)


def _most(rules: ScalingRules, changes: Iterable[Changed], now: datetime, have: int, sign: int) -> int | None:
    if rules.choice is RateChoice.DISABLED:
        return 0
    if not rules.rates:
        return None
    changes = tuple(changes)
    allowed = [_allowed(rate, changes, now, have, sign) for rate in rules.rates]
    return max(0, max(allowed) if rules.choice is RateChoice.MAX else min(allowed))


def _allowed(rate: Rate, changes: tuple[Changed, ...], now: datetime, have: int, sign: int) -> int:
    done = [change.by for change in changes if now - change.at < rate.period and change.by * sign > 0]
    so_far = abs(sum(done))
    if rate.unit is RateUnit.BOTS:
        return rate.value - so_far
    before = max(0, have - so_far * sign)
    return ceil(before * rate.value / 100) - so_far
