"""How a server is: what it holds, and whether it still works for those who behave."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from tests.farm.bots import Bot, completed
from tests.farm.clients import Client
from tests.farm.waiting import eventually
from tests.integration.server.server_process import Server

WITHIN = 30.0
_MORE_FILES = 5
"""Connections to the database that it opens when first it needs them, and keeps."""


@dataclass(frozen=True)
class Vitals:
    """What a server holds."""

    open_files: int
    held_calls: float
    watched_jobs: float
    running_calls: float

    @staticmethod
    def of(server: Server) -> "Vitals":
        """As it is now."""
        families = server.families()
        return Vitals(
            open_files=len(list(Path(f"/proc/{server.pid}/fd").iterdir())),
            held_calls=families["buildgrid_held_bot_calls"].samples[0].value,
            watched_jobs=families["buildgrid_watched_jobs"].samples[0].value,
            running_calls=sum(sample.value for sample in families["buildgrid_rpcs_running"].samples),
        )


def resident_bytes(server: Server) -> int:
    """The memory that it uses."""
    for line in (Path("/proc") / str(server.pid) / "status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


async def works(channel: grpc.aio.Channel) -> None:
    """A good client's action is run by a good bot, whatever goes on beside it."""
    pool = {"Pool": str(uuid.uuid4())}
    client, bot = Client(channel), Bot(channel, "", f"good-{pool['Pool']}", properties=pool)
    execution = await client.queue(await client.add_action("good", platform=pool))
    await bot.update(completed(await bot.take_lease()))
    assert (await execution.response()).status.code == 0


async def until(server: Server, reached: Callable[[Vitals], bool]) -> None:
    """Return when the vitals are as they should be."""
    await eventually(
        lambda: reached(Vitals.of(server)), WITHIN, lambda: f"{Vitals.of(server)}\n{server.describe()}"
    )


async def recovered(server: Server, before: Vitals) -> None:
    """Return when nothing is left of what was done to it; nothing of that was a fault of its own."""

    def same(now: Vitals) -> bool:
        return (
            now.open_files <= before.open_files + _MORE_FILES
            and now.held_calls <= before.held_calls
            and now.watched_jobs <= before.watched_jobs
            and now.running_calls <= before.running_calls
        )

    await until(server, same)
    assert "Traceback" not in server.log, server.describe()
    assert " ERROR " not in server.log, server.describe()
