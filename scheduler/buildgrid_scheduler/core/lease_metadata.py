"""What a bot is told about its leases beside them: in trailing metadata of the answer. Pure.

Bots learn there where to stream standard output and error to.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import cast

from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from google.protobuf.message import DecodeError

from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.job_streams import JobStreams

LEASE_METADATA_KEY = "executeoperationmetadata-bin"
# gRPC clients drop an answer whose trailing metadata exceed 8 KiB, and there are other entries.
MOST_BYTES = 6 * 1024
_ENTRY_OVERHEAD = 32  # as HTTP/2 counts it (RFC 9113, section 10.5.1)


@dataclass(frozen=True, slots=True)
class LeaseMetadata:
    """A leased job. The stream names are those for the writer."""

    stage: Stage
    action_digest: str
    """HASH/SIZE"""
    partial_metadata: bytes | None = None
    """a serialized ExecutedActionMetadata, as the bot sent it"""
    stdout_write: str = ""
    stderr_write: str = ""

    def with_streams(self, streams: JobStreams | None) -> "LeaseMetadata":
        """With streams that were made just now; None: as it is."""
        if streams is None:
            return self
        return replace(self, stdout_write=streams.stdout_write, stderr_write=streams.stderr_write)

    def serialize(self, *, partial: bool = True) -> bytes:
        """An ExecuteOperationMetadata; without what the bot itself has said when `partial` is False."""
        hash_, _, size = self.action_digest.partition("/")
        metadata = re_pb2.ExecuteOperationMetadata(
            stage=cast("re_pb2.ExecutionStage.Value.ValueType", int(self.stage)),
            action_digest=re_pb2.Digest(hash=hash_, size_bytes=int(size)),
            stdout_stream_name=self.stdout_write,
            stderr_stream_name=self.stderr_write,
        )
        if partial and self.partial_metadata:
            with suppress(DecodeError):  # it is as the bot sent it
                metadata.partial_execution_metadata.CopyFrom(
                    re_pb2.ExecutedActionMetadata.FromString(self.partial_metadata)
                )
        return metadata.SerializeToString()


def trailing_metadata(
    leases: Iterable[LeaseMetadata], most_bytes: int = MOST_BYTES
) -> list[tuple[str, bytes]]:
    """An entry for each lease, in order, as long as they fit into `most_bytes` on the wire.

    Where they do not fit, bots are first spared what they have said themselves, then the last leases.
    So those that are new to the bot come first.
    """
    known = list(leases)
    entries = [lease.serialize() for lease in known]
    if sum(map(_wire_size, entries)) > most_bytes:
        entries = [lease.serialize(partial=False) for lease in known]
    told = []
    for entry in entries:
        most_bytes -= _wire_size(entry)
        if most_bytes < 0:
            break
        told.append((LEASE_METADATA_KEY, entry))
    return told


def _wire_size(entry: bytes) -> int:
    base64 = (len(entry) + 2) // 3 * 4
    return len(LEASE_METADATA_KEY) + base64 + _ENTRY_OVERHEAD
