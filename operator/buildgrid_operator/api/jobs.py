"""How jobs are queued, tried, handed out and forgotten."""

from datetime import timedelta
from typing import Annotated

from buildgrid_operator.api.durations import Duration
from buildgrid_operator.api.model import ApiModel, Config, Effect
from buildgrid_operator.api.shapes import Flag, Range
from buildgrid_operator.api.types import HttpUrl

_MINUTE = timedelta(minutes=1)


class AgedJobs(ApiModel):
    """What becomes of jobs that are older than some age."""

    max_age: Annotated[timedelta, Duration("1s"), Config("job_max_age")] = timedelta(days=30)
    """older ones are handled"""
    period: Annotated[timedelta, Duration("1s", "24h"), Config("handling_period")] = timedelta(minutes=5)
    """how often they are looked for"""
    batch_size: Annotated[int, Range(1, 1_000_000), Config("max_handling_window")] = 10_000
    """how many are handled each time, at most"""


class Pruning(AgedJobs):
    """Jobs that ended longer ago are forgotten, with their operations."""

    enabled: Flag = True
    """whether they are; otherwise the database grows for ever"""


class Jobs(ApiModel):
    """How long jobs may take, how often they are tried, and when they are forgotten."""

    max_execution_timeout: Annotated[timedelta, Duration("1s"), Config("scheduler.max_execution_timeout")] = (
        timedelta(hours=2)
    )
    """an Action.timeout above this is refused, and it counts for actions that have none"""
    execution_timeout_grace: Annotated[
        timedelta, Duration("0s", "24h"), Config("scheduler.execution_timeout_grace")
    ] = _MINUTE
    """on top of maxExecutionTimeout, for bots to report by themselves that a timeout is over"""
    execution_check_period: Annotated[
        timedelta,
        Duration("1s", "24h", or_zero="never"),
        Config("scheduler.execution_timer_interval"),
    ] = _MINUTE
    """how often jobs that execute for too long are looked for; 0s: never"""
    lease_start_timeout: Annotated[
        timedelta,
        Duration("1s", or_zero="never"),
        Config("scheduler.lease_start_timeout"),
    ] = timedelta(minutes=30)
    """a job that its bot has not started for this long, fetching inputs included, waits again; 0s: never"""
    check_input_tree: Annotated[Flag, Config("scheduler.check_input_tree")] = False
    """at Execute, refuse actions whose input tree is malformed or not wholly in the CAS, and name what is
    missing; costs reads of the CAS for each action that is not cached. Off: left to the bot that fetches"""
    queue_timeout: Annotated[AgedJobs | None, Config("scheduler.queue_timeout")] = None
    """jobs that wait for longer fail as UNAVAILABLE; unset: they wait for ever"""
    pruning: Annotated[Pruning, Config("scheduler.pruning")] = Pruning()
    """jobs that ended longer ago are forgotten, with their operations"""
    abandoned_operation_timeout: Annotated[
        timedelta,
        Duration("1s", or_zero="never"),
        Config("scheduler.abandoned_operation_timeout"),
    ] = timedelta(minutes=5)
    """an operation that no client follows for this long is cancelled, as is its job if nobody else wants it;
    0s: never"""
    max_attempts: Annotated[int, Range(1, 1000), Config("scheduler.max_job_attempts")] = 5
    """attempts at a job that takes its bot with it, or fails for the farm's reasons"""
    max_infra_attempts: Annotated[int, Range(1, 10_000), Config("scheduler.max_infra_attempts")] = 20
    """losses that are certainly not the job's doing: never started, or its bot was evicted"""
    max_queue_size: Annotated[int | None, Range(1, 100_000_000), Config("scheduler.max_queue_size")] = None
    """jobs of one instance and label that may wait, others get RESOURCE_EXHAUSTED; unset: no limit"""
    action_browser_url: Annotated[HttpUrl | None, Config("scheduler.action_browser_url")] = None
    """links the action in the message of each response"""


class Assignment(ApiModel):
    """Which job goes to which bot, and when."""

    priority_percentage: Annotated[int, Range(0, 100), Config("scheduler.priority_assignment_percentage")] = (
        100
    )
    """share of assignments that go by priority, then age; the others go by age alone, so that below 100
    nothing waits for ever"""
    avoid_class_for: Annotated[
        timedelta, Duration("1s", "24h", or_zero="never"), Config("scheduler.avoid_class_for")
    ] = _MINUTE
    """a job that was lost by a bot of some capacity class waits this long for a bot of another; 0s: never"""
    period: Annotated[
        timedelta,
        Duration("10ms", "1m"),
        Config("scheduler.job_assignment_interval"),
        Effect.ROLLOUT,
    ] = timedelta(seconds=1)
    """how often the queue is looked at in case a notification was lost"""


class Bots(ApiModel):
    """When bots count as gone."""

    keepalive_timeout: Annotated[
        timedelta, Duration("5s", "24h"), Config("scheduler.bot_session_keepalive_timeout")
    ] = timedelta(minutes=10)
    """a bot that does not call for this long is gone, and its jobs wait again"""
    expiry_period: Annotated[
        timedelta,
        Duration("10ms", "1h"),
        Config("scheduler.session_expiry_interval"),
        Effect.ROLLOUT,
    ] = timedelta(seconds=10)
    """how often sessions that have expired are looked for"""
