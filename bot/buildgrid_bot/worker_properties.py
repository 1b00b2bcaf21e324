"""What a bot says of itself when it opens a session."""

import platform
from collections.abc import Mapping, Sequence

from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2

# Told to the server, but not matched: they are properties of the worker, not of its first device.
CAPACITY_CLASS = "capacity-class"
SANDBOX = "sandbox"
ROOT = "root"

_ISA = {"x86_64": "x86-64", "amd64": "x86-64", "arm64": "aarch64"}


def default_properties() -> dict[str, str]:
    """OSFamily and ISA of this machine, in the words that clients use."""
    machine = platform.machine().lower()
    return {"OSFamily": platform.system().lower(), "ISA": _ISA.get(machine, machine)}


def parse_properties(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs from `KEY=VALUE`; a key may come more than once. Raises ValueError for anything else."""
    pairs = []
    for text in texts:
        key, separator, value = text.partition("=")
        if not key or not separator:
            raise ValueError(f"{text!r} is not KEY=VALUE, for example OSFamily=linux")
        pairs.append((key, value))
    return pairs


def with_defaults(pairs: Sequence[tuple[str, str]], defaults: Mapping[str, str]) -> list[tuple[str, str]]:
    """The pairs, and each default whose key they do not have."""
    given = {key for key, _ in pairs}
    return [*pairs, *((key, value) for key, value in defaults.items() if key not in given)]


def describe(
    bot_id: str,
    version: str,
    slots: int,
    properties: Sequence[tuple[str, str]],
    worker_properties: Sequence[tuple[str, str]],
) -> bots_pb2.BotSession:
    """The session without its name, status and leases. `properties` are matched against jobs."""
    session = bots_pb2.BotSession(bot_id=bot_id, version=version)
    device = session.worker.devices.add(handle="primary")
    for key, value in properties:
        device.properties.add(key=key, value=value)
    for key, value in worker_properties:
        session.worker.properties.add(key=key, value=value)
    session.worker.configs.add(key="capacity", value=str(slots))
    session.worker.configs.add(key="long-poll", value="always")
    # Of a call that is held the server hears at once when the bot is killed.
    session.worker.configs.add(key="long-poll-full", value="always")
    return session
