"""Where the output of a lease goes while its command runs: what the server tells beside its answers. Pure."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecuteOperationMetadata
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import Lease
from google.protobuf.message import DecodeError

LEASE_METADATA_KEY = "executeoperationmetadata-bin"


@dataclass(frozen=True)
class StreamNames:
    """Resource names of ByteStream.Write; empty where there is no stream.

    Whoever knows a name may write (Remote Log Stream API, LogStream.write_resource_name), so they are in no
    log.
    """

    stdout: str
    stderr: str


def names_of_leases(
    new: Iterable[Lease], trailers: Iterable[tuple[str, str | bytes]], in_use: Iterable[StreamNames] = ()
) -> dict[str, StreamNames]:
    """The streams of new leases, by lease id, from the trailing metadata of the answer that brought them.

    Each entry is an ExecuteOperationMetadata. It names the action and not the lease, so leases with one
    action take its entries in order, except for those that are `in_use` by other leases. A lease without an
    entry, or whose entry names no stream, is left out; an entry that cannot be read is no entry.
    """
    taken = set(in_use)
    entries: dict[str, list[StreamNames]] = {}
    for told in _read(trailers):
        names = StreamNames(told.stdout_stream_name, told.stderr_stream_name)
        if names not in taken:
            entries.setdefault(digest_key(told.action_digest), []).append(names)
    found = {}
    for lease in new:
        waiting = entries.get(digest_key(digest_of(lease.payload.value)))
        if waiting and (names := waiting.pop(0)) != StreamNames("", ""):
            found[lease.id] = names
    return found


def _read(trailers: Iterable[tuple[str, str | bytes]]) -> Sequence[ExecuteOperationMetadata]:
    entries = []
    for key, value in trailers:
        if key == LEASE_METADATA_KEY and isinstance(value, bytes):
            with suppress(DecodeError):
                entries.append(ExecuteOperationMetadata.FromString(value))
    return entries
