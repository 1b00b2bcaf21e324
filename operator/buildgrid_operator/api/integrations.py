"""Services that the scheduler tells of its jobs: assets, log streams, metering. None of them is needed."""

from datetime import timedelta
from typing import Annotated, Literal

from buildgrid_operator.api.durations import Duration
from buildgrid_operator.api.model import ApiModel, Config
from buildgrid_operator.api.types import HttpUrl, InstanceName, RemoteServer, SecretKeyRef


class Assets(RemoteServer):
    """A Remote Asset service, which keeps actions and results in the CAS."""

    instance_name: Annotated[InstanceName | None, Config("instance_name")] = None
    """the instance there for all of ours; unset: each under its own name"""
    queued_action_retention: Annotated[
        timedelta | None, Duration("1h"), Config("queued_action_retention")
    ] = None
    """from enqueue on, an action is kept this long with its command and inputs; unset: not at all"""
    completed_action_retention: Annotated[
        timedelta | None, Duration("1h"), Config("completed_action_retention")
    ] = None
    """from completion on, likewise"""
    action_result_retention: Annotated[
        timedelta | None, Duration("1h"), Config("action_result_retention")
    ] = None
    """from completion on, a result is kept this long with all its outputs; unset: not at all"""
    timeout: Annotated[timedelta, Duration("10ms", "1m"), Config("timeout")] = timedelta(seconds=5)
    """what one call may take; no job waits for it"""


class LogStreams(RemoteServer):
    """A Remote Log Stream service: clients read what commands print while they run."""

    instance_name: Annotated[InstanceName | None, Config("instance_name")] = None
    """the parent of all streams; unset: the instance of the job"""
    wait: Annotated[timedelta, Duration("10ms", "10s"), Config("wait")] = timedelta(seconds=2)
    """a bot that is handed a job waits this long for its streams; after that the job runs without"""


class Metering(ApiModel):
    """A BuildGrid metering service, told what clients use; it may have them throttled."""

    url: Annotated[HttpUrl, Config("url")]
    """http or https; its paths begin with /v1"""
    token_secret_ref: Annotated[SecretKeyRef | None, Config("token_file")] = None
    """a bearer token that each request carries"""
    throttle_action: Annotated[Literal["Deprioritize", "Reject"], Config("throttle_action")] = "Deprioritize"
    """what becomes of a throttled client's actions: priority 1 at best, or RESOURCE_EXHAUSTED"""
    timeout: Annotated[timedelta, Duration("10ms", "1m"), Config("timeout")] = timedelta(seconds=5)
    """what one request may take"""
    throttle_wait: Annotated[timedelta, Duration("10ms", "30s"), Config("throttle_wait")] = timedelta(
        seconds=1
    )
    """an action waits this long to hear whether its client is throttled; after that it is not"""
    throttle_answers_for: Annotated[timedelta, Duration("0s", "24h"), Config("throttle_answers_for")] = (
        timedelta(seconds=5)
    )
    """an answer counts this long; 0s: asked for each action"""
