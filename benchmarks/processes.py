"""The two load processes: one with all clients, one with all bots, each steered over a pipe."""

import asyncio
import contextlib
import multiprocessing
import signal
from collections.abc import Callable, Coroutine, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import grpc.aio

from benchmarks.bots import Bots
from benchmarks.channels import describe
from benchmarks.clients import Clients
from benchmarks.options import LoadOptions, Window
from benchmarks.tallies import Failed, Ready

_STOP_WITHIN = 5

T = TypeVar("T")
Body = Callable[["Connection[Any, Any]", LoadOptions], Coroutine[None, None, None]]


class LoadError(Exception):
    """The load could not be made; says why."""


class LoadProcess:
    """A load process, seen from the one that steers it."""

    def __init__(self, process: BaseProcess, pipe: "Connection[Any, Any]") -> None:
        self._process = process
        self._pipe = pipe

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def tell(self, message: Window | None) -> None:
        self._pipe.send(message)

    def expect(self, kind: type[T]) -> T:
        """Waits for its next message. Raises LoadError when it gave up or died."""
        try:
            message = self._pipe.recv()
        except EOFError:
            raise LoadError(f"the process of the {self._process.name} died") from None
        if isinstance(message, Failed):
            raise LoadError(f"{self._process.name}: {message.reason}")
        assert isinstance(message, kind)
        return message


@contextlib.contextmanager
def load_process(name: str, body: Body, options: LoadOptions) -> Iterator[LoadProcess]:
    """Runs `body` in a fresh interpreter, and ends it with the context."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(body, theirs, options), name=name, daemon=True)
    process.start()
    theirs.close()
    try:
        yield LoadProcess(process, ours)
    finally:
        ours.close()
        process.join(_STOP_WITHIN)
        if process.is_alive():
            process.kill()
            process.join()


async def run_clients(pipe: "Connection[Any, Any]", options: LoadOptions) -> None:
    """Uploads the actions, is ready, is told the window, answers with its tally."""
    clients = Clients(options)
    await clients.prepare()
    pipe.send(Ready())
    window = await asyncio.to_thread(pipe.recv)
    pipe.send(await clients.run(window))


async def run_bots(pipe: "Connection[Any, Any]", options: LoadOptions) -> None:
    """Opens the sessions, is ready, works until told None, answers with its tally."""
    bots = Bots(options)
    await bots.start()
    pipe.send(Ready())
    await asyncio.to_thread(pipe.recv)
    pipe.send(await bots.stop())


def _run(body: Body, pipe: "Connection[Any, Any]", options: LoadOptions) -> None:
    # An interrupt at the terminal reaches all processes; the steering one decides and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        asyncio.run(body(pipe, options))
    except (EOFError, BrokenPipeError):
        return  # nobody waits for the answer any more
    except grpc.aio.AioRpcError as error:
        pipe.send(Failed(describe(error)))
    except RuntimeError as error:
        pipe.send(Failed(str(error)))
