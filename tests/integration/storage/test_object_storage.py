"""What an object store may do to us, and how used objects stay young."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from buildgrid_scheduler.core.errors import (
    DataLoss,
    FailedPrecondition,
    PermissionDenied,
    ResourceExhausted,
    SchedulerError,
    Unavailable,
)
from buildgrid_scheduler.storage.object_store import ObjectStorage, ObjectStoreLocation

from tests.integration.storage.s3_server import BUCKET, Proxy, S3Server, location
from tests.integration.storage.waiting import PATIENCE, in_thread, outage_noticed

BLOB = b"a blob of some bytes"
DIGEST = digest_of(BLOB)
LARGE = os.urandom(11_000_000)
LARGE_DIGEST = digest_of(LARGE)
PART = 5 * 1024 * 1024
Open = Callable[..., ObjectStorage]


@pytest.fixture
def open_(proxy: Proxy, tmp_path: Path) -> Iterator[Open]:
    """Opens storages behind the proxy, each in a place of its own unless it is given one."""
    opened: list[ObjectStorage] = []

    def open_(place: ObjectStoreLocation | None = None, **settings: object) -> ObjectStorage:
        storage = ObjectStorage(place or location(proxy.address), spool=tmp_path, part_bytes=PART, **settings)  # type: ignore[arg-type]
        storage.start()
        opened.append(storage)
        proxy.requests.clear()
        return storage

    yield open_
    for storage in opened:
        storage.stop()


def read_all(storage: ObjectStorage, digest: Digest) -> bytes:
    reader = storage.stream_read(digest)
    assert reader is not None
    with reader:
        return b"".join(reader)


CALLS: list[Callable[[ObjectStorage], object]] = [
    lambda storage: storage.has_many([DIGEST, digest_of(b"another")]),
    lambda storage: storage.read_one(DIGEST),
    lambda storage: read_all(storage, LARGE_DIGEST),
    lambda storage: storage.stream_write(digest_of(b"new"), [b"new"]),
    lambda storage: storage.stream_write(digest_of(LARGE[1:]), [LARGE[1:]]),
    lambda storage: storage.write_many([(digest_of(b"new"), b"new"), (DIGEST, BLOB)]),
]
NAMES = ["has", "read", "stream read", "write", "stream write", "write many"]


# Outages


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
def test_an_outage_within_the_tolerance_is_not_noticed(
    proxy: Proxy, open_: Open, call: Callable[[ObjectStorage], object]
) -> None:
    storage = open_()
    storage.write_many([(DIGEST, BLOB), (LARGE_DIGEST, LARGE)])
    expected = call(storage)
    proxy.stop()
    with outage_noticed() as noticed:
        outcome = in_thread(lambda: call(storage))
        assert noticed.wait(PATIENCE)
        proxy.start()
        assert outcome.result(PATIENCE) == expected


def test_an_outage_beyond_the_tolerance_is_unavailable(proxy: Proxy, open_: Open) -> None:
    storage = open_(outage_tolerance=timedelta(seconds=0.3))
    proxy.stop()
    for call in CALLS[:-1]:
        with pytest.raises(Unavailable, match="the object store s3://"):
            call(storage)
    assert [type(error) for error in storage.write_many([(DIGEST, BLOB)])] == [Unavailable]


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_a_store_that_is_overloaded_is_asked_again(proxy: Proxy, open_: Open, status: int) -> None:
    storage = open_()
    proxy.fail("*", *[status] * 4)
    assert storage.write_many([(DIGEST, BLOB)]) == [None]
    assert proxy.requests["PUT"] == 5


def test_a_store_that_does_not_answer_is_asked_again(tmp_path: Path, s3: S3Server) -> None:
    silent = Silent(s3.address)
    storage = ObjectStorage(location(silent.address), spool=tmp_path, request_seconds=0.5)
    storage.start()
    silent.next_hangs = True
    assert storage.has_many([DIGEST]) == set()
    assert not silent.next_hangs, "one request hung"
    storage.stop()
    silent.go.set()
    silent.stop()


class Silent(Proxy):
    """Does not answer one request until it is let."""

    def __init__(self, behind: str) -> None:
        self.next_hangs = False
        self.go = threading.Event()
        super().__init__(behind)

    def _handle(self, handler: object) -> None:
        if self.next_hangs:
            self.next_hangs = False
            self.go.wait(PATIENCE)
            return
        super()._handle(handler)  # type: ignore[arg-type]


def test_stopping_ends_the_waiting(proxy: Proxy, open_: Open) -> None:
    storage = open_()
    proxy.stop()
    with outage_noticed() as noticed:
        waiting = in_thread(lambda: storage.has_many([DIGEST, LARGE_DIGEST]))
        assert noticed.wait(PATIENCE)
        storage.stop_waiting()
        with pytest.raises(Unavailable, match="stopping"):
            waiting.result(PATIENCE)
    storage.stop()
    with pytest.raises(Unavailable, match="stopping"):
        storage.has_many([DIGEST, LARGE_DIGEST])


def test_a_store_that_is_away_at_the_start_may_come_later(proxy: Proxy, open_: Open) -> None:
    proxy.stop()
    storage = open_()
    with outage_noticed() as noticed:
        outcome = in_thread(lambda: storage.write_many([(DIGEST, BLOB)]))
        assert noticed.wait(PATIENCE)
        proxy.start()
        assert outcome.result(PATIENCE) == [None]


# Refusals


def test_a_refusal_is_told_at_once(proxy: Proxy, open_: Open) -> None:
    storage = open_()
    proxy.fail("*", *[403] * 4)
    with pytest.raises(PermissionDenied, match=r"cannot look for blob .* in the object store s3://"):
        storage.has_many([DIGEST])
    with pytest.raises(PermissionDenied):
        storage.read_one(DIGEST)
    with pytest.raises(PermissionDenied):
        storage.stream_write(DIGEST, [BLOB])
    assert [type(error) for error in storage.write_many([(DIGEST, BLOB)])] == [PermissionDenied]
    assert proxy.requests == {"HEAD": 1, "GET": 1, "PUT": 2}


def test_what_makes_no_sense_to_the_store_is_told_at_once(proxy: Proxy, open_: Open) -> None:
    storage = open_()
    proxy.fail("PUT", 400)
    with pytest.raises(SchedulerError, match="400 Bad Request") as caught:
        storage.stream_write(DIGEST, [BLOB])
    assert type(caught.value) is SchedulerError
    assert proxy.requests["PUT"] == 1


def test_a_full_store_is_told_after_a_few_tries(proxy: Proxy, open_: Open) -> None:
    storage = open_()
    proxy.fail("PUT", *[507] * 3)
    with pytest.raises(ResourceExhausted):
        storage.stream_write(DIGEST, [BLOB])


def test_a_bucket_that_is_not_there_is_named_at_the_start(proxy: Proxy, open_: Open) -> None:
    with pytest.raises(FailedPrecondition, match=r"s3://nowhere/.* cannot be used.*NoSuchBucket"):
        open_(location(proxy.address, bucket="nowhere"))


def test_a_start_needs_no_right_to_list_where_missing_blobs_can_be_told(proxy: Proxy, open_: Open) -> None:
    proxy.fail("GET", 403)
    open_()
    proxy.fail("GET", 403)
    proxy.fail("HEAD", 403)
    with pytest.raises(FailedPrecondition, match="s3:ListBucket"):
        open_()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (ObjectStoreLocation(f"s3://{BUCKET}", {"colour": "red"}), "colour"),
        (ObjectStoreLocation(f"s3://{BUCKET}", secrets={"access_key_id": Path("/nowhere")}), "/nowhere"),
        (ObjectStoreLocation(f"s3://{BUCKET}", ca=Path("/nowhere")), "/nowhere"),
        (ObjectStoreLocation("ftp://bucket"), "ftp"),
    ],
    ids=["option", "secret", "ca", "scheme"],
)
def test_settings_that_cannot_work_are_named_at_the_start(place: ObjectStoreLocation, words: str) -> None:
    with pytest.raises(FailedPrecondition, match=f"cannot be used: .*{words}"):
        ObjectStorage(place).start()


def test_without_obstore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(FailedPrecondition, match=r"install buildgrid-kubernetes\[object-store\]"):
        ObjectStoreLocation("memory://").open()


# Damage


@pytest.mark.parametrize("lie", [BLOB[:-1], BLOB + b"!", BLOB[::-1], b""])
def test_a_small_blob_that_is_damaged_is_never_served(proxy: Proxy, open_: Open, lie: bytes) -> None:
    storage = open_()
    storage.write_many([(DIGEST, BLOB)])
    proxy.bodies = [lie]
    assert storage.read_one(DIGEST) == BLOB, "it may have been damaged on its way"
    proxy.bodies = [lie] * 3
    with pytest.raises(DataLoss, match=DIGEST.hash):
        storage.read_one(DIGEST)


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_large_blob_that_is_damaged_is_never_served_to_its_end(
    proxy: Proxy, open_: Open, part: int
) -> None:
    storage = open_()
    storage.stream_write(LARGE_DIGEST, [LARGE])
    parts = [LARGE[start : start + PART] for start in range(0, len(LARGE), PART)]
    parts[part] = parts[part][::-1]
    for reading in (storage.read_one, lambda digest: read_all(storage, digest)):
        proxy.bodies = list(parts)
        with pytest.raises(DataLoss, match="damaged in the object store"):
            reading(LARGE_DIGEST)
    proxy.bodies = list(parts)
    reader = storage.stream_read(LARGE_DIGEST)
    assert reader is not None
    received = 0
    with reader, pytest.raises(DataLoss):
        for chunk in reader:
            received += len(chunk)
    assert received < len(LARGE)


def test_a_blob_that_vanishes_while_it_is_read_is_no_truncated_blob(proxy: Proxy, open_: Open) -> None:
    storage = open_()
    storage.stream_write(LARGE_DIGEST, [LARGE])
    reader = storage.stream_read(LARGE_DIGEST)
    assert reader is not None
    proxy.fail("GET", *[404] * 10)
    with reader, pytest.raises(Unavailable, match="deleted while it was read"):
        for _ in reader:
            pass


# Large blobs


def test_large_blobs_travel_in_parts_that_are_repeated_when_they_fail(proxy: Proxy, open_: Open) -> None:
    storage = open_()
    proxy.fail("PUT", 503)
    storage.stream_write(LARGE_DIGEST, [LARGE])
    assert proxy.requests["POST"] == 3, "one upload was begun, another begun and completed"
    assert proxy.requests["DELETE"] == 1, "the first was given up"
    proxy.fail("GET", 500, 500)
    assert read_all(storage, LARGE_DIGEST) == LARGE
    assert proxy.requests["GET"] == 2 + 3
    assert storage.read_one(LARGE_DIGEST) == LARGE


# Lifetime


def eventually(condition: Callable[[], bool]) -> None:
    """Waits for what a thread does in the background."""
    tick = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if condition():
            return
        tick.wait(0.01)
    pytest.fail("it did not happen")


class WallClock:
    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def test_old_blobs_that_are_asked_for_are_made_young_again(proxy: Proxy, open_: Open) -> None:
    clock = WallClock()
    storage = open_(refresh_after=timedelta(days=7), wall_clock=clock)
    digests = [digest_of(blob) for blob in (BLOB, b"another")]
    storage.write_many(list(zip(digests, (BLOB, b"another"), strict=True)))
    proxy.requests.clear()
    storage.has_many(digests)
    clock.ahead = timedelta(days=8)
    assert len(storage.has_many(digests)) == 2
    eventually(lambda: proxy.requests["PUT"] == 4)
    # What is aside is deleted: one by one, or in one request.
    eventually(lambda: proxy.requests["DELETE"] + proxy.requests["POST"] == 2)
    assert storage.read_many(digests) == {
        digest_key(DIGEST): BLOB,
        digest_key(digests[1]): b"another",
    }


def test_a_refresh_that_fails_is_made_at_the_next_question(
    proxy: Proxy, open_: Open, caplog: pytest.LogCaptureFixture
) -> None:
    clock = WallClock()
    storage = open_(refresh_after=timedelta(days=7), wall_clock=clock)
    storage.write_many([(DIGEST, BLOB)])
    clock.ahead = timedelta(days=8)
    proxy.requests.clear()
    proxy.fail("PUT", 403)
    assert storage.has_many([DIGEST])
    eventually(lambda: "could not be refreshed" in caplog.text)
    assert storage.has_many([DIGEST])
    eventually(lambda: proxy.requests["PUT"] == 3)


@pytest.mark.parametrize("refresh_after", [None, timedelta(days=30)])
def test_blobs_that_are_young_enough_stay_as_they_are(
    proxy: Proxy, open_: Open, refresh_after: timedelta | None
) -> None:
    clock = WallClock()
    storage = open_(refresh_after=refresh_after, wall_clock=clock)
    storage.write_many([(DIGEST, BLOB)])
    clock.ahead = timedelta(days=8)
    assert storage.has_many([DIGEST])
    storage.stop()
    assert proxy.requests == {"PUT": 1, "HEAD": 1}


# Credentials


def test_secrets_that_were_replaced_are_used_without_a_restart(
    proxy: Proxy, open_: Open, tmp_path: Path
) -> None:
    now = [0.0]
    secret = tmp_path / "access-key-id"
    secret.write_text("OLDKEY\n")
    plain = location(proxy.address)
    options = {key: value for key, value in plain.options.items() if key != "access_key_id"}
    place = ObjectStoreLocation(plain.url, options, {"access_key_id": secret}, allow_http=True)
    storage = open_(place, clock=lambda: now[0])
    storage.has_many([DIGEST])
    assert "Credential=OLDKEY/" in proxy.authorizations[-1]
    secret.write_text("NEWERKEY")
    now[0] += 60
    storage.has_many([DIGEST])
    assert "Credential=NEWERKEY/" in proxy.authorizations[-1]
    secret.unlink()
    now[0] += 60
    storage.has_many([DIGEST])
    assert "Credential=NEWERKEY/" in proxy.authorizations[-1]
