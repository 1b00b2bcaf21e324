"""The RequestMetadata header that clients send (REAPI)."""

from functools import lru_cache

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import RequestMetadata
from google.protobuf.message import DecodeError

from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.core.request_metadata import metadata_row
from buildgrid_scheduler.services.errors import Context

HEADER = "build.bazel.remote.execution.v2.requestmetadata-bin"


def request_metadata_of(context: Context) -> tuple[str, ...] | None:
    """The header as a row of `request_metadata`; None where the client sent none."""
    for key, value in context.invocation_metadata() or ():
        if key == HEADER:
            return _row(value if isinstance(value, bytes) else value.encode())
    return None


@lru_cache(maxsize=4096)
def _row(serialized: bytes) -> tuple[str, ...]:
    try:
        return metadata_row(RequestMetadata.FromString(serialized))
    except DecodeError as error:
        raise InvalidArgument(f"header {HEADER} is not a RequestMetadata") from error
