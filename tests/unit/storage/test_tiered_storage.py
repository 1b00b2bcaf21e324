"""A disk in front of the truth: what it saves, what it must not say, and what happens without it."""

import errno
import os
from collections.abc import Iterable
from datetime import timedelta

import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from buildgrid_scheduler.core.errors import InvalidArgument, ResourceExhausted, SchedulerError, Unavailable
from buildgrid_scheduler.storage.abc import MAX_CHUNK_BYTES, BlobReader, BlobWriter, StorageABC
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.storage.tiered import TieredStorage

BLOB = b"a blob of some bytes"
DIGEST = digest_of(BLOB)
LARGE = os.urandom(2 * MAX_CHUNK_BYTES + 17)
LARGE_DIGEST = digest_of(LARGE)


class Recording(MemoryStorage):
    """Notes what it is asked, and may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.waiting = True

    def _note(self, what: str) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error

    def has_many(self, digests: Iterable[Digest]) -> set[str]:
        self._note("has")
        return super().has_many(digests)

    def read_many(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        self._note("read")
        return super().read_many(digests)

    def stream_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> BlobReader | None:
        self.asked.append("stream")
        return super().stream_read(digest, offset, limit)

    def begin_write(self, digest: Digest) -> BlobWriter:
        self._note("write")
        return super().begin_write(digest)

    def stop_waiting(self) -> None:
        self.waiting = False

    def holds(self, *digests: Digest) -> bool:
        return all(digest_key(digest) in self._blobs for digest in digests)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def tier() -> Recording:
    return Recording()


@pytest.fixture
def behind() -> Recording:
    return Recording()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(tier: Recording, behind: Recording, clock: Clock) -> TieredStorage:
    return TieredStorage(tier, behind, confirmed_for=timedelta(seconds=30), clock=clock)


def read(storage: StorageABC, digest: Digest, offset: int = 0, limit: int = 0) -> bytes:
    reader = storage.stream_read(digest, offset, limit)
    assert reader is not None
    with reader:
        return b"".join(reader)


# Presence


def test_a_blob_that_only_the_tier_has_is_missing(tier: Recording, storage: TieredStorage) -> None:
    tier.write_many([(DIGEST, BLOB)])
    assert storage.has_many([DIGEST]) == set()


def test_what_was_confirmed_is_not_asked_for_again_for_a_while(
    behind: Recording, storage: TieredStorage, clock: Clock
) -> None:
    behind.write_many([(DIGEST, BLOB)])
    behind.asked.clear()
    assert storage.has_many([DIGEST]) == {digest_key(DIGEST)}
    assert storage.has_many([DIGEST]) == {digest_key(DIGEST)}
    assert behind.asked == ["has"]
    clock.now += 31
    behind.forget(DIGEST)
    assert storage.has_many([DIGEST]) == set()


def test_what_is_missing_is_asked_for_each_time(behind: Recording, storage: TieredStorage) -> None:
    assert storage.has_many([DIGEST]) == set()
    behind.write_many([(DIGEST, BLOB)])
    assert storage.has_many([DIGEST]) == {digest_key(DIGEST)}


def test_what_was_stored_or_read_is_confirmed(behind: Recording, storage: TieredStorage) -> None:
    behind.write_many([(digest_of(b"read"), b"read")])
    storage.write_many([(DIGEST, BLOB)])
    storage.stream_write(LARGE_DIGEST, [LARGE])
    storage.read_one(digest_of(b"read"))
    behind.asked.clear()
    assert len(storage.has_many([DIGEST, LARGE_DIGEST, digest_of(b"read")])) == 3
    assert behind.asked == []


def test_what_a_read_misses_is_not_confirmed_any_more(
    tier: Recording, behind: Recording, storage: TieredStorage
) -> None:
    storage.write_many([(DIGEST, BLOB), (LARGE_DIGEST, LARGE)])
    for store in (tier, behind):
        store.forget(DIGEST)
        store.forget(LARGE_DIGEST)
    assert storage.read_one(DIGEST) is None
    assert storage.stream_read(LARGE_DIGEST) is None
    assert storage.has_many([DIGEST, LARGE_DIGEST]) == set()


# Copies


def test_writes_go_to_both(tier: Recording, behind: Recording, storage: TieredStorage) -> None:
    storage.write_many([(DIGEST, BLOB)])
    storage.stream_write(LARGE_DIGEST, [LARGE[:5], LARGE[5:]])
    assert tier.holds(DIGEST, LARGE_DIGEST)
    assert behind.holds(DIGEST, LARGE_DIGEST)


def test_reads_fill_the_tier_and_come_from_it_then(
    tier: Recording, behind: Recording, storage: TieredStorage
) -> None:
    behind.write_many([(DIGEST, BLOB), (LARGE_DIGEST, LARGE)])
    assert storage.read_one(DIGEST) == BLOB
    assert read(storage, LARGE_DIGEST) == LARGE
    assert tier.holds(DIGEST, LARGE_DIGEST)
    behind.asked.clear()
    assert storage.read_many([DIGEST, LARGE_DIGEST]) == {
        digest_key(DIGEST): BLOB,
        digest_key(LARGE_DIGEST): LARGE,
    }
    assert read(storage, LARGE_DIGEST) == LARGE
    assert read(storage, LARGE_DIGEST, 5, 10) == LARGE[5:15]
    assert behind.asked == []


def test_only_what_the_tier_lacks_is_read_from_behind(
    tier: Recording, behind: Recording, storage: TieredStorage
) -> None:
    tier.write_many([(DIGEST, BLOB)])
    behind.write_many([(digest_of(b"other"), b"other")])
    assert len(storage.read_many([DIGEST, digest_of(b"other")])) == 2


def test_a_part_or_a_read_that_is_given_up_leaves_no_copy(
    tier: Recording, behind: Recording, storage: TieredStorage, caplog: pytest.LogCaptureFixture
) -> None:
    behind.write_many([(LARGE_DIGEST, LARGE)])
    assert read(storage, LARGE_DIGEST, 0, 10) == LARGE[:10]
    assert read(storage, LARGE_DIGEST, 10) == LARGE[10:]
    reader = storage.stream_read(LARGE_DIGEST)
    assert reader is not None
    next(reader)
    reader.close()
    assert not tier.holds(LARGE_DIGEST)
    assert caplog.messages == [], "that is no failure of the tier"


def test_what_could_not_be_stored_behind_has_no_copy(
    tier: Recording, behind: Recording, storage: TieredStorage
) -> None:
    behind.error = Unavailable("away")
    assert storage.write_many([(DIGEST, BLOB)]) == [behind.error]
    with pytest.raises(Unavailable):
        storage.stream_write(DIGEST, [BLOB])
    behind.error = None
    with pytest.raises(InvalidArgument):
        storage.stream_write(DIGEST, [BLOB[::-1]])
    with pytest.raises(InvalidArgument):
        storage.stream_write(DIGEST, [BLOB, b"more"])
    assert not tier.holds(DIGEST)


def test_an_outage_behind_is_not_hidden_by_the_tier_but_its_copies_can_be_read(
    behind: Recording, storage: TieredStorage, clock: Clock
) -> None:
    storage.write_many([(DIGEST, BLOB)])
    clock.now += 31
    behind.error = Unavailable("away")
    assert storage.read_one(DIGEST) == BLOB
    with pytest.raises(Unavailable):
        storage.has_many([DIGEST])


# Without the tier


class BreakingWriter(BlobWriter):
    """Fails at its first write, or at its end."""

    def __init__(self, *, at_end: bool) -> None:
        self._at_end = at_end
        self.aborted = False

    @property
    def committed(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        if not self._at_end:
            raise ResourceExhausted("the disk is full")

    def commit(self) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    def abort(self) -> None:
        self.aborted = True


@pytest.mark.parametrize("error", [ResourceExhausted("full"), OSError(errno.EIO, "broken"), Unavailable("?")])
def test_a_tier_that_fails_is_passed_by(
    tier: Recording, behind: Recording, storage: TieredStorage, error: Exception
) -> None:
    tier.error = error
    assert storage.write_many([(DIGEST, BLOB)]) == [None]
    storage.stream_write(LARGE_DIGEST, [LARGE])
    assert behind.holds(DIGEST, LARGE_DIGEST)
    assert storage.read_one(DIGEST) == BLOB
    assert read(storage, LARGE_DIGEST) == LARGE


@pytest.mark.parametrize("at_end", [False, True], ids=["at a write", "at the end"])
def test_a_tier_that_fails_in_the_middle_is_passed_by(
    tier: Recording,
    behind: Recording,
    storage: TieredStorage,
    monkeypatch: pytest.MonkeyPatch,
    at_end: bool,
) -> None:
    writers: list[BreakingWriter] = []

    def begin_write(digest: Digest) -> BlobWriter:
        writers.append(BreakingWriter(at_end=at_end))
        return writers[-1]

    monkeypatch.setattr(tier, "begin_write", begin_write)
    storage.stream_write(LARGE_DIGEST, [LARGE])
    assert read(storage, LARGE_DIGEST) == LARGE
    assert storage.write_many([(DIGEST, BLOB)]) == [None]
    assert behind.holds(DIGEST, LARGE_DIGEST)
    assert [writer.aborted for writer in writers[:2]] == [True, True]


def test_a_tier_that_fails_is_logged_once_a_minute(
    tier: Recording, storage: TieredStorage, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    tier.error = ResourceExhausted("the disk is full")
    for _ in range(5):
        storage.read_one(DIGEST)
    clock.now += 61
    storage.read_one(DIGEST)
    assert len([message for message in caplog.messages if "the disk is full" in message]) == 2


def test_malformed_digests_are_the_callers_fault_and_not_the_tiers(
    storage: TieredStorage, caplog: pytest.LogCaptureFixture
) -> None:
    for call in (storage.read_one, storage.stream_read, storage.begin_write):
        with pytest.raises(InvalidArgument):
            call(Digest(hash="x"))
    assert caplog.messages == []


# Life


def test_it_starts_and_stops_both_and_hands_the_hurry_on(storage: TieredStorage, behind: Recording) -> None:
    storage.start()
    storage.stop_waiting()
    assert not behind.waiting
    storage.stop()


def test_a_start_that_fails_behind_leaves_no_tier_running(
    tier: Recording, behind: Recording, storage: TieredStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[str] = []

    def fail() -> None:
        raise SchedulerError("cannot be used")

    monkeypatch.setattr(behind, "start", fail)
    monkeypatch.setattr(tier, "stop", lambda: stopped.append("tier"))
    with pytest.raises(SchedulerError):
        storage.start()
    assert stopped == ["tier"]
