"""What becomes of a job when an attempt at it ends. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import code_pb2

from buildgrid_scheduler.core.attempts import AttemptLimits, Tries, after_failed_attempt, after_lost_lease
from buildgrid_scheduler.core.clock import from_timestamp, to_timestamp
from buildgrid_scheduler.core.job_state import failed_response
from buildgrid_scheduler.core.result_size import MAX_RESULT_BYTES, fit_into_a_message


@dataclass(frozen=True, slots=True)
class CompletionPolicy:
    """Settings that decide about ends."""

    limits: AttemptLimits = field(default_factory=AttemptLimits)
    cache_failed_actions: bool = False
    """store results with another exit code than 0, too"""
    action_browser_url: str | None = None
    avoid_class_for: timedelta = timedelta(seconds=60)
    """so long a job prefers bots of another capacity class than that of the bot that lost it"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The job and the lease whose end is to be decided."""

    job_name: str
    instance: str
    action_digest: str
    do_not_cache: bool
    tries: Tries
    queued_at: datetime
    started_at: datetime | None


@dataclass(frozen=True, slots=True)
class Completion:
    """The job is done."""

    response: bytes
    """a serialized ExecuteResponse"""
    status_code: int
    worker_start_at: datetime | None
    worker_completed_at: datetime | None
    cache_entry: bytes | None = None
    """a serialized ActionResult for the action cache"""


@dataclass(frozen=True, slots=True)
class Retry:
    """The job waits again, with these counts."""

    tries: Tries
    reason: str
    """what was wrong with the attempt that ended, for people"""


def end_of_attempt(
    attempt: Attempt,
    *,
    status_code: int,
    status_message: str,
    status_details: Sequence[AnyMessage] = (),
    result: bytes | None,
    bot_id: str,
    now: datetime,
    policy: CompletionPolicy,
) -> Completion | Retry:
    """A bot reported the lease COMPLETED. `result` is a serialized ActionResult."""
    action_result = re_pb2.ActionResult()
    if result is not None:
        try:
            action_result.ParseFromString(result)
        except DecodeError:
            status_code, status_message = (
                code_pb2.INTERNAL,
                f"bot {bot_id} sent a result that is no ActionResult",
            )
            result = None
    elif status_code == code_pb2.OK:
        status_code, status_message = code_pb2.INTERNAL, f"bot {bot_id} reported success without a result"
    size = action_result.ByteSize()
    if not fit_into_a_message(action_result):
        result = None
        if status_code == code_pb2.OK:
            status_code, status_message = code_pb2.RESOURCE_EXHAUSTED, too_large(bot_id, size)

    tries = after_failed_attempt(status_code, attempt.tries, policy.limits)
    if tries is not None:
        said = f": {status_message}" if status_message else ""
        return Retry(tries, f"bot {bot_id} reported {code_name(status_code)}{said}")

    metadata = action_result.execution_metadata
    worker_start = from_timestamp(metadata.worker_start_timestamp) or attempt.started_at or now
    worker_end = from_timestamp(metadata.worker_completed_timestamp) or now
    response = re_pb2.ExecuteResponse(message=link_to_action(policy, attempt.action_digest))
    if result is not None:
        metadata.queued_timestamp.CopyFrom(to_timestamp(attempt.queued_at))
        metadata.worker = metadata.worker or bot_id
        response.result.CopyFrom(action_result)
    if status_code != code_pb2.OK:
        response.status.code = status_code
        response.status.message = status_message or f"the attempt on bot {bot_id} failed"
        response.status.details.extend(status_details)
    cacheable = (
        status_code == code_pb2.OK
        and not attempt.do_not_cache
        and (action_result.exit_code == 0 or policy.cache_failed_actions)
    )
    return Completion(
        response=response.SerializeToString(),
        status_code=status_code,
        worker_start_at=worker_start,
        worker_completed_at=worker_end,
        cache_entry=action_result.SerializeToString() if cacheable else None,
    )


def end_of_lost_lease(
    attempt: Attempt, *, started: bool, announced: bool, reason: str, now: datetime, policy: CompletionPolicy
) -> Completion | Retry:
    """The bot is gone, or has let go of the lease. `reason` is shown to the client at the last attempt."""
    tries = after_lost_lease(started=started, announced=announced, tries=attempt.tries, limits=policy.limits)
    if tries is not None:
        return Retry(tries, reason)
    counted = attempt.tries.n_tries if started and not announced else attempt.tries.n_infra_tries + 1
    message = f"gave up after {counted} lost attempts; the last: {reason}"
    return Completion(
        response=failed_response(code_pb2.UNAVAILABLE, message),
        status_code=code_pb2.UNAVAILABLE,
        worker_start_at=attempt.started_at,
        worker_completed_at=now,
    )


def too_large(bot_id: str, size: int) -> str:
    """Of a result that no client could be sent."""
    return (
        f"bot {bot_id} sent a result of {size} bytes, and clients take {MAX_RESULT_BYTES}: "
        "have the action make fewer outputs, or a directory of them; have the bot upload stdout and stderr"
    )


def link_to_action(policy: CompletionPolicy, action_digest: str) -> str:
    """The message of a response: where to look at the action, if there is a browser for that."""
    url = policy.action_browser_url
    return f"{url.rstrip('/')}/action/{action_digest}/" if url else ""


_CODE_NAMES = {number: name for name, number in code_pb2.Code.items()}


def code_name(code: int) -> str:
    """The name of a google.rpc code; its number where it has none."""
    return _CODE_NAMES.get(code) or f"status {code}"
