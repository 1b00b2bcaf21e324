"""How jobs are queued, tried, handed out and forgotten."""

from datetime import timedelta

from pydantic import Field

from buildgrid_scheduler.config.section import Section
from buildgrid_scheduler.config.values import Duration, HttpUrl

_SECOND = timedelta(seconds=1)
_TICK = timedelta(milliseconds=10)


class SchedulerConfig(Section):
    """How jobs are queued, tried, handed out and forgotten."""

    max_execution_timeout: Duration = Field(default=timedelta(hours=2), ge=_SECOND)
    """Action.timeout above this is refused"""
    bot_session_keepalive_timeout: Duration = Field(default=timedelta(minutes=10), ge=timedelta(seconds=5))
    """a bot that does not call for this long is gone, and its jobs wait again"""
    session_expiry_interval: Duration = Field(default=timedelta(seconds=10), ge=_TICK)
    """how often sessions that have expired are looked for"""
    max_job_attempts: int = Field(default=5, ge=1)
    """attempts at a job that takes its bot with it, or fails for the farm's reasons"""
    max_infra_attempts: int = Field(default=20, ge=1)
    """losses that are certainly not the job's doing: never started, or its bot was evicted"""
    avoid_class_for: Duration = Field(default=timedelta(minutes=1))
    """a job that was lost by a bot of some capacity class waits this long for a bot of another; 0: never"""
    job_assignment_interval: Duration = Field(default=_SECOND, ge=_TICK)
    """how often the queue is looked at in case a notification was lost"""
    poll_interval: Duration = Field(default=_SECOND)
    """0: hear no other replica, for a server that is alone on its database behind a pooler without LISTEN"""
    priority_assignment_percentage: int = Field(default=100, ge=0, le=100)
    """share of assignments that go by priority, then age; the others go by age alone, so that below 100
    nothing waits for ever"""
    max_queue_size: int | None = Field(default=None, ge=1)
    """jobs of one instance and label that may wait, others get RESOURCE_EXHAUSTED; null: no limit"""
    cache_failed_actions: bool = Field(default=False)
    """store results with another exit code than 0 in the action cache, too"""
    action_browser_url: HttpUrl | None = Field(default=None)
    """links the action in the message of each response"""
    metrics_publish_interval: Duration = Field(default=timedelta(minutes=5), ge=_SECOND)
    """`Scheduler.get_metrics`, of programs that embed the scheduler, tells news at most this often"""
