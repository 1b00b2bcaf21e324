"""Schedules: how many bots there are at least at a time, and when that changes next."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from buildgrid_operator.planner.policy import Schedule


@dataclass(frozen=True, slots=True)
class Floor:
    """At least so many bots. `changes`: when it is looked at again; None: never."""

    bots: int
    changes: datetime | None


def floor_at(min_bots: int, schedules: Iterable[Schedule], now: datetime) -> Floor:
    """The greatest of `min_bots` and of the schedules that are active. Where they overlap the maximum holds.

    Cron expressions are read in each schedule's time zone, as cron does it: a start that the clock skips in
    spring is made at the next hour, one that it passes twice in autumn is made once. A duration is time
    that passes, whatever the clock says. Raises ValueError for an expression or a time zone that is none.
    """
    bots, changes = min_bots, []
    for schedule in schedules:
        starts = _next_start(schedule, now)
        if starts is not None:
            changes.append(starts)
        began = _last_start(schedule, now)
        if began is not None and now < began + schedule.duration:
            bots = max(bots, schedule.min_bots)
            changes.append(began + schedule.duration)
    return Floor(bots, min(changes, default=None))


def _last_start(schedule: Schedule, now: datetime) -> datetime | None:
    # What is yielded lies before the time that is given, which may be a start itself.
    after = now.replace(microsecond=0) + timedelta(seconds=1)
    return _first(schedule, after, reverse=True)


def _next_start(schedule: Schedule, now: datetime) -> datetime | None:
    return _first(schedule, now, reverse=False)


def _first(schedule: Schedule, at: datetime, *, reverse: bool) -> datetime | None:
    """The nearest start, in UTC, so that adding a duration adds time that passes."""
    try:
        local = at.astimezone(ZoneInfo(schedule.time_zone))
        found: datetime = next(CronSim(schedule.start, local, reverse=reverse))
    except CronSimError as error:
        raise ValueError(f"schedule {schedule.start!r}: {error}") from error
    except (KeyError, ValueError, OSError) as error:  # OSError: the name of a folder, as Europe
        raise ValueError(f"schedule {schedule.start!r}: no time zone {schedule.time_zone!r}") from error
    except StopIteration:
        return None
    return found.astimezone(UTC)
