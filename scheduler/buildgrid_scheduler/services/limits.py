"""Sizes on the wire, in bytes."""

# gRPC clients accept messages of 4 MiB by default; digests, statuses and framing of a full batch take part of
# it. This is also what Capabilities tells as max_batch_total_size_bytes.
MAX_BATCH_BYTES = 4 * 1024 * 1024 - 64 * 1024

# One ByteStream message. Each costs a hop to a thread and a few Python frames, so larger is faster. A stream
# whose peer does not read holds one as it is, serialized and in gRPC's buffers: 4 MiB, for blobs of any size.
STREAM_CHUNK_BYTES = 1024 * 1024

# Contents that GetActionResult puts into its answer on request. The rest of the answer (paths, digests,
# metadata) has the other 2 MiB below the 4 MiB limit of clients.
MAX_INLINE_BYTES = 2 * 1024 * 1024

# An Action goes to its bot inside of the answer to a call, with those of other slots, and bots take answers
# of 4 MiB. Real ones have some hundred bytes.
MAX_ACTION_BYTES = 64 * 1024

# A Command is read whole and parsed. What the operating system starts has a few MiB at most; the rest is for
# the names of outputs.
MAX_COMMAND_BYTES = 32 * 1024 * 1024

# A Directory message: some 300,000 entries. Parsed, it takes several times as much memory; a larger blob is
# not read, since it is no directory that anybody could be told of.
MAX_DIRECTORY_BYTES = 32 * 1024 * 1024
