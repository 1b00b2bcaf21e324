"""Why an action could not be run to its end, in words for people and in parts for programs."""

from collections.abc import Iterable

import grpc
import grpc.aio
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecuteResponse
from google.rpc.error_details_pb2 import PreconditionFailure
from google.rpc.status_pb2 import Status

from buildgrid_client.errors import ClientError

# Where gRPC carries the google.rpc.Status that belongs to a failed call.
_STATUS_DETAILS_KEY = "grpc-status-details-bin"
_SHOWN = 5
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class ExecutionFailed(ClientError):
    """The action was refused, cancelled, or lost; what a command does by itself is no such failure.

    `code` is the gRPC status. `missing` are the blobs (`HASH/SIZE`) that the server asks for: upload them and
    execute again. `response` is there when the server sent one beside the failure, for example with the
    output of a command that ran into its timeout.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        missing: Iterable[str] = (),
        response: ExecuteResponse | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.missing = tuple(missing)
        self.response = response
        super().__init__(f"{code.name}: {message}{_missing_text(self.missing)}")


def error_of_status(status: Status, response: ExecuteResponse | None = None) -> ExecutionFailed:
    """The failure that a status (not OK) describes. Details that are not understood are left out."""
    missing: list[str] = []
    others: list[str] = []
    for detail in status.details:
        failure = PreconditionFailure()
        if not detail.Unpack(failure):
            continue
        for violation in failure.violations:
            kind, _, key = violation.subject.partition("/")
            if violation.type == "MISSING" and kind == "blobs":
                missing.append(key)
            else:
                others.append(f"{violation.type} {violation.subject}: {violation.description}".strip())
    message = "; ".join([status.message or "no reason was given", *others])
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return ExecutionFailed(code, message, missing=missing, response=response)


def error_of_call(error: grpc.aio.AioRpcError) -> ExecutionFailed:
    """The failure that a call ended with."""
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_DETAILS_KEY and isinstance(value, bytes):
            status = Status.FromString(value)
            if status.code:
                return error_of_status(status)
    return ExecutionFailed(error.code(), error.details() or "no reason was given")


def _missing_text(keys: tuple[str, ...]) -> str:
    if not keys:
        return ""
    shown = ", ".join(keys[:_SHOWN])
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f" (not in the CAS: {shown}{more})"
