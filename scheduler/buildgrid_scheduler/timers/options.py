"""How old what may get, and how often that is looked at."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

_UNITS = ("weeks", "days", "hours", "minutes", "seconds")

ABANDONED_AFTER = timedelta(minutes=5)
"""the default of `abandoned_operation_timeout`"""
UNSTARTED_AFTER = timedelta(minutes=30)
"""the default of `Scheduler`'s `lease_start_timeout`: bots fetch inputs before they start"""


class AgedJobHandlerOptions(NamedTuple):
    """What becomes of jobs that are older than `job_max_age`: looked at every `handling_period`, and never
    more than `max_handling_window` jobs each time.
    """

    job_max_age: timedelta
    handling_period: timedelta
    max_handling_window: int

    @staticmethod
    def from_config(
        job_max_age_cfg: dict[str, float],
        handling_period_cfg: dict[str, float] | None = None,
        max_handling_window_cfg: int | None = None,
    ) -> "AgedJobHandlerOptions":
        """From `{"days": 1, "hours": 12}` and alike: weeks, days, hours, minutes, seconds, added up.

        Empty or None: an age of 30 days, a period of 5 minutes, a window of 10000 jobs. Raises ValueError for
        other units, for what is not a number or negative, for a period of nothing and a window below 1.
        """
        period = _duration("handling_period", handling_period_cfg, timedelta(minutes=5))
        if not period:
            raise ValueError("handling_period: must be above 0")
        window = 10_000 if max_handling_window_cfg is None else max_handling_window_cfg
        if window < 1:
            raise ValueError(f"max_handling_window: {window}: must be at least 1")
        return AgedJobHandlerOptions(
            _duration("job_max_age", job_max_age_cfg, timedelta(days=30)), period, window
        )


def _duration(field: str, parts: Mapping[str, float] | None, default: timedelta) -> timedelta:
    if not parts:
        return default
    for unit, amount in parts.items():
        if unit not in _UNITS:
            raise ValueError(f"{field}: {unit!r} is no unit; there are {', '.join(_UNITS)}")
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise ValueError(f"{field}: {unit}: {amount!r} is not a number")  # noqa: TRY004 - a configuration is wrong
        if not amount >= 0:  # so that NaN is caught, too
            raise ValueError(f"{field}: {unit}: {amount} is negative, or not a number")
    try:
        return timedelta(**parts)
    except OverflowError as error:
        raise ValueError(f"{field}: {dict(parts)} is too long; there is room for 999999999 days") from error


@dataclass(frozen=True, slots=True)
class TimerSettings:
    """All that the timers of a replica need to know. Intervals are in seconds; 0 or less: not run here."""

    session_expiry_interval: float = 10.0
    execution_interval: float = 60.0
    max_execution_timeout: timedelta | None = None
    """from the start at the worker; None: no limit"""
    execution_grace: timedelta = timedelta(seconds=60)
    """on top of it, for bots to report by themselves that Action.timeout is over"""
    lease_start_timeout: timedelta | None = None
    """so long after a bot was told of a lease it must have started it; None: it may take for ever"""
    queue_timeout: AgedJobHandlerOptions | None = None
    pruning: AgedJobHandlerOptions | None = None
    abandoned_operation_timeout: timedelta | None = ABANDONED_AFTER
    """None: operations are followed up for ever"""

    @property
    def follow_interval(self) -> float:
        """How often a replica notes which operations are followed there.

        Never less often than the default timeout asks for, whatever this replica's own: while replicas are
        restarted with another setting, some judge by the old one and some by the new one.
        """
        timeout = self.abandoned_operation_timeout
        return min(timeout or ABANDONED_AFTER, ABANDONED_AFTER).total_seconds() / 4
