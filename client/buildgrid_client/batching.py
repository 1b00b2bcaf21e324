"""How blobs are spread over requests, so that no message is larger than servers take. Pure decisions."""

from collections.abc import Iterable, Sequence

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

# Servers take 4 MiB a message; half a MiB is left for digests, statuses and framing.
BATCH_BYTES = (4 << 20) - (512 << 10)
# What one blob costs beside its data: a digest, a status, tags.
BLOB_OVERHEAD = 128
# About 80 bytes each: well below 4 MiB.
DIGESTS_PER_REQUEST = 20_000


def plan_batches(
    digests: Iterable[Digest], batch_bytes: int = BATCH_BYTES
) -> tuple[list[list[Digest]], list[Digest]]:
    """Batches that each fit one message, in order, and those blobs that are too large for any."""
    batches: list[list[Digest]] = []
    large: list[Digest] = []
    room = 0
    for digest in digests:
        cost = digest.size_bytes + BLOB_OVERHEAD
        if cost > batch_bytes:
            large.append(digest)
            continue
        if cost > room:
            batches.append([])
            room = batch_bytes
        batches[-1].append(digest)
        room -= cost
    return batches, large


def chunked(digests: Sequence[Digest], count: int = DIGESTS_PER_REQUEST) -> list[Sequence[Digest]]:
    """Runs of at most `count` digests."""
    return [digests[start : start + count] for start in range(0, len(digests), count)]
