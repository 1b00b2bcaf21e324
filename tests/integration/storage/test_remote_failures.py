"""What a remote CAS may do to us, and what its users notice of it."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
import zstandard
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamServicer
from buildgrid_scheduler.core.errors import (
    DataLoss,
    FailedPrecondition,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.storage.remote import RemoteEndpoint, RemoteStorage

from tests.integration.storage.fake_bytestream import BreakingByteStream
from tests.integration.storage.remote_server import RemoteServer
from tests.integration.storage.waiting import PATIENCE, in_thread, outage_noticed

BLOB = b"a blob of some bytes"
DIGEST = digest_of(BLOB)
LARGE = b"?" + os.urandom(2_000_016) + b"text" * 600_000
LARGE_DIGEST = digest_of(LARGE)
SOON = timedelta(seconds=0.3)
Connect = Callable[..., RemoteStorage]


@pytest.fixture
def connect(remote: RemoteServer, tmp_path: Path) -> Iterator[Connect]:
    """Connects storages to a server, by default to `remote`."""
    connected: list[RemoteStorage] = []

    def connect(server: RemoteServer = remote, start: bool = True, **settings: object) -> RemoteStorage:
        storage = RemoteStorage(RemoteEndpoint(server.endpoint), spool=tmp_path, **settings)  # type: ignore[arg-type]
        connected.append(storage)
        if start:
            storage.start()
        return storage

    yield connect
    for storage in connected:
        storage.stop()


def read_all(storage: RemoteStorage, digest: Digest, offset: int = 0, limit: int = 0) -> bytes:
    reader = storage.stream_read(digest, offset, limit)
    assert reader is not None
    with reader:
        return b"".join(reader)


# Outages

CALLS: list[Callable[[RemoteStorage], object]] = [
    lambda storage: storage.has_many([DIGEST]),
    lambda storage: storage.read_one(DIGEST),
    lambda storage: read_all(storage, LARGE_DIGEST),
    lambda storage: storage.stream_write(digest_of(b"new"), [b"new"]),
    lambda storage: storage.stream_write(digest_of(LARGE[1:]), [LARGE[1:]]),
    lambda storage: storage.write_many([(digest_of(b"new"), b"new")]),
]
NAMES = ["has", "read", "stream read", "write", "stream write", "write many"]


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_an_outage_within_the_tolerance_is_not_noticed(
    remote: RemoteServer, connect: Connect, call: Callable[[RemoteStorage], object]
) -> None:
    storage = connect()
    storage.write_many([(DIGEST, BLOB), (LARGE_DIGEST, LARGE)])
    expected = call(storage)
    remote.stop()
    with outage_noticed() as noticed:
        outcome = in_thread(lambda: call(storage))
        assert noticed.wait(PATIENCE)
        assert not outcome.done()
        remote.start()
        assert outcome.result(PATIENCE) == expected


@pytest.mark.parametrize("call", CALLS[:-1], ids=NAMES[:-1])
def test_an_outage_beyond_the_tolerance_is_unavailable_and_ends_by_itself(
    remote: RemoteServer, connect: Connect, call: Callable[[RemoteStorage], object]
) -> None:
    storage = connect(outage_tolerance=SOON)
    storage.write_many([(DIGEST, BLOB), (LARGE_DIGEST, LARGE)])
    remote.stop()
    with pytest.raises(Unavailable, match=remote.endpoint):
        call(storage)
    [error] = storage.write_many([(digest_of(b"new"), b"new")])
    assert isinstance(error, Unavailable)
    remote.start()
    patient = connect()
    call(patient)


def test_stopping_ends_the_waiting(remote: RemoteServer, connect: Connect) -> None:
    storage = connect()
    remote.stop()
    with outage_noticed() as noticed:
        waiting = in_thread(lambda: storage.read_one(DIGEST))
        assert noticed.wait(PATIENCE)
        storage.stop_waiting()
        with pytest.raises(Unavailable, match="stopping"):
            waiting.result(PATIENCE)
    remote.start()
    # The connection may need a moment, in which nothing is waited for any more.
    assert connect().has_many([DIGEST]) == set()
    storage.stop()
    with pytest.raises(Unavailable, match="stopping"):
        storage.read_one(DIGEST)


def test_a_server_that_is_away_at_the_start_may_come_later(remote: RemoteServer, connect: Connect) -> None:
    remote.stop()
    storage = connect()
    with outage_noticed() as noticed:
        outcome = in_thread(lambda: storage.write_many([(LARGE_DIGEST, LARGE)]))
        assert noticed.wait(PATIENCE)
        remote.start()
        assert outcome.result(PATIENCE) == [None]
    assert remote.storage.read_one(LARGE_DIGEST) == LARGE


class SlowStorage(MemoryStorage):
    """Answers the first question only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.go = threading.Event()

    def has_many(self, digests: Iterable[Digest]) -> set[str]:
        self.asked += 1
        if self.asked == 1:
            assert self.go.wait(PATIENCE)
        return super().has_many(digests)


def test_a_call_that_hangs_is_made_again_after_its_deadline(connect: Connect) -> None:
    slow = SlowStorage()
    with closing(RemoteServer(slow)) as server:
        server.start()
        storage = connect(server, call_timeout=timedelta(seconds=0.5))
        outcome = in_thread(lambda: storage.has_many([DIGEST]))
        assert outcome.result(PATIENCE) == set()
        assert slow.asked >= 2
        slow.go.set()


# Refusals


def test_a_refusal_is_told_at_once(remote: RemoteServer, connect: Connect) -> None:
    storage = connect()
    remote.faults.fail("FindMissingBlobs", grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(
        PermissionDenied, match=r"cannot find missing blobs in the CAS at grpc://.*test wants"
    ):
        storage.has_many([DIGEST])
    remote.faults.fail("BatchReadBlobs", grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(PermissionDenied):
        storage.read_one(DIGEST)
    remote.faults.fail("Write", grpc.StatusCode.PERMISSION_DENIED)
    with pytest.raises(PermissionDenied):
        storage.stream_write(LARGE_DIGEST, [LARGE])
    remote.faults.fail("BatchUpdateBlobs", grpc.StatusCode.PERMISSION_DENIED)
    assert [type(error) for error in storage.write_many([(DIGEST, BLOB)])] == [PermissionDenied]
    assert set(remote.faults.calls.values()) == {1}


def test_doubtful_failures_are_tried_a_few_times(remote: RemoteServer, connect: Connect) -> None:
    storage = connect()
    remote.faults.fail("FindMissingBlobs", grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    assert storage.has_many([DIGEST]) == set()
    remote.faults.fail("BatchUpdateBlobs", *[grpc.StatusCode.RESOURCE_EXHAUSTED] * 3)
    with pytest.raises(ResourceExhausted):
        storage.stream_write(DIGEST, [BLOB])
    assert remote.faults.calls["FindMissingBlobs"] == remote.faults.calls["BatchUpdateBlobs"] == 3


class FullStorage(MemoryStorage):
    """Has room for what is small, and after a while for all."""

    refusals = 0

    def _write_one(self, digest: Digest, data: bytes) -> None:
        if len(data) > 10 and self.refusals:
            self.refusals -= 1
            raise ResourceExhausted("no room")
        super()._write_one(digest, data)


def test_each_blob_of_a_batch_has_the_outcome_that_the_server_tells(connect: Connect) -> None:
    full = FullStorage()
    with closing(RemoteServer(full)) as server:
        server.start()
        storage = connect(server)
        full.refusals = 1
        assert storage.write_many([(DIGEST, BLOB), (digest_of(b"small"), b"small")]) == [None, None]
        full.forget(DIGEST)
        full.refusals = 100
        results = storage.write_many([(digest_of(b"tiny"), b"tiny"), (DIGEST, BLOB)])
        assert results[0] is None
        assert isinstance(results[1], ResourceExhausted)
        assert full.has_many([digest_of(b"tiny"), DIGEST]) == {digest_key(digest_of(b"tiny"))}


def test_a_start_with_an_instance_that_is_not_there_names_it(connect: Connect) -> None:
    storage = connect(start=False, instance_name="nobody")
    with pytest.raises(FailedPrecondition, match="instance 'nobody' there"):
        storage.start()


# Damage


class LyingStorage(MemoryStorage):
    """Sends other bytes than it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.lies: dict[str, list[bytes]] = {}

    def read_many(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        blobs = super().read_many(digests)
        return {key: self.lies[key].pop(0) if self.lies.get(key) else blob for key, blob in blobs.items()}


@pytest.mark.parametrize("lie", [BLOB[:-1], BLOB + b"!", BLOB[::-1], b""])
def test_a_small_blob_that_is_damaged_is_never_served(connect: Connect, lie: bytes) -> None:
    lying = LyingStorage()
    lying.write_many([(DIGEST, BLOB)])
    with closing(RemoteServer(lying)) as server:
        server.start()
        storage = connect(server)
        lying.lies[digest_key(DIGEST)] = [lie]
        assert storage.read_one(DIGEST) == BLOB, "it may have been damaged on its way"
        lying.lies[digest_key(DIGEST)] = [lie] * 100
        with pytest.raises(DataLoss, match=f"blob {DIGEST.hash}.* is damaged in the CAS at grpc://"):
            storage.read_one(DIGEST)
        with pytest.raises(DataLoss):
            storage.stream_read(DIGEST, 3, 2)


@pytest.mark.parametrize(
    "sent",
    [LARGE[:-1], LARGE[: len(LARGE) // 2], LARGE + b"!", LARGE[:-1] + b"!", b"!" + LARGE[1:], b""],
    ids=["cut", "half", "longer", "other end", "other beginning", "nothing"],
)
@pytest.mark.parametrize("zstd", [False, True], ids=["plain", "zstd"])
def test_a_large_blob_that_is_damaged_is_never_served_to_its_end(
    connect: Connect, sent: bytes, zstd: bool
) -> None:
    stream = BreakingByteStream(zstandard.compress(sent) if zstd else sent)
    with serving(stream) as server:
        storage = connect(server, compression=zstd)
        received: list[bytes] = []
        reader = None
        try:
            reader = storage.stream_read(LARGE_DIGEST)
            assert reader is not None
            received.extend(reader)
        except DataLoss:
            pass
        else:
            pytest.fail("the damage was not noticed")
        finally:
            if reader is not None:
                reader.close()
        assert sum(map(len, received)) < len(LARGE)
        with pytest.raises(DataLoss):
            storage.read_one(LARGE_DIGEST)


def test_what_is_no_zstd_is_damage(connect: Connect) -> None:
    with serving(BreakingByteStream(LARGE)) as server, pytest.raises(DataLoss, match="not valid ZSTD"):
        connect(server).read_one(LARGE_DIGEST)


# Streams that break


def serving(stream: ByteStreamServicer) -> "closing[RemoteServer]":
    server = RemoteServer(bytestream=stream)
    server.start()
    return closing(server)


def test_a_read_goes_on_where_it_broke(connect: Connect) -> None:
    stream = BreakingByteStream(LARGE, cuts=(1_000_000, 100_000, 2_000_000))
    with serving(stream) as server:
        assert read_all(connect(server, compression=False), LARGE_DIGEST) == LARGE
    assert [request.read_offset for request in stream.reads] == [0, 1_000_000, 1_100_000, 3_100_000]


def test_a_read_of_a_part_goes_on_where_it_broke_and_ends_where_it_should(connect: Connect) -> None:
    stream = BreakingByteStream(LARGE, cuts=(1_000_000,))
    with serving(stream) as server:
        part = read_all(connect(server), LARGE_DIGEST, 500_000, 2_000_000)
    assert part == LARGE[500_000:2_500_000]
    assert [(request.read_offset, request.read_limit) for request in stream.reads] == [
        (500_000, 2_000_000),
        (1_500_000, 1_000_000),
    ]
    assert all("/zstd/" not in request.resource_name for request in stream.reads), "limits exclude ZSTD"


def uploaded(stream: BreakingByteStream) -> bytes:
    [(name, data)] = stream.finished.items()
    assert digest_key(LARGE_DIGEST) in name
    return data


@pytest.mark.parametrize("zstd", [False, True], ids=["plain", "zstd"])
def test_a_write_goes_on_where_it_broke(connect: Connect, zstd: bool) -> None:
    stream = BreakingByteStream(cuts=(1_000_000, 1_500_000))
    with serving(stream) as server:
        connect(server, compression=zstd).stream_write(LARGE_DIGEST, [LARGE])
    assert uploaded(stream) == LARGE
    assert stream.write_offsets[0] == 0
    assert 0 < stream.write_offsets[1] < stream.write_offsets[2] < len(LARGE)
    assert len(stream.uploads) == 1


def test_a_write_whose_beginning_was_lost_begins_anew(connect: Connect) -> None:
    stream = BreakingByteStream(cuts=(2_000_000,))
    stream.forget = True
    with serving(stream) as server:
        connect(server).stream_write(LARGE_DIGEST, [LARGE])
    assert uploaded(stream) == LARGE
    assert stream.write_offsets[0] == stream.write_offsets[2] == 0
    assert len(stream.uploads) == 2


def test_a_write_that_the_server_did_not_take_whole_is_no_success(connect: Connect) -> None:
    stream = BreakingByteStream()
    stream.committed_size = 7
    with serving(stream) as server, pytest.raises(Exception, match="took 7 bytes"):
        connect(server).stream_write(LARGE_DIGEST, [LARGE])


def test_a_server_that_has_the_blob_already_may_say_so_early(connect: Connect) -> None:
    stream = BreakingByteStream()
    stream.committed_size = -1
    with serving(stream) as server:
        connect(server).stream_write(LARGE_DIGEST, [LARGE])
