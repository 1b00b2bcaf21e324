"""Uploads that wait to be resumed."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from buildgrid_client.digests import digest_of
from buildgrid_scheduler.core.errors import InvalidArgument, Unavailable
from buildgrid_scheduler.services import uploads as uploads_module
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.resource_names import BlobName, UploadName
from buildgrid_scheduler.services.uploads import Uploads
from buildgrid_scheduler.storage.memory import MemoryStorage

BLOB = b"a blob"


def name(uuid: str) -> UploadName:
    digest = digest_of(BLOB)
    return UploadName(BlobName("", digest.hash, digest.size_bytes, zstd=False), uuid)


@pytest.fixture
def blocking() -> Iterator[Blocking]:
    with ThreadPoolExecutor(max_workers=2) as executor:
        yield Blocking(executor)


async def park(uploads: Uploads, uuid: str) -> None:
    upload = await uploads.open(name(uuid), 0)
    upload.writer.write(BLOB[:2])
    uploads.put_back(upload)


async def due_timers() -> None:
    """Waits until the timers set so far have run, as far as they are due."""
    passed = asyncio.Event()
    asyncio.get_running_loop().call_later(0, passed.set)
    await passed.wait()


async def test_an_upload_that_nobody_resumes_is_forgotten(blocking: Blocking) -> None:
    uploads = Uploads(MemoryStorage(), blocking, idle_seconds=0)
    await park(uploads, "a")
    assert uploads.committed(name("a")) == 2
    await due_timers()
    assert uploads.committed(name("a")) is None


async def test_an_upload_that_is_resumed_is_not_forgotten(blocking: Blocking) -> None:
    uploads = Uploads(MemoryStorage(), blocking, idle_seconds=0)
    upload = await uploads.open(name("a"), 0)
    upload.writer.write(BLOB[:2])
    uploads.put_back(upload)
    assert await uploads.open(name("a"), 2) is upload
    await due_timers()
    assert uploads.committed(name("a")) == 2


async def test_of_too_many_the_one_that_waits_longest_is_forgotten(
    blocking: Blocking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads_module, "MAX_PARKED", 2)
    uploads = Uploads(MemoryStorage(), blocking, idle_seconds=1000)
    for uuid in "abc":
        await park(uploads, uuid)
    assert [uploads.committed(name(uuid)) for uuid in "abc"] == [None, 2, 2]
    uploads.drop_parked()
    assert [uploads.committed(name(uuid)) for uuid in "abc"] == [None, None, None]


async def test_an_upload_in_use_is_not_resumed_but_may_be_started_again(blocking: Blocking) -> None:
    uploads = Uploads(MemoryStorage(), blocking, idle_seconds=1000)
    first = await uploads.open(name("a"), 0)
    first.writer.write(BLOB[:2])
    with pytest.raises(Unavailable, match="another call"):
        await uploads.open(name("a"), 2)
    with pytest.raises(InvalidArgument, match="2 bytes"):
        await uploads.open(name("a"), 1)
    second = await uploads.open(name("a"), 0)
    second.writer.write(BLOB[:3])
    uploads.put_back(first)
    assert not first.is_parked
    assert uploads.committed(name("a")) == 3


async def test_a_cancellation_waits_for_the_thread(blocking: Blocking) -> None:
    running, may_end = threading.Event(), threading.Event()
    ended = False

    def work() -> None:
        nonlocal ended
        running.set()
        assert may_end.wait(10)
        ended = True

    task = asyncio.create_task(blocking(work))
    await asyncio.to_thread(running.wait)
    task.cancel()
    await asyncio.wait([task], timeout=0)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
