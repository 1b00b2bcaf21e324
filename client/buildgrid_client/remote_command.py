"""A command with everything it needs, run on the farm: the door for tools that have no build system of their
own.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import grpc
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Command,
    Digest,
    ExecutedActionMetadata,
    Platform,
)
from google.protobuf.timestamp_pb2 import Timestamp

from buildgrid_client.cas import CasClient
from buildgrid_client.digests import digest_key, digest_of, parse_digest
from buildgrid_client.execution import ExecutionClient, OutageCallback, StageCallback
from buildgrid_client.execution_errors import ExecutionFailed
from buildgrid_client.outputs import write_outputs
from buildgrid_client.tree import Input, InputTree, RemoteFile, build_tree, split_path

# Blobs can be evicted between upload and use, but hardly more often than this.
_UPLOAD_ROUNDS = 3


@dataclass(frozen=True)
class RemoteCommand:
    """What to run. Nothing but what is named here reaches the command: no other file, no other variable.

    `inputs` maps paths in the tree to what is there (see `build_tree`). `output_paths` (files, directories or
    symlinks) are relative to `working_directory`, which is relative to the root of the tree. `platform` holds
    what the bot must offer, as pairs, because a property may have several values. `salt` makes actions differ
    that are otherwise the same. `mnemonic` and `target` are for people who look at the queue, and not part of
    the action.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, Input] = field(default_factory=dict)
    output_paths: Sequence[str] = ()
    platform: Iterable[tuple[str, str]] = ()
    timeout: timedelta | None = None
    do_not_cache: bool = False
    working_directory: str = ""
    salt: bytes = b""
    mnemonic: str = ""
    target: str = ""


@dataclass(frozen=True)
class PreparedAction:
    """An action with its digest and the blobs it consists of."""

    digest: Digest
    tree: InputTree
    # Action and Command, by `HASH/SIZE`.
    messages: dict[str, bytes]


@dataclass(frozen=True)
class CommandResult:
    """How a command ended, and where its outputs are."""

    action_digest: Digest
    exit_code: int
    stdout: bytes
    stderr: bytes
    # Nothing was run: the action cache had the result.
    cached: bool
    action_result: ActionResult
    # Text from the server for people, for example where to browse the action.
    message: str = ""

    @property
    def metadata(self) -> ExecutedActionMetadata:
        """When and where the action ran; for a cached result, when it ran first."""
        return self.action_result.execution_metadata

    @property
    def queued(self) -> timedelta:
        """How long the action waited for a bot."""
        return _between(self.metadata.queued_timestamp, self.metadata.worker_start_timestamp)

    @property
    def executed(self) -> timedelta:
        """How long the command itself ran."""
        return _between(self.metadata.execution_start_timestamp, self.metadata.execution_completed_timestamp)

    @property
    def output_names(self) -> list[str]:
        """The output paths that the action produced, sorted."""
        result = self.action_result
        paths = [file.path for file in result.output_files]
        paths += [directory.path for directory in result.output_directories]
        paths += [link.path for link in result.output_symlinks]
        return sorted(set(paths))

    def output_file(self, path: str) -> RemoteFile:
        """An output file, as the input of another action. Raises KeyError when the command did not produce
        it.
        """
        for file in self.action_result.output_files:
            if file.path == path:
                return RemoteFile(file.digest, file.is_executable)
        raise KeyError(
            f"{path!r} is not among the output files: {', '.join(self.output_names) or 'there are none'}"
        )


def prepare_action(command: RemoteCommand) -> PreparedAction:
    """The Action of a command. Reads and hashes the inputs; raises what `build_tree` raises, and ValueError
    for an empty command and for output paths that lead out of the tree.
    """
    if not command.arguments:
        raise ValueError("a command needs at least one argument: the program")
    tree = build_tree(command.inputs)
    platform = Platform()
    for name, value in sorted(set(command.platform)):
        platform.properties.add(name=name, value=value)
    message = Command(
        arguments=command.arguments,
        output_paths=sorted({"/".join(split_path(path)) for path in command.output_paths}),
        working_directory="/".join(split_path(command.working_directory)),
        platform=platform,
    )
    for name, value in sorted(command.environment.items()):
        message.environment_variables.add(name=name, value=value)
    command_blob = message.SerializeToString(deterministic=True)
    action = Action(
        command_digest=digest_of(command_blob),
        input_root_digest=tree.root_digest,
        do_not_cache=command.do_not_cache,
        salt=command.salt,
        # Both places: servers before API 2.2 read the one in the Command.
        platform=platform,
    )
    if command.timeout is not None:
        action.timeout.FromTimedelta(command.timeout)
    action_blob = action.SerializeToString(deterministic=True)
    messages = {digest_key(digest_of(blob)): blob for blob in (command_blob, action_blob)}
    return PreparedAction(digest_of(action_blob), tree, messages)


class RemoteRunner:
    """Runs commands: uploads what the CAS lacks, executes, and brings back what the command said."""

    def __init__(self, cas: CasClient, execution: ExecutionClient) -> None:
        self._cas = cas
        self._execution = execution

    async def run(
        self,
        command: RemoteCommand,
        *,
        skip_cache_lookup: bool = False,
        priority: int = 0,
        on_stage: StageCallback | None = None,
        on_outage: OutageCallback | None = None,
    ) -> CommandResult:
        """Run it and wait for its end; any exit code is a result.

        Raises ValueError and OSError for inputs (see `prepare_action`), ExecutionFailed when the action could
        not be run to its end, and the errors of the CAS client.
        """
        prepared = await asyncio.to_thread(prepare_action, command)
        for attempt in range(_UPLOAD_ROUNDS):
            await self._upload(prepared)
            try:
                response = await self._execution.execute(
                    prepared.digest,
                    skip_cache_lookup=skip_cache_lookup,
                    priority=priority,
                    mnemonic=command.mnemonic,
                    target=command.target,
                    on_stage=on_stage,
                    on_outage=on_outage,
                )
                break
            except ExecutionFailed as error:
                # What the client holds it can upload again; the rest only an earlier action could make again.
                ours = {*prepared.messages, *prepared.tree.blobs, *prepared.tree.files}
                if attempt == _UPLOAD_ROUNDS - 1 or not error.missing or not ours.issuperset(error.missing):
                    raise
        result = response.result
        stdout, stderr = await self._said(result)
        return CommandResult(
            action_digest=prepared.digest,
            exit_code=result.exit_code,
            stdout=stdout,
            stderr=stderr,
            cached=response.cached_result,
            action_result=result,
            message=response.message,
        )

    async def write_outputs(self, result: CommandResult, folder: Path) -> list[Path]:
        """Write the outputs below `folder`; returns the files and symlinks written. See
        `outputs.write_outputs`.
        """
        return await write_outputs(result.action_result, folder, self._cas)

    async def _upload(self, prepared: PreparedAction) -> None:
        tree = prepared.tree
        if gone := await self._cas.find_missing(map(parse_digest, tree.remote)):
            raise ExecutionFailed(
                grpc.StatusCode.FAILED_PRECONDITION,
                "inputs that are outputs of earlier actions are gone from the CAS; run those actions again",
                missing=sorted(gone),
            )
        await self._cas.upload_files(tree.files)
        await self._cas.upload_blobs([*prepared.messages.values(), *tree.blobs.values()])

    async def _said(self, result: ActionResult) -> tuple[bytes, bytes]:
        raw = [result.stdout_raw, result.stderr_raw]
        digests = [result.stdout_digest, result.stderr_digest]
        wanted = [digest for data, digest in zip(raw, digests, strict=True) if not data and digest.size_bytes]
        blobs = await self._cas.read_blobs(wanted) if wanted else {}
        stdout, stderr = (
            data or blobs.get(digest_key(digest), b"") for data, digest in zip(raw, digests, strict=True)
        )
        return stdout, stderr


def _between(start: Timestamp, end: Timestamp) -> timedelta:
    """Zero when one of the two was not reported, or the clocks of two machines disagree."""
    if not (start.ByteSize() and end.ByteSize()):
        return timedelta()
    return max(end.ToDatetime() - start.ToDatetime(), timedelta())
