"""The digest function that a request may name."""

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import DigestFunction

from buildgrid_scheduler.core.errors import InvalidArgument


def check_digest_function(value: "DigestFunction.Value.ValueType") -> None:
    """Raises InvalidArgument for any but SHA256. Not set is fine: then the length of the hash tells."""
    if value not in (DigestFunction.UNKNOWN, DigestFunction.SHA256):
        name = DigestFunction.Value.Name(value) if value in DigestFunction.Value.values() else str(value)
        raise InvalidArgument(f"digest_function {name} is not offered, only SHA256")
