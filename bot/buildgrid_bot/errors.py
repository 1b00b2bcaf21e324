"""Why an action could not be run, as the status that its lease carries."""

from collections.abc import Iterable

import grpc
from buildgrid_client.errors import BlobsMissing, CasRefused, CasUnavailable, ClientError
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import PreconditionFailure
from google.rpc.status_pb2 import Status


class ActionError(Exception):
    """Base: the action has no result; `code` and the message are its lease's status."""

    code: grpc.StatusCode = grpc.StatusCode.INTERNAL

    def details(self) -> list[Any]:
        """Further details of the status, packed."""
        return []


class InvalidAction(ActionError):
    """The action is malformed: it fails in the same way on every bot."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class InputsMissing(ActionError):
    """Blobs that the action needs are not in the CAS. `keys` are HASH/SIZE.

    Told as REAPI (Execution.Execute) asks, so that clients upload them and try again.
    """

    code = grpc.StatusCode.FAILED_PRECONDITION

    def __init__(self, keys: Iterable[str]) -> None:
        self.keys = tuple(keys)
        super().__init__(str(BlobsMissing(self.keys)))

    def details(self) -> list[Any]:
        failure = PreconditionFailure()
        for key in self.keys:
            failure.violations.add(type="MISSING", subject=f"blobs/{key}")
        packed = Any()
        packed.Pack(failure)
        return [packed]


class SandboxFailed(ActionError):
    """The sandbox could not be set up. INTERNAL, so that the action is tried again elsewhere."""


class InputsDisturbed(ActionError):
    """A file shared with another running action changed underneath.

    INTERNAL: the next try gets a clean copy.
    """


# Of one blob, or one call; other actions may do better.
_OF_WHAT_WAS_ASKED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)


def blames_cas(error: Exception) -> bool:
    """Whether an action failed with this since the bot cannot use its CAS: the next one would, too."""
    if isinstance(error, CasRefused):
        return error.code not in _OF_WHAT_WAS_ASKED
    return isinstance(error, CasUnavailable)


def status_of(error: Exception) -> Status:
    """The status of a lease whose action ended with this error."""
    if isinstance(error, BlobsMissing):
        error = InputsMissing(error.keys)
    if isinstance(error, ActionError):
        return Status(code=_number(error.code), message=str(error), details=error.details())
    if isinstance(error, CasUnavailable):
        return Status(code=_number(error.code), message=str(error))
    if isinstance(error, ClientError):
        return Status(code=_number(grpc.StatusCode.INTERNAL), message=str(error))
    if isinstance(error, OSError):
        # A full or broken disk is this bot's trouble, not the action's: another bot may do better.
        return Status(code=_number(grpc.StatusCode.UNAVAILABLE), message=f"the bot's disk or system: {error}")
    return Status(code=_number(grpc.StatusCode.INTERNAL), message=f"{type(error).__name__}: {error}")


def _number(code: grpc.StatusCode) -> int:
    number: int = code.value[0]
    return number
