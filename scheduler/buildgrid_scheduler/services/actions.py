"""Actions as Execute needs them: read from the CAS, checked, and remembered for a while."""

from collections import OrderedDict
from dataclasses import dataclass

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    Command,
    Digest,
    Platform,
)
from google.protobuf.message import DecodeError

from buildgrid_scheduler.core.errors import InvalidArgument, MissingBlobs
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.input_tree_check import InputTreeCheck
from buildgrid_scheduler.services.limits import MAX_ACTION_BYTES, MAX_COMMAND_BYTES
from buildgrid_scheduler.storage.abc import StorageABC, check_digest

_REMEMBERED = 4096  # commands; most actions of a build differ, but retries and clients repeat them
_LONGEST_COMMAND = 1000  # characters kept for people to recognise it by


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """An action that can be queued."""

    action: Action
    serialized: bytes
    command_line: str
    platform: Platform


class ActionReader:
    """Used from the event loop; reads on the executor's threads."""

    def __init__(self, storage: StorageABC, blocking: Blocking) -> None:
        self._storage = storage
        self._blocking = blocking
        self._commands: OrderedDict[str, tuple[str, Platform]] = OrderedDict()
        self._inputs = InputTreeCheck(storage, blocking)

    async def read(self, digest: Digest, *, check_input_tree: bool = False) -> ActionSpec:
        """The action, and of its command what matters here.

        MissingBlobs when either is not in the CAS, InvalidArgument when either cannot be parsed. With
        `check_input_tree`, one that cannot be queued for want of its command is told all that it lacks.
        """
        check_digest(digest)
        if digest.size_bytes > MAX_ACTION_BYTES:
            raise InvalidArgument(
                f"action_digest: {digest_key(digest)} is larger than any Action may be here "
                f"({MAX_ACTION_BYTES} bytes)"
            )
        serialized = self._storage.read_recent(digest)
        if serialized is None:
            serialized = await self._blocking(self._read_action, digest)
        action = _parse_action(digest, serialized)
        key = digest_key(action.command_digest)
        command = self._commands.get(key)
        if command is None:
            try:
                command = await self._blocking(self._read_command, action.command_digest)
            except MissingBlobs:
                if check_input_tree:
                    await self.check_inputs(action)
                raise
            self._commands[key] = command
            while len(self._commands) > _REMEMBERED:
                self._commands.popitem(last=False)
        command_line, command_platform = command
        platform = action.platform if action.HasField("platform") else command_platform
        return ActionSpec(action, serialized, command_line, platform)

    async def check_inputs(self, action: Action) -> None:
        """Returns when the command and the whole input tree are in the CAS.

        Raises MissingBlobs with all that is missing, InvalidArgument for a malformed tree.
        """
        await self._inputs.check(action.command_digest, action.input_root_digest)

    def _read_action(self, digest: Digest) -> bytes:
        serialized = self._storage.read_one(digest)
        if serialized is None:
            key = digest_key(digest)
            raise MissingBlobs(f"action {key} is not in the CAS; upload it and execute again", [key])
        return serialized

    # A command that was evicted from the CAS after it was remembered is not missed here, but by the bot.
    def _read_command(self, digest: Digest) -> tuple[str, Platform]:
        key = digest_key(digest)
        if digest.size_bytes > MAX_COMMAND_BYTES:
            raise InvalidArgument(
                f"command_digest: {key} is larger than any Command may be here ({MAX_COMMAND_BYTES} bytes)"
            )
        serialized = self._storage.read_one(digest)
        if serialized is None:
            raise MissingBlobs(f"command {key} is not in the CAS; upload it and execute again", [key])
        command = Command()
        try:
            command.ParseFromString(serialized)
        except DecodeError as error:
            raise InvalidArgument(f"command_digest: blob {key} is not a Command") from error
        if not command.arguments:
            raise InvalidArgument(f"command {key}: arguments is empty; name the program to run")
        return " ".join(command.arguments)[:_LONGEST_COMMAND].replace("\0", " "), command.platform


def _parse_action(digest: Digest, serialized: bytes) -> Action:
    action = Action()
    try:
        action.ParseFromString(serialized)
    except DecodeError as error:
        raise InvalidArgument(f"action_digest: blob {digest_key(digest)} is not an Action") from error
    for field in ("command_digest", "input_root_digest"):
        if not action.HasField(field):
            raise InvalidArgument(f"action {digest_key(digest)}: {field} is not set")
    check_digest(action.input_root_digest)
    check_digest(action.command_digest)
    return action
