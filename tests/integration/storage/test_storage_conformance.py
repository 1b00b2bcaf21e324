"""What every storage does: one suite, run against each implementation."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from buildgrid_scheduler.core.errors import InvalidArgument, OutOfRange
from buildgrid_scheduler.storage.abc import MAX_CHUNK_BYTES, StorageABC
from buildgrid_scheduler.storage.disk import DiskStorage
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.storage.object_store import ObjectStorage, ObjectStoreLocation
from buildgrid_scheduler.storage.recent import RecentStorage
from buildgrid_scheduler.storage.remote import RemoteEndpoint, RemoteStorage
from buildgrid_scheduler.storage.tiered import TieredStorage

from tests.integration.storage.remote_server import RemoteServer
from tests.integration.storage.s3_server import S3Server, location

BLOB = b"a blob of some bytes"
DIGEST = digest_of(BLOB)
EMPTY = digest_of(b"")
# Larger than one message of gRPC; the half of it that is text can be compressed.
LARGE = os.urandom(3 * MAX_CHUNK_BYTES + 17) + b"text" * 400_000


MEBIBYTES = 1024 * 1024

# How to make each implementation; what it stands on is made when it is needed.
IMPLEMENTATIONS: dict[str, Callable[[pytest.FixtureRequest, Path], StorageABC]] = {
    "memory": lambda request, path: MemoryStorage(),
    "disk": lambda request, path: disk(path),
    "recent over disk": lambda request, path: RecentStorage(disk(path)),
    "remote": lambda request, path: remote(request, path),
    "remote without zstd": lambda request, path: remote(request, path, compression=False),
    "objects in s3": lambda request, path: objects(request, path),
    "objects in small parts": lambda request, path: ObjectStorage(
        ObjectStoreLocation(f"file://{path / 'objects'}"), spool=path / "spool", part_bytes=1_300_000
    ),
    "objects in memory": lambda request, path: ObjectStorage(ObjectStoreLocation("memory://")),
    "disk before remote": lambda request, path: TieredStorage(disk(path), remote(request, path)),
    "disk before objects": lambda request, path: TieredStorage(disk(path), objects(request, path)),
    "full disk before remote": lambda request, path: TieredStorage(
        DiskStorage(path / "cas", max_bytes=1), remote(request, path)
    ),
}


def disk(path: Path) -> DiskStorage:
    return DiskStorage(path / "cas", max_bytes=64 * MEBIBYTES)


def remote(request: pytest.FixtureRequest, path: Path, **settings: Any) -> RemoteStorage:
    server: RemoteServer = request.getfixturevalue("remote")
    return RemoteStorage(RemoteEndpoint(server.endpoint), spool=path / "spool", **settings)


def objects(request: pytest.FixtureRequest, path: Path, **settings: Any) -> ObjectStorage:
    server: S3Server = request.getfixturevalue("s3")
    return ObjectStorage(location(server.address), spool=path / "spool", **settings)


@pytest.fixture(params=IMPLEMENTATIONS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageABC]:
    storage = IMPLEMENTATIONS[request.param](request, tmp_path)
    storage.start()
    yield storage
    storage.stop()


def read_range(storage: StorageABC, digest: Digest, offset: int = 0, limit: int = 0) -> list[bytes]:
    reader = storage.stream_read(digest, offset, limit)
    assert reader is not None
    with reader:
        return list(reader)


def test_the_empty_blob_is_always_there(storage: StorageABC) -> None:
    assert storage.has_many([EMPTY]) == {digest_key(EMPTY)}
    assert storage.read_one(EMPTY) == b""
    assert read_range(storage, EMPTY) == []


def test_the_empty_blob_can_be_stored_nevertheless(storage: StorageABC) -> None:
    storage.stream_write(EMPTY, [])
    assert storage.write_many([(EMPTY, b"")]) == [None]
    assert storage.read_one(EMPTY) == b""


def test_what_was_never_stored_is_not_there(storage: StorageABC) -> None:
    assert storage.has_many([DIGEST]) == set()
    assert storage.read_many([DIGEST]) == {}
    assert storage.read_one(DIGEST) is None
    assert storage.stream_read(DIGEST) is None


def test_a_streamed_blob_can_be_read_back(storage: StorageABC) -> None:
    storage.stream_write(digest_of(LARGE), (LARGE[i : i + 300_000] for i in range(0, len(LARGE), 300_000)))
    chunks = read_range(storage, digest_of(LARGE))
    assert b"".join(chunks) == LARGE
    assert max(map(len, chunks)) <= MAX_CHUNK_BYTES


@pytest.mark.parametrize("size", [1, MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 1])
def test_blobs_around_the_size_of_a_chunk_can_be_read_back(storage: StorageABC, size: int) -> None:
    blob = os.urandom(size)
    storage.stream_write(digest_of(blob), [blob])
    assert b"".join(read_range(storage, digest_of(blob))) == blob
    assert storage.read_many([digest_of(blob)]) == {digest_key(digest_of(blob)): blob}


def test_a_large_blob_is_stored_and_read_in_one_piece_too(storage: StorageABC) -> None:
    assert storage.write_many([(digest_of(LARGE), LARGE), (DIGEST, BLOB)]) == [None, None]
    assert storage.read_many([digest_of(LARGE), DIGEST]) == {
        digest_key(digest_of(LARGE)): LARGE,
        digest_key(DIGEST): BLOB,
    }


def test_answers_name_only_those_that_are_there(storage: StorageABC) -> None:
    storage.stream_write(DIGEST, [BLOB])
    asked = [DIGEST, digest_of(b"another"), DIGEST, EMPTY]
    assert storage.has_many(asked) == {digest_key(DIGEST), digest_key(EMPTY)}
    assert storage.read_many(asked) == {digest_key(DIGEST): BLOB, digest_key(EMPTY): b""}


def test_a_blob_is_not_there_under_another_size(storage: StorageABC) -> None:
    storage.stream_write(DIGEST, [BLOB])
    wrong = Digest(hash=DIGEST.hash, size_bytes=DIGEST.size_bytes + 1)
    assert storage.has_many([wrong]) == set()
    assert storage.read_one(wrong) is None
    assert storage.stream_read(wrong) is None


@pytest.mark.parametrize(
    "content",
    [BLOB[:-1], BLOB + b"!", BLOB[:-1] + b"!", b""],
    ids=["too short", "too long", "another hash", "nothing"],
)
def test_wrong_content_is_refused_and_not_stored(storage: StorageABC, content: bytes) -> None:
    with pytest.raises(InvalidArgument):
        storage.stream_write(DIGEST, [content])
    [error] = storage.write_many([(DIGEST, content)])
    assert isinstance(error, InvalidArgument)
    assert storage.has_many([DIGEST]) == set()


def test_wrong_content_does_not_harm_a_blob_that_is_there(storage: StorageABC) -> None:
    storage.stream_write(DIGEST, [BLOB])
    with pytest.raises(InvalidArgument):
        storage.stream_write(DIGEST, [BLOB[::-1]])
    assert storage.read_one(DIGEST) == BLOB


def test_each_blob_of_a_batch_has_its_own_result(storage: StorageABC) -> None:
    other = b"another"
    results = storage.write_many([(DIGEST, BLOB), (DIGEST, other), (digest_of(other), other)])
    assert results[0] is None
    assert isinstance(results[1], InvalidArgument)
    assert results[2] is None
    assert storage.read_many([DIGEST, digest_of(other)]).keys() == {
        digest_key(DIGEST),
        digest_key(digest_of(other)),
    }


def test_storing_a_blob_again_changes_nothing(storage: StorageABC) -> None:
    storage.stream_write(DIGEST, [BLOB])
    storage.stream_write(DIGEST, [BLOB])
    assert storage.write_many([(DIGEST, BLOB)]) == [None]
    assert storage.read_one(DIGEST) == BLOB


@pytest.mark.parametrize(
    ("offset", "limit", "expected"),
    [
        (0, 0, BLOB),
        (0, 5, BLOB[:5]),
        (3, 5, BLOB[3:8]),
        (15, 100, BLOB[15:]),
        (len(BLOB), 0, b""),
        (len(BLOB), 5, b""),
    ],
)
def test_ranges_are_cut_by_offset_and_limit(
    storage: StorageABC, offset: int, limit: int, expected: bytes
) -> None:
    storage.stream_write(DIGEST, [BLOB])
    assert b"".join(read_range(storage, DIGEST, offset, limit)) == expected


@pytest.mark.parametrize(
    ("offset", "limit"),
    [(0, 5), (MAX_CHUNK_BYTES - 1, 0), (2_000_000, 1_500_000), (len(LARGE) - 3, 0), (len(LARGE), 0)],
)
def test_ranges_of_large_blobs_are_cut_too(storage: StorageABC, offset: int, limit: int) -> None:
    assert storage.stream_read(digest_of(LARGE), offset, limit) is None
    storage.stream_write(digest_of(LARGE), [LARGE])
    end = offset + limit if limit else len(LARGE)
    assert b"".join(read_range(storage, digest_of(LARGE), offset, limit)) == LARGE[offset:end]


def test_a_large_blob_is_not_there_under_another_size(storage: StorageABC) -> None:
    storage.stream_write(digest_of(LARGE), [LARGE])
    wrong = Digest(hash=digest_of(LARGE).hash, size_bytes=2 * len(LARGE))
    assert storage.has_many([wrong]) == set()
    assert storage.stream_read(wrong) is None
    assert storage.stream_read(wrong, len(LARGE) + 1, 10) is None


@pytest.mark.parametrize("chunks", [0, 1])
def test_a_reader_may_be_closed_before_its_end(storage: StorageABC, chunks: int) -> None:
    storage.stream_write(digest_of(LARGE), [LARGE])
    reader = storage.stream_read(digest_of(LARGE))
    assert reader is not None
    with reader:
        read = b"".join(next(reader) for _ in range(chunks))
    reader.close()
    assert LARGE.startswith(read)
    assert b"".join(read_range(storage, digest_of(LARGE))) == LARGE


@pytest.mark.parametrize("offset", [-1, len(BLOB) + 1])
def test_an_offset_outside_of_the_blob_is_out_of_range(storage: StorageABC, offset: int) -> None:
    storage.stream_write(DIGEST, [BLOB])
    with pytest.raises(OutOfRange, match="read_offset"):
        storage.stream_read(DIGEST, offset)


def test_a_negative_limit_is_refused(storage: StorageABC) -> None:
    storage.stream_write(DIGEST, [BLOB])
    with pytest.raises(InvalidArgument, match="read_limit"):
        storage.stream_read(DIGEST, 0, -1)


@pytest.mark.parametrize(
    "digest",
    [
        Digest(hash="../../../../etc/passwd", size_bytes=1),
        Digest(hash=DIGEST.hash.upper(), size_bytes=1),
        Digest(hash=DIGEST.hash, size_bytes=-1),
        Digest(hash=DIGEST.hash, size_bytes=0),
        Digest(hash=EMPTY.hash, size_bytes=1),
        Digest(),
    ],
    ids=["path", "upper case", "negative", "size 0 of another", "empty with a size", "unset"],
)
def test_malformed_digests_are_refused_everywhere(storage: StorageABC, digest: Digest) -> None:
    for call in (
        lambda: storage.has_many([digest]),
        lambda: storage.read_many([digest]),
        lambda: storage.read_one(digest),
        lambda: storage.stream_read(digest),
        lambda: storage.begin_write(digest),
        lambda: storage.stream_write(digest, [b"x"]),
    ):
        with pytest.raises(InvalidArgument, match="digest"):
            call()
    assert isinstance(storage.write_many([(digest, b"x")])[0], InvalidArgument)


def test_an_upload_is_invisible_until_it_is_committed(storage: StorageABC) -> None:
    writer = storage.begin_write(DIGEST)
    writer.write(BLOB[:7])
    assert writer.committed == 7
    writer.write(BLOB[7:])
    assert writer.committed == len(BLOB)
    assert storage.has_many([DIGEST]) == set()
    writer.commit()
    assert storage.read_one(DIGEST) == BLOB


def test_an_aborted_upload_leaves_nothing(storage: StorageABC) -> None:
    writer = storage.begin_write(DIGEST)
    writer.write(BLOB)
    writer.abort()
    writer.abort()
    assert storage.has_many([DIGEST]) == set()


def test_abort_after_commit_takes_nothing_away(storage: StorageABC) -> None:
    writer = storage.begin_write(DIGEST)
    writer.write(BLOB)
    writer.commit()
    writer.abort()
    assert storage.read_one(DIGEST) == BLOB


def test_an_upload_that_is_too_long_is_stopped_at_once(storage: StorageABC) -> None:
    writer = storage.begin_write(DIGEST)
    writer.write(BLOB)
    with pytest.raises(InvalidArgument, match=f"more than {len(BLOB)} bytes"):
        writer.write(b"!")
    writer.abort()


def test_many_threads_may_store_and_read_the_same_blobs(storage: StorageABC) -> None:
    blobs = [os.urandom(5_000) for _ in range(20)]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for blob in blobs:
                storage.stream_write(digest_of(blob), [blob])
                assert storage.read_one(digest_of(blob)) == blob
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
