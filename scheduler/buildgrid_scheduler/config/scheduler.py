"""How jobs are queued, tried, handed out and forgotten."""

from datetime import timedelta

from pydantic import Field

from buildgrid_scheduler.config.section import RELOADABLE, Section
from buildgrid_scheduler.config.values import Duration, HttpUrl

_SECOND = timedelta(seconds=1)
_TICK = timedelta(milliseconds=10)


class AgedJobsConfig(Section):
    """What becomes of jobs that are older than some age."""

    job_max_age: Duration = Field(default=timedelta(days=30), ge=_SECOND)
    """older ones are handled"""
    handling_period: Duration = Field(default=timedelta(minutes=5), ge=_TICK)
    """how often they are looked for"""
    max_handling_window: int = Field(default=10_000, ge=1)
    """how many are handled each time, at most"""


class SchedulerConfig(Section):
    """How jobs are queued, tried, handed out and forgotten."""

    accept_new_jobs: bool = Field(default=True, json_schema_extra=RELOADABLE)
    """false empties the farm before it is shut down: jobs that wait or run are finished, cached results and
    running jobs are shared, and an Execute that would make a job gets UNAVAILABLE"""
    max_execution_timeout: Duration = Field(
        default=timedelta(hours=2), ge=_SECOND, json_schema_extra=RELOADABLE
    )
    """Action.timeout above this is refused"""
    check_input_tree: bool = Field(default=False, json_schema_extra=RELOADABLE)
    """at Execute, refuse actions whose input tree is malformed or not wholly in the CAS, and name what is
    missing; costs reads of the CAS for each action that is not cached. Off: left to the bot that fetches"""
    bot_session_keepalive_timeout: Duration = Field(
        default=timedelta(minutes=10), ge=timedelta(seconds=5), json_schema_extra=RELOADABLE
    )
    """a bot that does not call for this long is gone, and its jobs wait again"""
    session_expiry_interval: Duration = Field(default=timedelta(seconds=10), ge=_TICK)
    """how often sessions that have expired are looked for"""
    execution_timer_interval: Duration = Field(default=timedelta(minutes=1), json_schema_extra=RELOADABLE)
    """how often jobs that execute for too long are looked for; 0: never"""
    execution_timeout_grace: Duration = Field(default=timedelta(minutes=1), json_schema_extra=RELOADABLE)
    """on top of max_execution_timeout, for bots to report by themselves that Action.timeout is over"""
    lease_start_timeout: Duration | None = Field(
        default=timedelta(minutes=30), ge=_SECOND, json_schema_extra=RELOADABLE
    )
    """a lease that its bot has not started for this long, fetching the inputs included, is taken from it, and
    the job waits again; looked for as often as jobs that execute for too long; null: never"""
    queue_timeout: AgedJobsConfig | None = Field(default=None, json_schema_extra=RELOADABLE)
    """jobs that wait for longer fail as UNAVAILABLE; null: they wait for ever"""
    pruning: AgedJobsConfig | None = Field(default=AgedJobsConfig(), json_schema_extra=RELOADABLE)
    """jobs that ended longer ago are forgotten, with their operations; null: the database grows for ever"""
    abandoned_operation_timeout: Duration | None = Field(
        default=timedelta(minutes=5), ge=_SECOND, json_schema_extra=RELOADABLE
    )
    """an operation that no client follows for this long is cancelled, as is its job if nobody else wants it;
    null: never"""
    max_job_attempts: int = Field(default=5, ge=1, json_schema_extra=RELOADABLE)
    """attempts at a job that takes its bot with it, or fails for the farm's reasons"""
    max_infra_attempts: int = Field(default=20, ge=1, json_schema_extra=RELOADABLE)
    """losses that are certainly not the job's doing: never started, or its bot was evicted"""
    avoid_class_for: Duration = Field(default=timedelta(minutes=1), json_schema_extra=RELOADABLE)
    """a job that was lost by a bot of some capacity class waits this long for a bot of another; 0: never"""
    job_assignment_interval: Duration = Field(default=_SECOND, ge=_TICK)
    """how often the queue is looked at in case a notification was lost"""
    poll_interval: Duration = Field(default=_SECOND)
    """0: hear no other replica, for a server that is alone on its database behind a pooler without LISTEN"""
    priority_assignment_percentage: int = Field(default=100, ge=0, le=100, json_schema_extra=RELOADABLE)
    """share of assignments that go by priority, then age; the others go by age alone, so that below 100
    nothing waits for ever"""
    max_queue_size: int | None = Field(default=None, ge=1, json_schema_extra=RELOADABLE)
    """jobs of one instance and label that may wait, others get RESOURCE_EXHAUSTED; null: no limit"""
    cache_failed_actions: bool = Field(default=False, json_schema_extra=RELOADABLE)
    """store results with another exit code than 0 in the action cache, too"""
    action_browser_url: HttpUrl | None = Field(default=None, json_schema_extra=RELOADABLE)
    """links the action in the message of each response"""
    metrics_publish_interval: Duration = Field(default=timedelta(minutes=5), ge=_SECOND)
    """`Scheduler.get_metrics`, of programs that embed the scheduler, tells news at most this often"""
