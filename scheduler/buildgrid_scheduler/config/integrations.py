"""Services that the scheduler tells of its jobs: assets, log streams, metering. None of them is needed."""

from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field

from buildgrid_scheduler.config.section import Section
from buildgrid_scheduler.config.storage import RemoteServerConfig
from buildgrid_scheduler.config.values import Duration, HttpUrl, InstanceName

_BRIEF = timedelta(milliseconds=10)
_HOUR = timedelta(hours=1)


class AssetsConfig(RemoteServerConfig):
    """A Remote Asset service, which keeps actions and results in the CAS."""

    instance_name: InstanceName | None = None
    """the instance there for all of ours; null: each under its own name"""
    queued_action_retention: Duration | None = Field(default=None, ge=_HOUR)
    """from enqueue on, an action is kept this long with its command and inputs; null: not at all"""
    completed_action_retention: Duration | None = Field(default=None, ge=_HOUR)
    """from completion on, likewise"""
    action_result_retention: Duration | None = Field(default=None, ge=_HOUR)
    """from completion on, a result is kept this long with all its outputs; null: not at all"""
    timeout: Duration = Field(default=timedelta(seconds=5), ge=_BRIEF, le=timedelta(minutes=1))
    """what one call may take; no job waits for it"""


class LogStreamsConfig(RemoteServerConfig):
    """A Remote Log Stream service: clients read what commands print while they run."""

    instance_name: InstanceName | None = None
    """the parent of all streams; null: the instance of the job"""
    wait: Duration = Field(default=timedelta(seconds=2), ge=_BRIEF, le=timedelta(seconds=10))
    """a bot that is handed a job waits this long for its streams; after that the job runs without"""


class MeteringConfig(Section):
    """A BuildGrid metering service, told what clients use; it may have them throttled."""

    url: HttpUrl
    """http or https; its paths begin with /v1"""
    token_file: Path | None = None
    """a file with a bearer token that each request carries; read again when it changes"""
    throttle_action: Literal["deprioritize", "reject"] = "deprioritize"
    """what becomes of a throttled client's actions: priority 1 at best, or RESOURCE_EXHAUSTED"""
    timeout: Duration = Field(default=timedelta(seconds=5), ge=_BRIEF, le=timedelta(minutes=1))
    """what one request may take"""
    throttle_wait: Duration = Field(default=timedelta(seconds=1), ge=_BRIEF, le=timedelta(seconds=30))
    """an action waits this long to hear whether its client is throttled; after that it is not"""
    throttle_answers_for: Duration = timedelta(seconds=5)
    """an answer counts this long; 0: asked for each action"""
