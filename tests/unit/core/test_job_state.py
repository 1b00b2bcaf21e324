"""What clients are told."""

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.job_state import JobState, Stage, failed_response, operation_message
from google.longrunning.operations_proto_pb2 import Operation
from google.rpc import code_pb2

DIGEST = "b" * 64 + "/34"


def metadata_of(operation: Operation) -> re_pb2.ExecuteOperationMetadata:
    metadata = re_pb2.ExecuteOperationMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


def response_of(operation: Operation) -> re_pb2.ExecuteResponse:
    response = re_pb2.ExecuteResponse()
    assert operation.response.Unpack(response)
    return response


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("cancelled", [False, True])
def test_done_and_stage_completed_go_together_and_the_error_is_never_set(
    stage: Stage, cancelled: bool
) -> None:
    operation = operation_message("i", "n", JobState(stage, DIGEST, b""), cancelled=cancelled)
    done = cancelled or stage is Stage.COMPLETED
    assert operation.done is done
    assert (metadata_of(operation).stage == re_pb2.ExecutionStage.COMPLETED) is done
    if not done:
        assert int(metadata_of(operation).stage) == int(stage)
    assert operation.WhichOneof("result") == ("response" if done else None)


def test_the_metadata_names_the_action_the_streams_and_what_the_bot_told_so_far() -> None:
    partial = re_pb2.ExecutedActionMetadata(worker="w")
    state = JobState(Stage.EXECUTING, DIGEST, None, partial.SerializeToString(), "out", "err")
    metadata = metadata_of(operation_message("", "n", state))
    assert metadata.action_digest == re_pb2.Digest(hash="b" * 64, size_bytes=34)
    assert (metadata.stdout_stream_name, metadata.stderr_stream_name) == ("out", "err")
    assert metadata.partial_execution_metadata == partial


def test_metadata_from_a_bot_that_is_none_is_left_out() -> None:
    state = JobState(Stage.EXECUTING, DIGEST, None, b"\x0a\xff\xff\xff\xff garbage")
    metadata = metadata_of(operation_message("", "n", state))
    assert metadata.stage == re_pb2.ExecutionStage.EXECUTING
    assert not metadata.HasField("partial_execution_metadata")


@pytest.mark.parametrize(("instance", "expected"), [("", "n"), ("a", "a/n"), ("a/b", "a/b/n")])
def test_the_name_holds_the_instance(instance: str, expected: str) -> None:
    assert operation_message(instance, "n", JobState(Stage.QUEUED, DIGEST)).name == expected


def test_the_answer_is_the_jobs() -> None:
    answer = re_pb2.ExecuteResponse(cached_result=True, message="m")
    state = JobState(Stage.COMPLETED, DIGEST, answer.SerializeToString())
    assert response_of(operation_message("", "n", state)) == answer


@pytest.mark.parametrize("stage", [Stage.QUEUED, Stage.EXECUTING, Stage.COMPLETED])
def test_a_cancelled_operation_answers_cancelled_whatever_becomes_of_the_job(stage: Stage) -> None:
    state = JobState(stage, DIGEST, re_pb2.ExecuteResponse().SerializeToString())
    response = response_of(operation_message("", "n", state, cancelled=True))
    assert response.status.code == code_pb2.CANCELLED


def test_an_answer_that_can_not_be_found_is_data_loss() -> None:
    response = response_of(operation_message("", "n", JobState(Stage.COMPLETED, DIGEST)))
    assert response.status.code == code_pb2.DATA_LOSS


def test_a_failure_may_carry_the_output_there_is() -> None:
    result = re_pb2.ActionResult(stdout_raw=b"some")
    response = re_pb2.ExecuteResponse.FromString(failed_response(4, "too slow", result=result))
    assert (response.status.code, response.status.message) == (4, "too slow")
    assert response.result == result
    assert not re_pb2.ExecuteResponse.FromString(failed_response(4, "")).HasField("result")
