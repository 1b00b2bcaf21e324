"""While a command waits for a bot: says so, and gives up in time."""

import argparse
import asyncio
import sys
from types import TracebackType

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ExecuteOperationMetadata,
    ExecutionStage,
)

NOTICE_S = 10.0
"""Seconds of waiting after which that is said, once each time."""


class NoBotError(Exception):
    """No bot took the action within --wait; the message names the remedy."""


class QueueWatch:
    """A context manager around what may wait. With `--wait` it is cancelled when that is over: NoBotError."""

    def __init__(self, args: argparse.Namespace) -> None:
        """`args`: endpoint, instance, property, and wait (a timedelta, or None for as long as it takes)."""
        self._args = args
        self._task: asyncio.Task[object] | None = None
        self._notice: asyncio.TimerHandle | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._gave_up = False
        self._queued = self._taken = self._paused = self._told = False

    def __enter__(self) -> "QueueWatch":
        self._task = asyncio.current_task()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop(self._notice, self._limit)
        if self._gave_up and isinstance(error, asyncio.CancelledError) and self._task is not None:
            self._task.uncancel()
            raise NoBotError(
                f"no bot has taken it within --wait {self._args.wait.total_seconds():g}; it is cancelled. "
                f"{'The server does not answer.' if self._paused else self._remedy()}"
            ) from None

    def on_stage(self, stage: ExecutionStage.Value.ValueType, _told: ExecuteOperationMetadata) -> None:
        """The server told of a change."""
        self._stop(self._notice)
        self._queued = stage == ExecutionStage.QUEUED
        if not self._queued:
            self._taken = True
            self._stop(self._limit)
            return
        self._told = False
        self._notice = asyncio.get_running_loop().call_later(NOTICE_S, self._tell)
        if self._args.wait is not None and self._limit is None and not self._taken:
            loop = asyncio.get_running_loop()
            self._limit = loop.call_later(self._args.wait.total_seconds(), self._give_up)

    def pause(self) -> None:
        """The server does not answer: what it waits for is not known."""
        self._paused = True
        self._stop(self._notice)

    def resume(self) -> None:
        """It answers again."""
        self._paused = False
        if self._queued and not self._told:
            self._stop(self._notice)
            self._notice = asyncio.get_running_loop().call_later(NOTICE_S, self._tell)

    def _give_up(self) -> None:
        if self._task is not None:
            self._gave_up = True
            self._task.cancel()

    def _tell(self) -> None:
        self._told = True
        print(f"execute: waiting for a bot{self._offer()}: {self._remedy()}", file=sys.stderr)

    def _offer(self) -> str:
        offered = "".join(f" {name}={value}" for name, value in self._args.property)
        return f" that offers{offered}" if offered else ""

    def _remedy(self) -> str:
        """A client may not ask what bots there are (REAPI): both is said that may be the matter."""
        flags = "".join(f" --property {name}={value}" for name, value in self._args.property)
        instance = f" --instance {self._args.instance}" if self._args.instance else ""
        start = f"buildgrid-bot run --endpoint {self._args.endpoint}{instance}{flags}"
        return f"all of them are busy, or there is none. To start one: {start}"

    @staticmethod
    def _stop(*timers: asyncio.TimerHandle | None) -> None:
        for timer in timers:
            if timer is not None:
                timer.cancel()
