"""Puts contents of outputs into an ActionResult, as far as there is room (REAPI, inline_stdout and alike)."""

from collections.abc import Callable, Collection
from functools import partial

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult, Digest

from buildgrid_scheduler.services.limits import MAX_BATCH_BYTES, MAX_INLINE_BYTES
from buildgrid_scheduler.storage.abc import StorageABC

_Put = Callable[[bytes], None]


def inline_outputs(
    storage: StorageABC,
    result: ActionResult,
    *,
    stdout: bool,
    stderr: bool,
    paths: Collection[str],
    max_bytes: int = MAX_INLINE_BYTES,
) -> None:
    """Fills `stdout_raw`, `stderr_raw` and `OutputFile.contents` of what is asked for, in that order.

    What would take the answer beyond `max_bytes` of contents, or beyond one message, is left as a digest:
    REAPI calls inlining a hint. Contents that the result holds already count. Digests stay in any case.
    """
    wanted: list[tuple[Digest, _Put]] = []
    if stdout and result.stdout_digest.size_bytes > 0 and not result.stdout_raw:
        wanted.append((result.stdout_digest, partial(setattr, result, "stdout_raw")))
    if stderr and result.stderr_digest.size_bytes > 0 and not result.stderr_raw:
        wanted.append((result.stderr_digest, partial(setattr, result, "stderr_raw")))
    asked = frozenset(paths)
    wanted.extend(
        (file.digest, partial(setattr, file, "contents"))
        for file in result.output_files
        if file.path in asked and file.digest.size_bytes > 0 and not file.contents
    )
    room = min(max_bytes - _held(result), MAX_BATCH_BYTES - result.ByteSize())
    fitting: list[tuple[Digest, _Put]] = []
    for digest, put in wanted:
        if digest.size_bytes <= room:
            room -= digest.size_bytes
            fitting.append((digest, put))
    if not fitting:
        return
    blobs = storage.read_many([digest for digest, _ in fitting])
    for digest, put in fitting:
        data = blobs.get(digest_key(digest))
        if data is not None:
            put(data)


def _held(result: ActionResult) -> int:
    files = sum(len(file.contents) for file in result.output_files)
    return len(result.stdout_raw) + len(result.stderr_raw) + files
