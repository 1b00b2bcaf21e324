"""When a result counts as complete."""

from collections.abc import Iterable

import pytest
from buildgrid_client.digests import digest_key, digest_of, digest_of_message
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    Digest,
    Directory,
    DirectoryNode,
    FileNode,
    OutputDirectory,
    OutputFile,
    Tree,
)
from buildgrid_scheduler.storage.completeness import MAX_TREE_BYTES, groups, incomplete, missing_outputs
from buildgrid_scheduler.storage.memory import MemoryStorage

BELOW = Directory(files=[FileNode(name="b", digest=digest_of(b"below"))])
ROOT = Directory(
    files=[FileNode(name="t", digest=digest_of(b"top"))],
    directories=[DirectoryNode(name="d", digest=digest_of_message(BELOW))],
)
TREE = Tree(root=ROOT, children=[BELOW])
BELOW_BLOB, ROOT_BLOB, TREE_BLOB = (m.SerializeToString(deterministic=True) for m in (BELOW, ROOT, TREE))
AS_TREE = ActionResult(output_directories=[OutputDirectory(tree_digest=digest_of(TREE_BLOB))])
AS_DIRECTORIES = ActionResult(
    output_directories=[OutputDirectory(root_directory_digest=digest_of(ROOT_BLOB))]
)
AS_BOTH = ActionResult(
    output_directories=[
        OutputDirectory(tree_digest=digest_of(TREE_BLOB), root_directory_digest=digest_of(ROOT_BLOB))
    ]
)


class CountingStorage(MemoryStorage):
    """Remembers what was asked for."""

    def __init__(self, *blobs: bytes) -> None:
        super().__init__()
        self.rounds = 0
        self.refreshed: set[str] = set()
        for blob in blobs:
            self.stream_write(digest_of(blob), [blob])

    def has_many(self, digests: Iterable[Digest]) -> set[str]:
        self.rounds += 1
        present = super().has_many(digests)
        self.refreshed |= present
        return present


def keys(*blobs: bytes) -> set[str]:
    return {digest_key(digest_of(blob)) for blob in blobs}


def test_a_result_without_outputs_is_complete() -> None:
    assert missing_outputs(MemoryStorage(), ActionResult(stdout_raw=b"inline")) == set()


def test_files_and_streams_are_needed() -> None:
    result = ActionResult(
        output_files=[OutputFile(path="f", digest=digest_of(b"file"))],
        stdout_digest=digest_of(b"out"),
        stderr_digest=digest_of(b"err"),
    )
    assert missing_outputs(CountingStorage(b"out"), result) == keys(b"file", b"err")


@pytest.mark.parametrize(
    ("result", "needed"),
    [
        (AS_TREE, (TREE_BLOB, b"top", b"below")),
        (AS_DIRECTORIES, (ROOT_BLOB, BELOW_BLOB, b"top", b"below")),
        (AS_BOTH, (TREE_BLOB, ROOT_BLOB, BELOW_BLOB, b"top", b"below")),
    ],
    ids=["tree", "directories", "both"],
)
def test_output_directories_need_all_that_is_below(result: ActionResult, needed: tuple[bytes, ...]) -> None:
    storage = CountingStorage(*needed)
    assert missing_outputs(storage, result) == set()
    assert storage.refreshed == keys(*needed)
    for blob in needed:
        rest = CountingStorage(*(other for other in needed if other != blob))
        assert keys(blob) <= missing_outputs(rest, result)


@pytest.mark.parametrize(
    "directory",
    [
        OutputDirectory(tree_digest=digest_of(b"\xff")),
        OutputDirectory(root_directory_digest=digest_of(b"\xff")),
        OutputDirectory(),
    ],
    ids=["no Tree", "no Directory", "nothing"],
)
def test_malformed_directories_are_incomplete(directory: OutputDirectory) -> None:
    result = ActionResult(output_directories=[directory])
    assert len(missing_outputs(CountingStorage(b"\xff"), result)) == 1


@pytest.mark.parametrize("field", ["tree_digest", "root_directory_digest"])
def test_a_blob_too_large_for_a_tree_is_not_read_and_never_complete(field: str) -> None:
    class Watched(MemoryStorage):
        def has_many(self, digests: Iterable[Digest]) -> set[str]:
            return {digest_key(digest) for digest in digests}

        def read_many(self, digests: Iterable[Digest]) -> dict[str, bytes]:
            assert not list(digests)
            return {}

    large = Digest(hash="a" * 64, size_bytes=MAX_TREE_BYTES + 1)
    result = ActionResult(output_directories=[OutputDirectory(path="d")])
    getattr(result.output_directories[0], field).CopyFrom(large)
    assert missing_outputs(Watched(), result) == {digest_key(large)}


@pytest.mark.parametrize(
    "digest",
    [Digest(hash="../x", size_bytes=1), Digest(hash=digest_of(b"").hash, size_bytes=1), Digest()],
    ids=["path", "empty with a size", "unset"],
)
def test_malformed_digests_are_missing_and_no_error(digest: Digest) -> None:
    result = ActionResult(output_files=[OutputFile(path="f", digest=digest)])
    assert missing_outputs(MemoryStorage(), result) == {digest_key(digest)}


def test_many_results_are_checked_in_one_round() -> None:
    complete = ActionResult(stdout_digest=digest_of(b"out"))
    lacking = ActionResult(stdout_digest=digest_of(b"lost"))
    storage = CountingStorage(b"out", TREE_BLOB, b"top")
    assert incomplete(storage, [complete, lacking, AS_TREE, complete]) == [False, True, True, False]
    assert storage.rounds == 1
    assert incomplete(storage, []) == []


def test_groups_stay_below_the_limit_unless_one_blob_is_larger() -> None:
    sizes = [3, 3, 3, 9, 1]
    digests = [Digest(hash="a" * 64, size_bytes=size) for size in sizes]
    assert [[d.size_bytes for d in group] for group in groups(digests, 6)] == [[3, 3], [3], [9], [1]]
