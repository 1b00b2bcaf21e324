"""One output of a command, written to one log stream while the command runs.

The output is a file that grows, and the file is the only buffer: however far the service lags behind,
nothing but a chunk is in memory, the command never waits, and a broken stream goes on from wherever the
service says. What has been written is at any time a beginning of the output, byte by byte.
"""

import asyncio
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import grpc
from buildgrid_client.retries import retry_delay
from buildgrid_protos.google.bytestream.bytestream_pb2 import (
    QueryWriteStatusRequest,
    QueryWriteStatusResponse,
    WriteRequest,
)
from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamStub

from buildgrid_bot.threads import in_thread

CHUNK_BYTES = 256 << 10
# How often a file is looked at while nothing comes: what people who watch do not notice. One fstat(2) each.
POLL_SECONDS = 0.1
# A service that refuses all streams of all slots is not asked more often than this.
FIRST_RETRY_SECONDS = 0.5
HEALTHY_SECONDS = 10.0
"""A call that was open for so long was no outage, though a quiet command wrote nothing in it."""
# For how long a service may answer that it is not available. While it does not answer at all, a stream waits
# as long as its command runs.
OUTAGE_TOLERANCE = 300.0


class NotStreamed(Exception):
    """Not all of the output has been written to the stream, and it will not be. The message says why."""


class OutputFile:
    """A file that something else appends to. It stays readable when it is removed, until `close`."""

    def __init__(self, path: Path) -> None:
        """Makes the file if need be, as the one who writes it would. Raises OSError."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)

    def more_than(self, offset: int) -> bool:
        """Whether there is anything behind the offset. A command may also have cut its output short."""
        return os.fstat(self._fd).st_size > offset

    def read(self, offset: int) -> bytes:
        """A chunk from the offset on; less than CHUNK_BYTES at the end of the file only."""
        return os.pread(self._fd, CHUNK_BYTES, offset)

    def close(self) -> None:
        """The file may be forgotten."""
        os.close(self._fd)


class Place(NamedTuple):
    """Where to go on with a stream; `finished`: there is nothing to go on with."""

    offset: int
    finished: bool = False


def place_after(status: QueryWriteStatusResponse, sent: int, *, finish_sent: bool) -> Place:
    """Where a broken stream goes on, of which `sent` bytes were sent at most.

    Bytes that are committed cannot be written again, and nothing can follow the end of a finished stream
    (Remote Log Stream API, Writing LogStreams). Raises NotStreamed where somebody else has written.
    """
    if status.committed_size > sent:
        raise NotStreamed(f"the service has {status.committed_size} bytes of the {sent} that were sent")
    if status.complete and not (finish_sent and status.committed_size == sent):
        raise NotStreamed(f"the service finished the stream after {status.committed_size} bytes")
    return Place(status.committed_size, status.complete)


class StreamWriter:
    """Writes `output` to the stream called `name`. None as the output: the stream is only finished."""

    def __init__(self, channel: grpc.aio.Channel, name: str, output: OutputFile | None) -> None:
        self._stub = ByteStreamStub(channel)
        self._name = name
        self._output = output
        self._ended = output is None
        self._cut = False
        self._wake = asyncio.Event()
        self._sent = 0
        self._finish_sent = False
        self._committed = 0

    def end(self) -> None:
        """The command is gone: what the file holds now is all of the output."""
        self._ended = True
        self._wake.set()

    def cut(self) -> None:
        """Finish the stream where it is."""
        self._cut = True
        self._wake.set()

    async def run(self) -> None:
        """Returns once the service has all of the output, and knows that it is all.

        Raises NotStreamed when that will never be. It never returns before `end` or `cut`.
        """
        attempt = 0
        since = 0.0
        while True:
            committed, writing_since = self._committed, math.inf
            try:
                place = await self._place()
                writing_since = time.monotonic()
                if place.finished or await self._write(place.offset):
                    break
                code, reason = grpc.StatusCode.UNAVAILABLE, "the service ended the call before the output"
            except grpc.aio.AioRpcError as error:
                code, reason = error.code(), self._described(error)
            lasted = time.monotonic() - writing_since >= HEALTHY_SECONDS
            if attempt == 0 or self._committed > committed or lasted:
                attempt, since = 0, time.monotonic()
            attempt += 1
            delay = retry_delay(code, attempt, time.monotonic() - since, OUTAGE_TOLERANCE)
            if delay is None:
                raise NotStreamed(reason)
            await asyncio.sleep(max(delay, FIRST_RETRY_SECONDS))
        if self._cut and self._output is not None and self._output.more_than(self._sent):
            raise NotStreamed(f"the service was too slow: the stream ends after {self._sent} bytes")

    async def _place(self) -> Place:
        if not self._sent and not self._finish_sent:
            return Place(0)
        request = QueryWriteStatusRequest(resource_name=self._name)
        try:
            status = await self._stub.QueryWriteStatus(request, wait_for_ready=True)
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            status = QueryWriteStatusResponse()  # nothing of it has arrived
        self._committed = status.committed_size
        return place_after(status, self._sent, finish_sent=self._finish_sent)

    async def _write(self, offset: int) -> bool:
        """One call. False when the service ends it in order, but has not taken everything."""
        call = self._stub.Write(wait_for_ready=True)
        name = self._name
        finish = False
        try:
            while not finish and not call.done():
                self._wake.clear()
                # Asked first: what is written before the end is found by the read that follows.
                ended = self._ended
                data = await self._read(offset)
                finish = self._cut or (ended and len(data) < CHUNK_BYTES)
                if not data and not finish:
                    await self._pause()
                    continue
                request = WriteRequest(
                    resource_name=name, write_offset=offset, data=data, finish_write=finish
                )
                # REAPI: the name is needed only in the first message.
                name = ""
                offset += len(data)
                # Noted before it is done: when the call breaks, it may have arrived or not.
                self._sent = max(self._sent, offset)
                self._finish_sent |= finish
                try:
                    await call.write(request)
                except asyncio.InvalidStateError:
                    break  # the call has ended meanwhile; how, comes next
            with suppress(Exception):  # of gRPC's inside, where the call has ended; how, comes next
                await call.done_writing()
            response = await call
        finally:
            call.cancel()
        # The last message may have come too late for a call that the service ended.
        return finish and response.committed_size == offset

    async def _read(self, offset: int) -> bytes:
        if self._cut or self._output is None or not self._output.more_than(offset):
            return b""
        return await in_thread(self._output.read, offset)

    async def _pause(self) -> None:
        """Until there may be more."""
        try:
            await asyncio.wait_for(self._wake.wait(), POLL_SECONDS)
        except TimeoutError:
            return

    def _described(self, error: grpc.aio.AioRpcError) -> str:
        """Servers like to repeat the name, which is a secret."""
        details = (error.details() or "").replace(self._name, "(the stream)")
        return f"{error.code().name}: {details}"
