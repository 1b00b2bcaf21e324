"""A network between client and server that loses everything from some moment on, and tells nobody."""

import asyncio
import contextlib
from types import TracebackType


class HalfOpenNetwork:
    """Forwards connections to a server. After `cut` they stay open, and nothing comes through."""

    def __init__(self, server: str) -> None:
        """`server`: HOST:PORT."""
        host, _, port = server.rpartition(":")
        self._server = host, int(port)
        self._flows = asyncio.Event()
        self._flows.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = ""
        self.closed_by_server = 0
        """connections that the server has given up"""
        self.connections = 0

    async def __aenter__(self) -> "HalfOpenNetwork":
        self._listening = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        host, port = self._listening.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listening.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listening.wait_closed()

    def cut(self) -> None:
        """From now on, nothing comes through."""
        self._flows.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        with contextlib.suppress(asyncio.CancelledError):
            await self._forward(reader, writer)
        self._tasks.discard(task)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._server)
        try:
            outgoing = asyncio.create_task(self._pump(reader, server_writer))
            try:
                await self._pump(server_reader, writer)
                self.closed_by_server += 1
                await self._flows.wait()
            finally:
                outgoing.cancel()
                await asyncio.gather(outgoing, return_exceptions=True)
        finally:
            server_writer.close()
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                if self._flows.is_set():  # otherwise it is lost
                    writer.write(data)
                    await writer.drain()
