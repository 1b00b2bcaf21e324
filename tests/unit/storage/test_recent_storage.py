"""What the memory in front of a storage adds, and what it must not."""

from buildgrid_client.digests import digest_of
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.storage.recent import LARGEST, RecentStorage


def test_a_small_blob_is_in_memory_after_it_was_written_and_after_it_was_read() -> None:
    behind = MemoryStorage()
    storage = RecentStorage(behind)
    written, read = digest_of(b"written"), digest_of(b"read")
    behind.write_many([(read, b"read")])
    assert storage.read_recent(read) is None
    storage.write_many([(written, b"written")])
    assert storage.read_one(read) == b"read"
    assert storage.read_recent(written) == b"written"
    assert storage.read_recent(read) == b"read"


def test_a_blob_that_was_evicted_is_missing_although_it_is_in_memory() -> None:
    behind = MemoryStorage()
    storage = RecentStorage(behind)
    digest = digest_of(b"blob")
    storage.write_many([(digest, b"blob")])
    behind.forget(digest)
    assert storage.has_many([digest]) == set()


def test_a_wrong_blob_and_a_large_one_are_not_remembered() -> None:
    storage = RecentStorage(MemoryStorage())
    digest, large = digest_of(b"right"), bytes(LARGEST + 1)
    assert storage.write_many([(digest, b"wrong"), (digest_of(large), large)])[0] is not None
    assert storage.read_recent(digest) is None
    assert storage.read_recent(digest_of(large)) is None


def test_memory_is_bounded_and_the_least_recently_used_goes_first() -> None:
    storage = RecentStorage(MemoryStorage(), max_bytes=900)
    first, second, third = (bytes([n]) * 200 for n in range(3))
    storage.write_many([(digest_of(first), first), (digest_of(second), second)])
    assert storage.read_recent(digest_of(first)) == first
    storage.write_many([(digest_of(third), third)])
    assert storage.read_recent(digest_of(second)) is None
    assert storage.read_recent(digest_of(first)) == first
