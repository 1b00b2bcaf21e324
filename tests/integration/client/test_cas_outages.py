"""The CAS client, which every bot has: outages that it waits out, and transfers that break."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from buildgrid_client.cas import CasClient
from buildgrid_client.channel import open_channel
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_client.errors import CasUnavailable

from tests.integration.storage.fake_bytestream import BreakingByteStream
from tests.integration.storage.remote_server import RemoteServer

BLOB = b"a blob of some bytes"
DIGEST = digest_of(BLOB)
LARGE = os.urandom(5_000_000)
LARGE_DIGEST = digest_of(LARGE)
# One more try after a failure, and none after the next in a row.
ONE_TRY_MORE = 0.001
Connect = Callable[..., CasClient]
Call = Callable[[CasClient, Path], Awaitable[object]]

CALLS: list[Call] = [
    lambda cas, path: cas.find_missing([DIGEST]),
    lambda cas, path: cas.read_blobs([DIGEST, LARGE_DIGEST]),
    lambda cas, path: cas.download_file(LARGE_DIGEST, path / "file"),
    lambda cas, path: cas.upload_blobs([b"new", LARGE[1:]]),
]
NAMES = ["find", "read", "download", "upload"]


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns when it is true."""
    tick = threading.Event()
    for _ in range(6000):
        if condition():
            return
        tick.wait(0.01)
    pytest.fail("it did not happen")


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    async with AsyncExitStack() as stack:

        def connect(server: RemoteServer, **settings: float) -> CasClient:
            channel = open_channel(server.endpoint)
            stack.push_async_callback(channel.close)
            return CasClient(channel, **settings)  # type: ignore[arg-type]

        yield connect


@pytest.fixture
def server() -> Iterator[RemoteServer]:
    with closing(RemoteServer()) as server:
        server.start()
        server.storage.write_many([(DIGEST, BLOB), (LARGE_DIGEST, LARGE)])
        yield server


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
async def test_an_outage_within_the_tolerance_is_not_noticed(
    server: RemoteServer, connect: Connect, tmp_path: Path, call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    cas = connect(server)
    await asyncio.to_thread(server.stop)
    task = asyncio.ensure_future(call(cas, tmp_path))
    await asyncio.to_thread(wait_for, lambda: "trying again" in caplog.text)
    assert not task.done()
    await asyncio.to_thread(server.start)
    await task
    assert await cas.find_missing([DIGEST, LARGE_DIGEST]) == set()


@pytest.mark.parametrize("call", CALLS, ids=NAMES)
async def test_an_outage_beyond_the_tolerance_is_told(
    server: RemoteServer, connect: Connect, tmp_path: Path, call: Call
) -> None:
    cas = connect(server, outage_tolerance=0.2)
    await asyncio.to_thread(server.stop)
    with pytest.raises(CasUnavailable, match="UNAVAILABLE"):
        await call(cas, tmp_path)


async def test_a_transfer_that_gets_on_lives_through_any_number_of_outages(
    connect: Connect, tmp_path: Path
) -> None:
    stream = BreakingByteStream(LARGE, cuts=(1_000_000,) * 4)
    with closing(RemoteServer(bytestream=stream)) as server:
        server.start()
        cas = connect(server, outage_tolerance=ONE_TRY_MORE)
        await cas.download_file(LARGE_DIGEST, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == LARGE
        assert [request.read_offset for request in stream.reads] == [
            0,
            10**6,
            2 * 10**6,
            3 * 10**6,
            4 * 10**6,
        ]
        stream.cuts = [1_500_000, 3_000_000]
        await cas.upload_blobs([LARGE])
    assert list(stream.finished.values()) == [LARGE]
    assert stream.write_offsets[0] == 0
    assert stream.write_offsets == sorted(set(stream.write_offsets))


async def test_a_transfer_that_does_not_get_on_ends(connect: Connect, tmp_path: Path) -> None:
    stream = BreakingByteStream(LARGE, cuts=(1_000_000, 0, 0, 0))
    with closing(RemoteServer(bytestream=stream)) as server:
        server.start()
        with pytest.raises(CasUnavailable):
            await connect(server, outage_tolerance=ONE_TRY_MORE).download_file(LARGE_DIGEST, tmp_path / "f")


async def test_an_upload_whose_beginning_was_lost_begins_anew(connect: Connect) -> None:
    stream = BreakingByteStream(cuts=(2_000_000,))
    stream.forget = True
    with closing(RemoteServer(bytestream=stream)) as server:
        server.start()
        assert await connect(server).upload_blobs([LARGE]) == [LARGE_DIGEST]
    assert list(stream.finished.values()) == [LARGE]
    # How many attempts there were in between is gRPC's matter: a stream that is refused early may break off.
    assert stream.write_offsets[0] == 0
    assert 0 in stream.write_offsets[1:]
    assert digest_key(LARGE_DIGEST) in next(iter(stream.finished))
