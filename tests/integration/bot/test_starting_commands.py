"""A command that nobody wants any more by the time that it is started."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from buildgrid_bot import process
from buildgrid_bot.sandbox import Launch


async def test_a_command_that_is_started_while_the_caller_is_cancelled_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[process.Process] = []
    running, cancelled = threading.Event(), threading.Event()
    real_start = process.start

    def slow_start(launch: Launch, bwrap: str | None, stdout: Path, stderr: Path) -> process.Process | int:
        command = real_start(launch, bwrap, stdout, stderr)
        assert isinstance(command, process.Process)
        made.append(command)
        running.set()
        assert cancelled.wait(20)
        return command

    monkeypatch.setattr(process, "start", slow_start)
    launch = Launch(arguments=["/bin/sleep", "1000"], environment={}, directory=tmp_path)
    with ThreadPoolExecutor(2) as executor:
        starting = asyncio.create_task(
            process.started(executor, launch, None, tmp_path / "out", tmp_path / "err")
        )
        assert await asyncio.to_thread(running.wait, 20)
        for _ in range(2):  # the second one comes while the first waits
            starting.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
    with pytest.raises(ProcessLookupError):
        os.kill(made[0].pid, 0)
