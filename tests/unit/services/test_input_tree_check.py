"""The check of input trees against a storage: what it asks, believes, and answers."""

import asyncio
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from buildgrid_scheduler.core.errors import InvalidArgument, MissingBlobs
from buildgrid_scheduler.services import input_tree_check
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.input_tree import MAX_NAMED
from buildgrid_scheduler.services.input_tree_check import BELIEVED_FOR, InputTreeCheck
from buildgrid_scheduler.services.input_tree_memory import CompleteDirectories
from buildgrid_scheduler.storage.memory import MemoryStorage

from tests.farm.input_trees import chain, directory, packed, wide

COMMAND = digest_of(b"command")
X = digest_of(b"x")
MINUTE = BELIEVED_FOR.total_seconds()


class CountingStorage(MemoryStorage):
    """Remembers what was asked; who reads one of `held` says so with `arrived` and waits for `open`."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.asked: list[str] = []
        self.held: set[str] = set()
        self.arrived = threading.Semaphore(0)
        self.open = threading.Event()

    def put(self, *blobs: bytes) -> Digest:
        for blob in blobs:
            self.stream_write(digest_of(blob), [blob])
        return digest_of(blobs[-1])

    def has_many(self, digests: Iterable[Digest]) -> set[str]:
        asked = list(digests)
        self.asked += map(digest_key, asked)
        return super().has_many(asked)

    def read_many(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        asked = list(digests)
        self.read += map(digest_key, asked)
        if self.held & set(map(digest_key, asked)):
            self.arrived.release()
            assert self.open.wait(20)
        return super().read_many(asked)

    def forget_what_was_asked(self) -> None:
        self.read.clear()
        self.asked.clear()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def storage() -> CountingStorage:
    storage = CountingStorage()
    storage.put(b"x", b"command")
    return storage


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    with ThreadPoolExecutor(4) as executor:
        yield Blocking(executor)


@pytest.fixture
def inputs(storage: CountingStorage, blocking: Blocking, clock: Clock) -> InputTreeCheck:
    return InputTreeCheck(storage, blocking, clock=clock)


async def missing(inputs: InputTreeCheck, root: Digest, command: Digest = COMMAND) -> MissingBlobs:
    with pytest.raises(MissingBlobs) as raised:
        await inputs.check(command, root)
    return raised.value


async def test_command_and_inputs_are_missed_together(
    inputs: InputTreeCheck, storage: CountingStorage
) -> None:
    root = storage.put(packed(directory({"lost": digest_of(b"lost"), "x": X})))
    error = await missing(inputs, root, digest_of(b"no command"))
    assert set(error.keys) == {digest_key(digest_of(b"lost")), digest_key(digest_of(b"no command"))}
    assert "2 input blobs are not in the CAS" in str(error) and "execute again" in str(error)


async def test_of_many_missing_blobs_the_first_are_named_and_all_are_counted(
    inputs: InputTreeCheck, storage: CountingStorage
) -> None:
    root = storage.put(*wide(((f"{n}", digest_of(f"{n}".encode())) for n in range(3000)), folders=3))
    error = await missing(inputs, root)
    assert len(set(error.keys)) == MAX_NAMED
    assert "3000 input blobs (2000 of them are not named here)" in str(error)


async def test_a_complete_tree_is_believed_for_a_while_and_then_walked_again(
    inputs: InputTreeCheck, storage: CountingStorage, clock: Clock
) -> None:
    root = storage.put(*chain(5, directory({"x": X})))
    await inputs.check(COMMAND, root)
    assert len(storage.read) == 6
    storage.forget_what_was_asked()

    clock.now += MINUTE - 1
    await inputs.check(COMMAND, root)
    assert (storage.read, storage.asked) == ([], [digest_key(COMMAND)])

    clock.now += 1
    await inputs.check(COMMAND, root)
    assert len(storage.read) == 6 and digest_key(X) in storage.asked


async def test_another_tree_walks_only_what_is_new_in_it_and_is_not_believed_for_longer(
    inputs: InputTreeCheck, storage: CountingStorage, clock: Clock
) -> None:
    shared = storage.put(*chain(3, directory({"x": X})))
    await inputs.check(COMMAND, shared)
    clock.now += 40
    storage.forget_what_was_asked()
    other = storage.put(packed(directory({"x": X}, {"shared": shared})))
    await inputs.check(COMMAND, other)
    assert storage.read == [digest_key(other)]

    clock.now += MINUTE - 40
    storage.forget_what_was_asked()
    await inputs.check(COMMAND, other)
    assert len(storage.read) == 5


async def test_a_tree_that_lacks_something_is_looked_at_again(
    inputs: InputTreeCheck, storage: CountingStorage
) -> None:
    root = storage.put(packed(directory({"late": digest_of(b"late")})))
    await missing(inputs, root)
    storage.put(b"late")
    await inputs.check(COMMAND, root)


async def test_a_malformed_directory_is_refused_even_where_blobs_are_missing(
    inputs: InputTreeCheck, storage: CountingStorage
) -> None:
    bad = storage.put(packed(directory({"..": X})))
    root = storage.put(packed(directory({"lost": digest_of(b"lost")}, {"bad": bad})))
    with pytest.raises(InvalidArgument, match=bad.hash):
        await inputs.check(COMMAND, root)


async def test_the_limit_on_entries_is_named(storage: CountingStorage, blocking: Blocking) -> None:
    root = storage.put(packed(directory({"a": X, "b": X, "c": X})))
    with pytest.raises(InvalidArgument, match="more than 2 files"):
        await InputTreeCheck(storage, blocking, max_entries=2).check(COMMAND, root)


async def test_a_caller_that_goes_away_ends_the_walk_after_the_step_that_runs(
    inputs: InputTreeCheck, storage: CountingStorage
) -> None:
    root = storage.put(*chain(50, directory({"x": X})))
    storage.held.add(digest_key(root))
    check = asyncio.create_task(inputs.check(COMMAND, root))
    assert await asyncio.to_thread(storage.arrived.acquire, timeout=20)
    check.cancel()
    storage.open.set()
    with pytest.raises(asyncio.CancelledError):
        await check
    assert len(storage.read) == 1


async def test_large_trees_wait_for_each_other_and_small_ones_do_not_wait_for_them(
    inputs: InputTreeCheck, storage: CountingStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_tree_check, "_LARGE_ENTRIES", 10)
    large = []
    for number in range(3):
        # Large from the root on, so that only those who may read what is below.
        below = storage.put(packed(directory({f"below-{number}": X})))
        large.append(storage.put(packed(directory({f"{n}": X for n in range(20)}, {"below": below}))))
        storage.held.add(digest_key(below))
    small = storage.put(packed(directory({"small": X})))
    checks = [asyncio.create_task(inputs.check(COMMAND, root)) for root in large]
    for _ in range(2):
        assert await asyncio.to_thread(storage.arrived.acquire, timeout=20)
    await inputs.check(COMMAND, small)
    assert len(storage.held & set(storage.read)) == 2
    storage.open.set()
    async with asyncio.timeout(20):
        await asyncio.gather(*checks)


async def test_large_trees_that_wait_leave_their_place_to_small_ones(
    storage: CountingStorage, blocking: Blocking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_tree_check, "_LARGE_ENTRIES", 10)
    monkeypatch.setattr(input_tree_check, "_WALKS", 3)
    large = []
    for number in range(5):
        below = storage.put(packed(directory({f"below {number}": X})))
        storage.held.add(digest_key(below))
        large.append(storage.put(packed(directory({f"{n}": X for n in range(20)}, {"below": below}))))
    small = storage.put(packed(directory({"a": X})))
    inputs = InputTreeCheck(storage, blocking)
    checks = [asyncio.create_task(inputs.check(COMMAND, root)) for root in large]
    for _ in range(2):
        await asyncio.to_thread(storage.arrived.acquire)
    # Two are walked on, the other three wait: more than there are places.
    await asyncio.wait_for(inputs.check(COMMAND, small), 10)
    assert not any(check.done() for check in checks)
    storage.open.set()
    await asyncio.wait_for(asyncio.gather(*checks), 20)


def test_of_too_many_complete_directories_the_oldest_are_forgotten() -> None:
    memory = CompleteDirectories(most=2)
    memory.add([b"a", b"b"], until=5.0)
    memory.add([b"a"], until=6.0)
    memory.add([b"c"], until=7.0)
    assert [memory.until(key, 1.0) for key in (b"a", b"b", b"c")] == [6.0, None, 7.0]
    assert memory.until(b"a", 6.0) is None
    assert len(memory) == 2
