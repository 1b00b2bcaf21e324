"""What the disk storage adds: a bound, restarts, crashes, full disks, and folders shared by processes."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from buildgrid_scheduler.core.errors import ResourceExhausted
from buildgrid_scheduler.storage import disk_layout
from buildgrid_scheduler.storage.disk import DiskStorage
from buildgrid_scheduler.storage.disk_index import BLOCK_BYTES, Victim

BLOCK = BLOCK_BYTES
START = Callable[..., DiskStorage]


class Clock:
    """Starts now, since the file system has a clock of its own."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def start(tmp_path: Path, clock: Clock) -> Iterator[START]:
    """Starts storages, all on one folder: several at once are what several processes would be."""
    started: list[DiskStorage] = []

    def start(blocks: int = 1000, root: Path = tmp_path / "cas") -> DiskStorage:
        storage = DiskStorage(root, max_bytes=blocks * BLOCK, rescan_seconds=0, clock=clock)
        storage.start()
        started.append(storage)
        return storage

    yield start
    for storage in started:
        storage.stop()


def block(name: str, blocks: int = 1) -> bytes:
    """Content that takes this many blocks of the disk."""
    return name.encode().ljust(blocks * BLOCK, b".")


def store(storage: DiskStorage, data: bytes) -> Digest:
    digest = digest_of(data)
    storage.stream_write(digest, [data])
    return digest


def present(storage: DiskStorage, *digests: Digest) -> list[bool]:
    """Looks without refreshing."""
    return [(storage.root / "blobs" / d.hash[:2] / d.hash).exists() for d in digests]


def temporary_files(root: Path) -> list[Path]:
    return [path for path in root.glob("incoming/*/*") if path.name != "lock"]


# Eviction


def test_the_least_recently_used_blob_is_evicted_first(start: START) -> None:
    storage = start(blocks=3)
    a, b, c = (store(storage, block(name)) for name in "abc")
    storage.has_many([a])
    d = store(storage, block("d"))
    assert present(storage, a, b, c, d) == [True, False, True, True]
    storage.read_one(c)
    e = store(storage, block("e"))
    assert present(storage, a, c, d, e) == [False, True, True, True]


def test_small_blobs_count_as_the_blocks_that_they_take(start: START) -> None:
    storage = start(blocks=3)
    digests = [store(storage, name.encode()) for name in "abcd"]
    assert present(storage, *digests) == [False, True, True, True]
    assert storage.used_bytes == 3 * BLOCK


def test_uploads_under_way_count_and_give_their_room_back(start: START) -> None:
    storage = start(blocks=3)
    a, b = store(storage, block("a")), store(storage, block("b"))
    data = block("c", 2)
    writer = storage.begin_write(digest_of(data))
    assert present(storage, a, b) == [True, True]
    writer.write(data)
    assert present(storage, a, b) == [False, True]
    assert storage.used_bytes == 3 * BLOCK
    writer.abort()
    assert storage.used_bytes == BLOCK


def test_an_announced_size_evicts_nothing_before_data_comes(start: START) -> None:
    storage = start(blocks=3)
    digests = [store(storage, block(name)) for name in "abc"]
    storage.begin_write(digest_of(block("d", 3))).abort()
    assert present(storage, *digests) == [True, True, True]


def test_a_blob_beyond_the_bound_is_refused_and_nothing_is_evicted(start: START) -> None:
    storage = start(blocks=3)
    a = store(storage, block("a"))
    with pytest.raises(ResourceExhausted, match=f"limited to {3 * BLOCK} bytes.*max_bytes"):
        store(storage, block("b", 4))
    assert present(storage, a) == [True]


def test_uploads_that_fill_the_storage_are_refused_with_the_remedy(start: START) -> None:
    storage = start(blocks=3)
    first, second = block("a", 2), block("b", 2)
    one, two = storage.begin_write(digest_of(first)), storage.begin_write(digest_of(second))
    one.write(first)
    with pytest.raises(ResourceExhausted, match="uploads under way"):
        two.write(second)
    one.commit()
    assert storage.read_one(digest_of(first)) == first
    assert storage.used_bytes == 2 * BLOCK


def test_a_blob_that_is_being_read_stays_readable_when_evicted(start: START) -> None:
    storage = start(blocks=3)
    data = block("a", 2)
    reader = storage.stream_read(store(storage, data))
    assert reader is not None
    store(storage, block("b", 3))
    with reader:
        assert b"".join(reader) == data
    assert storage.read_one(digest_of(data)) is None


def test_a_blob_that_is_used_in_the_moment_of_its_eviction_is_spared(
    start: START, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = start(blocks=2)
    a, b = store(storage, block("a")), store(storage, block("b"))
    choose = storage._index.pop_oldest

    def choose_while_a_client_asks() -> Victim | None:
        victim = choose()
        if victim is not None and victim.hash == a.hash:
            assert storage.has_many([a]) == {digest_key(a)}
        return victim

    monkeypatch.setattr(storage._index, "pop_oldest", choose_while_a_client_asks)
    c = store(storage, block("c"))
    assert present(storage, a, b, c) == [True, False, True]
    assert storage.used_bytes == 2 * BLOCK


def test_storing_a_blob_twice_counts_once(start: START) -> None:
    storage = start(blocks=3)
    for _ in range(3):
        store(storage, block("a"))
    assert storage.used_bytes == BLOCK


def test_wrong_content_gives_its_room_back(start: START) -> None:
    storage = start()
    storage.write_many([(digest_of(b"right"), b"wrong")])
    with pytest.raises(Exception, match="content received"):
        storage.stream_write(digest_of(b"right"), [b"wrong"])
    assert storage.used_bytes == 0
    assert temporary_files(storage.root) == []


# Restart


def test_a_restart_finds_the_blobs_and_the_order_of_their_use(start: START, clock: Clock) -> None:
    storage = start(blocks=3)
    a, b, c = (store(storage, block(name)) for name in "abc")
    clock.now += 1000
    storage.has_many([b])
    clock.now += 1000
    storage.read_one(a)
    storage.stop()
    again = start(blocks=3)
    assert again.used_bytes == 3 * BLOCK
    d = store(again, block("d"))
    e = store(again, block("e"))
    assert present(again, a, b, c, d, e) == [True, False, False, True, True]


def test_uses_are_noted_on_disk_only_now_and_then(start: START, clock: Clock) -> None:
    storage = start()
    digest = store(storage, b"popular")
    path = storage.root / "blobs" / digest.hash[:2] / digest.hash
    clock.now += 1000
    storage.has_many([digest])
    noted = path.stat().st_atime
    clock.now += 100
    storage.has_many([digest])
    assert path.stat().st_atime == noted == pytest.approx(clock.now - 100)


def test_a_restart_with_a_lower_bound_evicts_at_once(start: START, clock: Clock) -> None:
    storage = start(blocks=3)
    a, b, c = (store(storage, block(name)) for name in "abc")
    clock.now += 1000
    storage.has_many([a])
    storage.stop()
    again = start(blocks=1)
    assert present(again, a, b, c) == [True, False, False]


def test_a_blob_cut_short_by_a_crash_of_the_machine_counts_as_missing_and_is_replaced(start: START) -> None:
    storage = start()
    digest = store(storage, b"whole")
    os.truncate(storage.root / "blobs" / digest.hash[:2] / digest.hash, 2)
    assert storage.has_many([digest]) == set()
    assert storage.read_one(digest) is None
    store(storage, b"whole")
    assert storage.read_one(digest) == b"whole"


def test_after_another_boot_the_latest_blobs_are_verified(
    start: START, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    boot_id = tmp_path / "boot_id"
    boot_id.write_text("first")
    monkeypatch.setattr(disk_layout, "_BOOT_ID", boot_id)
    storage = start()
    good, damaged = store(storage, b"good"), store(storage, b"damaged")
    path = storage.root / "blobs" / damaged.hash[:2] / damaged.hash
    path.write_bytes(b"\0" * len(b"damaged"))
    storage.stop()
    start().stop()
    assert path.exists()
    boot_id.write_text("second")
    again = start()
    assert again.has_many([good, damaged]) == {digest_key(good)}
    assert again.used_bytes == BLOCK


# Crash

WRITER = """
import os, sys
from pathlib import Path
from buildgrid_client.digests import digest_of
from buildgrid_scheduler.storage.disk import DiskStorage
storage = DiskStorage(Path(sys.argv[1]), 10**9)
storage.start()
while True:
    data = os.urandom(300_000)
    writer = storage.begin_write(digest_of(data))
    for start in range(0, len(data), 10_000):
        writer.write(data[start:start + 10_000])
    print("half" if sys.argv[2] == "half" else "stored", flush=True)
    if sys.argv[2] == "half":
        sys.stdin.read()
    writer.commit()
"""


def run_writer(root: Path, mode: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_kill_9_while_writing_leaves_no_torn_blob_and_no_litter(start: START, tmp_path: Path) -> None:
    root = tmp_path / "cas"
    process = run_writer(root, "full speed")
    assert process.stdout is not None
    for _ in range(20):
        process.stdout.readline()
    kill(process)
    blobs = list(root.glob("blobs/*/*"))
    assert len(blobs) >= 19
    for path in blobs:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    storage = start(blocks=1_000_000)
    assert temporary_files(root) == []
    digest = Digest(hash=blobs[0].name, size_bytes=300_000)
    assert storage.has_many([digest]) == {digest_key(digest)}


def test_kill_9_in_the_middle_of_an_upload_leaves_nothing_of_it(start: START, tmp_path: Path) -> None:
    root = tmp_path / "cas"
    process = run_writer(root, "half")
    assert process.stdout is not None
    process.stdout.readline()
    assert len(temporary_files(root)) == 1
    kill(process)
    storage = start()
    assert temporary_files(root) == []
    assert storage.used_bytes == 0


# Full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("may not mount file systems here; another test simulates the full disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def check_full_disk(storage: DiskStorage, kept: Digest) -> None:
    large = os.urandom(3 * 1024 * 1024)
    with pytest.raises(ResourceExhausted, match=r"disk that holds .* is full .*max_bytes") as raised:
        storage.stream_write(digest_of(large), (large[i : i + 65536] for i in range(0, len(large), 65536)))
    assert str(storage.root) in str(raised.value)
    assert storage.read_one(kept) == b"was here"
    assert temporary_files(storage.root) == []
    assert storage.used_bytes == BLOCK


def test_a_full_disk_refuses_the_write_and_keeps_what_is_there(start: START, small_disk: Path) -> None:
    storage = start(blocks=10_000, root=small_disk / "cas")
    kept = store(storage, b"was here")
    check_full_disk(storage, kept)
    store(storage, os.urandom(100_000))
    storage.stop()


def test_a_simulated_full_disk_refuses_the_write_too(start: START, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = start(blocks=10_000)
    kept = store(storage, b"was here")
    really_write = os.write
    room = 1024 * 1024

    def write(descriptor: int, data: bytes) -> int:
        nonlocal room
        if room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # A disk that fills up takes a part of the data first.
        written = really_write(descriptor, data[: min(room, 1000)])
        room -= written
        return written

    monkeypatch.setattr(os, "write", write)
    check_full_disk(storage, kept)


def test_a_full_disk_is_logged_once_a_minute_not_for_each_upload(
    start: START, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = start()

    def write(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refused_upload() -> None:
        with pytest.raises(ResourceExhausted):
            store(storage, b"no room")

    monkeypatch.setattr(os, "write", write)
    refused_upload()
    refused_upload()
    (line,) = caplog.messages
    assert str(storage.root) in line
    assert "is full" in line
    assert "max_bytes" in line
    clock.now += 60
    refused_upload()
    assert len(caplog.messages) == 2


# Several processes on one folder


def test_processes_see_each_others_blobs_at_once(start: START) -> None:
    one, two = start(), start()
    digest = store(one, b"shared")
    assert two.has_many([digest]) == {digest_key(digest)}
    assert two.read_one(digest) == b"shared"
    assert two.used_bytes == BLOCK


def test_a_blob_that_another_process_evicted_is_missing(start: START) -> None:
    one, two = start(), start(blocks=1)
    digest = store(one, b"shared")
    assert two.has_many([digest]) == {digest_key(digest)}
    store(two, block("something else"))
    assert one.has_many([digest]) == set()
    assert one.read_one(digest) is None
    assert one.used_bytes == 0


def test_a_start_spares_the_uploads_of_a_living_process(start: START) -> None:
    one = start()
    writer = one.begin_write(digest_of(b"patience"))
    writer.write(b"pati")
    start()
    writer.write(b"ence")
    writer.commit()
    assert one.read_one(digest_of(b"patience")) == b"patience"


def test_what_another_process_used_is_spared(start: START, clock: Clock) -> None:
    one, two = start(blocks=3), start(blocks=3)
    a, b = store(one, block("a")), store(one, block("b"))
    clock.now += 1000
    two.has_many([a])
    store(one, block("c", 2))
    assert present(one, a, b) == [True, False]


def test_a_rescan_learns_what_others_evicted(start: START) -> None:
    one = start(blocks=3)
    digests = [store(one, block(name)) for name in "abc"]
    start(blocks=1)
    one.rescan()
    assert one.used_bytes == BLOCK
    assert present(one, *digests).count(True) == 1


def test_a_rescan_learns_what_others_stored_and_evicts_down_to_the_bound(start: START) -> None:
    one, two = start(blocks=3), start(blocks=3)
    digests = [store(one, block(name)) for name in "abc"]
    more = [store(two, block(name)) for name in "de"]
    assert present(one, *digests, *more).count(True) == 5
    two.rescan()
    assert two.used_bytes == 3 * BLOCK
    assert present(one, *digests, *more).count(True) == 3
    one.rescan()
    assert one.used_bytes == 3 * BLOCK
