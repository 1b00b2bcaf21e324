"""What failures of obstore mean, where no server can be made to show it."""

import grpc
import pytest
from buildgrid_scheduler.storage.object_store.failures import failure_of
from obstore import exceptions

ANSWER = (
    "Generic S3 error: Error performing PUT https://host/bucket/x in 2ms - "
    "Server returned non-2xx status code: {}"
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (ANSWER.format("400 Bad Request: <Code>RequestTimeout</Code>"), grpc.StatusCode.UNAVAILABLE),
        (ANSWER.format("400 Bad Request: <Code>ExpiredToken</Code>"), grpc.StatusCode.UNAUTHENTICATED),
        (ANSWER.format("400 Bad Request: <Code>Other</Code>"), grpc.StatusCode.FAILED_PRECONDITION),
        (ANSWER.format("403 Forbidden"), grpc.StatusCode.PERMISSION_DENIED),
        (ANSWER.format("404 Not Found"), grpc.StatusCode.NOT_FOUND),
        (ANSWER.format("502 Bad Gateway"), grpc.StatusCode.UNAVAILABLE),
        (ANSWER.format("416 Range Not Satisfiable"), grpc.StatusCode.OUT_OF_RANGE),
        ("Received redirect without LOCATION, region", grpc.StatusCode.FAILED_PRECONDITION),
        ("Generic S3 error: HTTP error: error sending request", grpc.StatusCode.UNAVAILABLE),
    ],
)
def test_what_has_no_class_of_its_own_is_told_by_its_text(text: str, code: grpc.StatusCode) -> None:
    assert failure_of(exceptions.GenericError(text)).code == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FileNotFoundError("x"), grpc.StatusCode.NOT_FOUND),
        (exceptions.PermissionDeniedError("x"), grpc.StatusCode.PERMISSION_DENIED),
        (exceptions.UnauthenticatedError("x"), grpc.StatusCode.UNAUTHENTICATED),
        (exceptions.AlreadyExistsError("409"), grpc.StatusCode.ABORTED),
        (exceptions.NotSupportedError("x"), grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_classes_are_what_they_say(error: Exception, code: grpc.StatusCode) -> None:
    assert failure_of(error).code == code


def test_signatures_in_urls_and_obstores_internals_are_not_told() -> None:
    error = exceptions.GenericError(
        "Error performing GET https://account.blob.core.windows.net/c/x?sv=1&sig=SECRET in 1s: "
        '<?xml version="1.0"?>\n\nDebug source:\nGeneric { sig=SECRET }'
    )
    details = failure_of(error).details
    assert "SECRET" not in details
    assert details == (
        'Error performing GET https://account.blob.core.windows.net/c/x in 1s: <?xml version="1.0"?>'
    )
