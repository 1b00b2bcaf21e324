"""What a remote storage offers (REAPI, GetCapabilities), as far as its client has a choice. Pure."""

from dataclasses import dataclass

from buildgrid_client.batching import BATCH_BYTES
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Compressor,
    DigestFunction,
    ServerCapabilities,
)

from buildgrid_scheduler.core.errors import FailedPrecondition


@dataclass(frozen=True)
class RemoteCapabilities:
    """The defaults are what can be expected of a server that does not tell."""

    batch_bytes: int = BATCH_BYTES
    """what goes into one message, in bytes"""
    zstd_streams: bool = False
    """ByteStream offers `compressed-blobs/zstd`; BatchReadBlobs may answer with ZSTD"""
    zstd_updates: bool = False
    """BatchUpdateBlobs takes ZSTD"""


def capabilities_of(told: ServerCapabilities, name: str, *, compression: bool) -> RemoteCapabilities:
    """What is used of what a server tells. FailedPrecondition when it cannot serve SHA-256.

    `max_batch_total_size_bytes` 0 means that the server has no limit of its own; gRPC's remains.
    """
    cache = told.cache_capabilities
    if cache.digest_functions and DigestFunction.SHA256 not in cache.digest_functions:
        raise FailedPrecondition(f"{name} does not offer the digest function SHA256: use another storage")
    return RemoteCapabilities(
        batch_bytes=min(cache.max_batch_total_size_bytes or BATCH_BYTES, BATCH_BYTES),
        zstd_streams=compression and Compressor.ZSTD in cache.supported_compressors,
        zstd_updates=compression and Compressor.ZSTD in cache.supported_batch_update_compressors,
    )
