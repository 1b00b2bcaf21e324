"""Sizes on the wire, in bytes."""

# gRPC clients accept messages of 4 MiB by default; digests, statuses and framing of a full batch take part of
# it. This is also what Capabilities tells as max_batch_total_size_bytes.
MAX_BATCH_BYTES = 4 * 1024 * 1024 - 64 * 1024

# One ByteStream message. Each costs a hop to a thread and a few Python frames, so larger is faster; with two
# in flight a stream holds 2 MiB, which lets hundreds of streams share a small container.
STREAM_CHUNK_BYTES = 1024 * 1024

# Contents that GetActionResult puts into its answer on request. The rest of the answer (paths, digests,
# metadata) has the other 2 MiB below the 4 MiB limit of clients.
MAX_INLINE_BYTES = 2 * 1024 * 1024
