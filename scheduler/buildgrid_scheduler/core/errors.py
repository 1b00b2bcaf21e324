"""The errors that callers see, each with the gRPC status code it stands for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import grpc


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a call failed, for programs: sent as google.rpc.ErrorInfo. `reason` is UPPER_SNAKE_CASE."""

    reason: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class SchedulerError(Exception):
    """Base of all errors that are answers to a caller. `code` is the gRPC status that the services send.

    The message is shown to the caller: it names the field and the remedy.
    """

    code: grpc.StatusCode = grpc.StatusCode.INTERNAL
    cause: Cause | None = None
    """where the caller may want to do something about it by itself"""


class InvalidArgument(SchedulerError):
    """The request is malformed, whatever the state of the server."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class UnknownSession(InvalidArgument):
    """An update of a bot session that is not there: it never was, or it has ended."""


class NotFound(SchedulerError):
    """What the request names does not exist, or not for this instance."""

    code = grpc.StatusCode.NOT_FOUND


class FailedPrecondition(SchedulerError):
    """The request is well formed, but cannot be met as things are."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class MissingBlobs(FailedPrecondition):
    """Blobs that the request needs are not in the CAS.

    `keys` are `HASH/SIZE`; the services send each as a PreconditionFailure violation of type MISSING
    (REAPI, Execution.Execute), so that clients upload them and ask again.
    """

    def __init__(self, message: str, keys: Iterable[str]) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class Cancelled(SchedulerError):
    """What the request names was cancelled."""

    code = grpc.StatusCode.CANCELLED


class ResourceExhausted(SchedulerError):
    """A limit was reached: the queue's, or the disk's."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(SchedulerError):
    """Something the server needs is not there just now; the same call may succeed later."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(SchedulerError):
    """What was asked for takes longer than the server lets it."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class DataLoss(SchedulerError):
    """A bot session ended on the server's side, and the bot must open a new one; or a blob is damaged."""

    code = grpc.StatusCode.DATA_LOSS


class OutOfRange(SchedulerError):
    """An offset beyond the end of a blob."""

    code = grpc.StatusCode.OUT_OF_RANGE


class Unauthenticated(SchedulerError):
    """Who calls is not known: no credentials, or none that can be believed."""

    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(SchedulerError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED


class Unimplemented(SchedulerError):
    """Part of the protocol, not of this server."""

    code = grpc.StatusCode.UNIMPLEMENTED
