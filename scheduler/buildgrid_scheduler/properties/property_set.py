"""The interface of property sets."""

from typing import Protocol

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession

UNKNOWN_LABEL = "unknown"
MAX_COMBINATIONS = 4096
"""requirements of one bot that `worker_properties` lists at most"""


class PropertySet(Protocol):
    """Turns platform properties of actions into requirements, and those of bots into what they offer."""

    def execution_properties(self, platform: Platform) -> tuple[str, dict[str, list[str]]]:
        """The label of a job with this platform, and its match properties: key -> sorted values.

        Raises FailedPrecondition, naming the property, when the platform cannot be met by any bot.
        """
        ...

    def worker_properties(self, bot_session: BotSession) -> list[dict[str, list[str]]]:
        """Every requirement that the bot meets, as jobs would state it.

        Raises FailedPrecondition when that would be too many to list.
        """
        ...


def device_pairs(bot_session: BotSession) -> frozenset[tuple[str, str]]:
    """The (key, value) pairs of the bot's first, primary device (RWAPI, Worker.devices)."""
    if not bot_session.worker.devices:
        return frozenset()
    return frozenset((p.key, p.value) for p in bot_session.worker.devices[0].properties)
