"""What becomes of a job when an attempt ends."""

from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.attempts import AttemptLimits, Tries
from buildgrid_scheduler.core.clock import to_timestamp
from buildgrid_scheduler.core.completion import (
    Attempt,
    Completion,
    CompletionPolicy,
    Retry,
    end_of_attempt,
    end_of_lost_lease,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
QUEUED, STARTED = NOW - timedelta(minutes=10), NOW - timedelta(minutes=5)
DIGEST = "a" * 64 + "/12"
LAST = Tries(n_tries=5)


def attempt(*, do_not_cache: bool = False, tries: Tries | None = None, started: bool = True) -> Attempt:
    return Attempt(
        "job", "instance", DIGEST, do_not_cache, tries or Tries(), QUEUED, STARTED if started else None
    )


def end(
    result: re_pb2.ActionResult | bytes | None,
    *,
    code: int = 0,
    message: str = "",
    details: tuple[AnyMessage, ...] = (),
    of: Attempt | None = None,
    policy: CompletionPolicy | None = None,
) -> Completion | Retry:
    serialized = result.SerializeToString() if isinstance(result, re_pb2.ActionResult) else result
    return end_of_attempt(
        of or attempt(),
        status_code=code,
        status_message=message,
        status_details=details,
        result=serialized,
        bot_id="bot-7",
        now=NOW,
        policy=policy or CompletionPolicy(),
    )


def completed(outcome: Completion | Retry) -> tuple[Completion, re_pb2.ExecuteResponse]:
    assert isinstance(outcome, Completion)
    return outcome, re_pb2.ExecuteResponse.FromString(outcome.response)


# --- answers


def test_a_result_is_the_answer_and_carries_who_and_when() -> None:
    completion, response = completed(end(re_pb2.ActionResult(exit_code=3, stdout_raw=b"out")))
    assert completion.status_code == response.status.code == 0
    assert (response.result.exit_code, response.result.stdout_raw) == (3, b"out")
    assert response.result.execution_metadata.worker == "bot-7"
    assert response.result.execution_metadata.queued_timestamp == to_timestamp(QUEUED)
    assert not response.cached_result


def test_the_name_that_a_worker_gave_itself_is_kept() -> None:
    result = re_pb2.ActionResult()
    result.execution_metadata.worker = "worker of bot-7"
    _, response = completed(end(result))
    assert response.result.execution_metadata.worker == "worker of bot-7"


def test_start_and_end_are_the_workers_own_where_it_tells_them() -> None:
    result = re_pb2.ActionResult()
    start, stop = NOW - timedelta(seconds=9), NOW - timedelta(seconds=2)
    result.execution_metadata.worker_start_timestamp.CopyFrom(to_timestamp(start))
    result.execution_metadata.worker_completed_timestamp.CopyFrom(to_timestamp(stop))
    completion, _ = completed(end(result))
    assert (completion.worker_start_at, completion.worker_completed_at) == (start, stop)


@pytest.mark.parametrize(("started", "expected"), [(True, STARTED), (False, NOW)])
def test_start_and_end_are_ours_where_the_worker_tells_none(started: bool, expected: datetime) -> None:
    completion, _ = completed(end(re_pb2.ActionResult(), of=attempt(started=started)))
    assert (completion.worker_start_at, completion.worker_completed_at) == (expected, NOW)


def test_times_that_are_out_of_range_count_as_not_told() -> None:
    result = re_pb2.ActionResult()
    result.execution_metadata.worker_start_timestamp.seconds = 1 << 60
    completion, _ = completed(end(result))
    assert completion.worker_start_at == STARTED


def test_a_failure_is_the_answer_with_its_details_and_the_output_there_is() -> None:
    detail = AnyMessage(type_url="type.googleapis.com/some.Detail", value=b"1")
    outcome = end(re_pb2.ActionResult(stderr_raw=b"half"), code=4, message="too slow", details=(detail,))
    completion, response = completed(outcome)
    assert completion.status_code == response.status.code == code_pb2.DEADLINE_EXCEEDED
    assert response.status.message == "too slow"
    assert list(response.status.details) == [detail]
    assert response.result.stderr_raw == b"half"


def test_a_failure_without_a_message_names_the_bot() -> None:
    _, response = completed(end(None, code=9))
    assert "bot-7" in response.status.message
    assert not response.HasField("result")


@pytest.mark.parametrize("result", [None, b"\xff\xff no ActionResult"], ids=["missing", "unparsable"])
def test_a_success_without_a_result_is_tried_again_and_then_internal(result: bytes | None) -> None:
    again = end(result)
    assert isinstance(again, Retry)
    assert again.tries == Tries(2, 0)
    assert "result" in again.reason
    completion, response = completed(end(result, of=attempt(tries=LAST)))
    assert completion.status_code == response.status.code == code_pb2.INTERNAL
    assert "bot-7" in response.status.message
    assert not response.HasField("result")
    assert completion.cache_entry is None


@pytest.mark.parametrize("code", [13, 14])
def test_a_retryable_failure_is_tried_again_until_the_last_attempt(code: int) -> None:
    again = end(None, code=code, message="no network")
    name = code_pb2.Code.Name(code)
    assert again == Retry(Tries(2, 0), f"bot bot-7 reported {name}: no network")
    assert end(None, code=code) == Retry(Tries(2, 0), f"bot bot-7 reported {name}")
    completion, response = completed(end(None, code=code, message="the last", of=attempt(tries=LAST)))
    assert completion.status_code == code
    assert response.status.message == "the last"


def test_the_answer_links_the_action_where_a_browser_is_configured() -> None:
    policy = CompletionPolicy(action_browser_url="https://browse.example/farm/")
    _, response = completed(end(re_pb2.ActionResult(), policy=policy))
    assert response.message == f"https://browse.example/farm/action/{DIGEST}/"


# --- the cache


def test_a_good_result_is_cached_as_it_is_answered() -> None:
    completion, response = completed(end(re_pb2.ActionResult(stdout_raw=b"x")))
    assert completion.cache_entry is not None
    assert re_pb2.ActionResult.FromString(completion.cache_entry) == response.result


@pytest.mark.parametrize("cache_failed", [False, True])
@pytest.mark.parametrize("do_not_cache", [False, True])
@pytest.mark.parametrize("exit_code", [0, 1, -9])
@pytest.mark.parametrize("code", [0, 4])
def test_only_what_may_be_cached_is(
    code: int, exit_code: int, do_not_cache: bool, cache_failed: bool
) -> None:
    completion, _ = completed(
        end(
            re_pb2.ActionResult(exit_code=exit_code),
            code=code,
            of=attempt(do_not_cache=do_not_cache),
            policy=CompletionPolicy(cache_failed_actions=cache_failed),
        )
    )
    expected = code == 0 and not do_not_cache and (exit_code == 0 or cache_failed)
    assert (completion.cache_entry is not None) is expected


# --- leases that were lost


def test_a_lost_lease_is_tried_again_by_its_own_counts() -> None:
    policy = CompletionPolicy(AttemptLimits(3, 4))
    for started, announced, expected in [
        (True, False, Tries(2, 0)),
        (True, True, Tries(1, 1)),
        (False, False, Tries(1, 1)),
    ]:
        outcome = end_of_lost_lease(
            attempt(), started=started, announced=announced, reason="why", now=NOW, policy=policy
        )
        assert outcome == Retry(expected, "why")


@pytest.mark.parametrize(("started", "tries"), [(True, Tries(3, 0)), (False, Tries(1, 3))])
def test_the_last_loss_is_unavailable_and_says_why(started: bool, tries: Tries) -> None:
    outcome = end_of_lost_lease(
        attempt(tries=tries),
        started=started,
        announced=False,
        reason="bot-7 vanished",
        now=NOW,
        policy=CompletionPolicy(AttemptLimits(3, 4)),
    )
    completion, response = completed(outcome)
    assert completion.status_code == response.status.code == code_pb2.UNAVAILABLE
    assert "bot-7 vanished" in response.status.message
    assert ("3" if started else "4") in response.status.message
    assert completion.cache_entry is None
    assert completion.worker_completed_at == NOW


# --- size


def large(**fields: bytes) -> re_pb2.ActionResult:
    return re_pb2.ActionResult(exit_code=0, **fields)  # type: ignore[arg-type]


def test_inlined_contents_that_digests_name_are_left_out_of_a_result_that_is_too_large() -> None:
    result = large(stdout_raw=bytes(3 << 20), stderr_raw=b"short")
    result.stdout_digest.hash = "b" * 64
    file = result.output_files.add(path="out", contents=bytes(2 << 20))
    file.digest.hash = "c" * 64
    completion, response = completed(end(result))
    assert response.status.code == code_pb2.OK and completion.cache_entry is not None
    assert not response.result.stdout_raw and not response.result.output_files[0].contents
    assert response.result.stderr_raw == b"short" and response.result.output_files[0].digest == file.digest


def test_a_result_of_a_usual_size_keeps_its_contents() -> None:
    _, response = completed(end(large(stdout_raw=bytes(3 << 20))))
    assert len(response.result.stdout_raw) == 3 << 20


def test_a_result_that_no_client_could_be_sent_ends_the_job_with_the_reason() -> None:
    completion, response = completed(end(large(stdout_raw=bytes(5 << 20))))
    assert completion.status_code == response.status.code == code_pb2.RESOURCE_EXHAUSTED
    assert "bot-7 sent a result of 5242" in response.status.message
    assert completion.cache_entry is None and len(completion.response) < 1000


def test_a_failure_with_too_large_a_result_stays_that_failure() -> None:
    _, response = completed(
        end(large(stdout_raw=bytes(5 << 20)), code=code_pb2.DEADLINE_EXCEEDED, message="late")
    )
    assert (response.status.code, response.status.message) == (code_pb2.DEADLINE_EXCEEDED, "late")
