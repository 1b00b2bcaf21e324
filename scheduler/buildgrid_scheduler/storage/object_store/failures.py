"""What a failure of obstore means, told as a gRPC status. Pure.

obstore has classes for the clear cases. All else is one class, and the HTTP status only in its text.
"""

import re

import grpc

from buildgrid_scheduler.storage.object_store.location import first_lines
from buildgrid_scheduler.storage.outages import CallFailed

_STATUS = re.compile(r"status code: (\d{3})")
# Azure's shared access signatures are in the query of the URL, which is in the text.
_QUERY = re.compile(r"(https?://[^\s?\"]+)\?[^\s\"]+")
_RANGE = re.compile(r"invalid range|range was invalid", re.IGNORECASE)
_MOST_CHARACTERS = 400
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ABORTED,  # another writer at the same moment
    416: grpc.StatusCode.OUT_OF_RANGE,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
}
# S3 sends these as 400: the connection was too slow, the credentials have just expired.
_SLOW, _EXPIRED = "RequestTimeout", "ExpiredToken"


def failure_of(error: Exception) -> CallFailed:
    """How a request ended that raised this; not for errors of the caller's own files.

    Without any HTTP status there was no answer: the network, or the store, is away.
    """
    text = first_lines(error)
    return CallFailed(_code(error, text), " ".join(_QUERY.sub(r"\1", text).split())[:_MOST_CHARACTERS])


def _code(error: Exception, text: str) -> grpc.StatusCode:
    from obstore import exceptions

    if isinstance(error, FileNotFoundError):
        return grpc.StatusCode.NOT_FOUND
    if isinstance(error, exceptions.PermissionDeniedError):
        return grpc.StatusCode.PERMISSION_DENIED
    if isinstance(error, exceptions.UnauthenticatedError):
        return grpc.StatusCode.UNAUTHENTICATED
    if isinstance(error, exceptions.AlreadyExistsError):
        return _CODES[409]
    if not isinstance(error, exceptions.GenericError):
        return grpc.StatusCode.FAILED_PRECONDITION
    status = _STATUS.search(text)
    if status is not None:
        return _code_of_status(int(status[1]), text)
    if "Received redirect" in text:
        return grpc.StatusCode.FAILED_PRECONDITION  # the bucket is in another region
    if _RANGE.search(text):
        return grpc.StatusCode.OUT_OF_RANGE  # stores without a network have words of their own
    return grpc.StatusCode.UNAVAILABLE


def _code_of_status(status: int, text: str) -> grpc.StatusCode:
    if status in _CODES:
        return _CODES[status]
    if status >= 500 or status in (408, 429) or _SLOW in text:
        return grpc.StatusCode.UNAVAILABLE
    return grpc.StatusCode.UNAUTHENTICATED if _EXPIRED in text else grpc.StatusCode.FAILED_PRECONDITION
