"""What the client does when a stream ends, and how it words failures."""

import grpc
import pytest
from buildgrid_client.execution import Step, next_step
from buildgrid_client.execution_errors import error_of_status
from google.rpc.error_details_pb2 import PreconditionFailure
from google.rpc.status_pb2 import Status

OPERATION = "main/123"


@pytest.mark.parametrize(
    ("code", "details", "operation", "step"),
    [
        (None, "", OPERATION, Step.WAIT),
        (None, "", "", Step.EXECUTE),
        (grpc.StatusCode.UNAVAILABLE, "", OPERATION, Step.WAIT),
        (grpc.StatusCode.UNAVAILABLE, "", "", Step.EXECUTE),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", OPERATION, Step.WAIT),
        (grpc.StatusCode.INTERNAL, "a fault of the server", OPERATION, Step.FAIL),
        (grpc.StatusCode.NOT_FOUND, "", OPERATION, Step.EXECUTE),
        (grpc.StatusCode.NOT_FOUND, "no such instance", "", Step.FAIL),
        (grpc.StatusCode.FAILED_PRECONDITION, "", OPERATION, Step.FAIL),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", "", Step.FAIL),
        (grpc.StatusCode.CANCELLED, "", OPERATION, Step.WAIT),
    ],
)
def test_a_lost_stream_is_picked_up_and_a_refusal_is_final(
    code: grpc.StatusCode | None, details: str, operation: str, step: Step
) -> None:
    assert next_step(code, details, operation) is step


def test_missing_blobs_are_listed_for_programs_and_shown_to_people() -> None:
    status = Status(code=9, message="inputs are missing")
    failure = PreconditionFailure()
    for number in range(7):
        failure.violations.add(type="MISSING", subject=f"blobs/hash{number}/{number}")
    status.details.add().Pack(failure)
    error = error_of_status(status)
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert error.missing == tuple(f"hash{number}/{number}" for number in range(7))
    assert str(error).startswith("FAILED_PRECONDITION: inputs are missing (not in the CAS: hash0/0, ")
    assert str(error).endswith("hash4/4 and 2 more)")


def test_other_preconditions_are_part_of_the_message() -> None:
    status = Status(code=9, message="no")
    failure = PreconditionFailure()
    failure.violations.add(type="QUOTA", subject="team-a", description="is used up")
    status.details.add().Pack(failure)
    error = error_of_status(status)
    assert error.missing == ()
    assert error.message == "no; QUOTA team-a: is used up"


def test_a_status_without_words_or_with_an_unknown_code_still_says_something() -> None:
    error = error_of_status(Status(code=99))
    assert str(error) == "UNKNOWN: no reason was given"
