"""One action from its lease to its result: fetch, run, collect, upload."""

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import grpc
from buildgrid_client.cas import CasClient
from buildgrid_client.digests import digest_key, digest_of, digest_of_message
from buildgrid_client.errors import ClientError
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Command,
    ExecutedActionMetadata,
)
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from buildgrid_bot import process
from buildgrid_bot.cache import FileCache, Placement
from buildgrid_bot.errors import ActionError, InputsDisturbed, InvalidAction, blames_cas, status_of
from buildgrid_bot.input_tree import SmallBlobs, flatten, read_directories
from buildgrid_bot.inputs import InputFetcher, stage
from buildgrid_bot.log_streams import FollowedOutput, LogStreams
from buildgrid_bot.mount_points import uses_own_tmp
from buildgrid_bot.outputs import Collected, collect, declared_outputs
from buildgrid_bot.paths import parents_to_create, resolve
from buildgrid_bot.removal import remove_tree
from buildgrid_bot.sandbox import Sandbox, wanted_user, wants_network
from buildgrid_bot.stats import add_statistics, stamp, statistics_blob, statistics_of
from buildgrid_bot.stream_names import StreamNames
from buildgrid_bot.threads import in_thread

_log = logging.getLogger(__name__)

# Between SIGTERM and SIGKILL, in seconds: a compiler needs none, a test runner some to write its report.
KILL_GRACE = 5.0

Running = Callable[[ExecutedActionMetadata], None]


@dataclass(frozen=True)
class Outcome:
    """What a lease ends with.

    A failed status may come with a result: the output of a command that timed out.
    """

    status: Status = field(default_factory=Status)
    result: ActionResult | None = None


@dataclass(frozen=True)
class _Workspace:
    """An action's directories: `root` holds the inputs, the others are beside it."""

    base: Path
    followed: FollowedOutput | None = None

    @classmethod
    def followed_by(
        cls, base: Path, log_streams: LogStreams | None, lease_id: str, names: StreamNames | None
    ) -> "_Workspace":
        """With streams for its output, where there is a service and the lease has names."""
        plain = cls(base)
        if log_streams is None or names is None:
            return plain
        return cls(base, log_streams.follow(lease_id, names, plain.stdout, plain.stderr))

    @property
    def root(self) -> Path:
        return self.base / "root"

    @property
    def private_tmp(self) -> Path:
        return self.base / "tmp"

    @property
    def stdout(self) -> Path:
        return self.base / "stdout"

    @property
    def stderr(self) -> Path:
        return self.base / "stderr"

    def create(self) -> None:
        for path in (self.root, self.private_tmp):
            path.mkdir(parents=True)
        # Like /tmp everywhere.
        self.private_tmp.chmod(0o1777)


class ActionRunner:
    """Runs actions; any number up to `slots` at once. `bot_id` is the worker in results.

    `work_directory` should be on the file system of the cache, so that files can be linked. `log_streams`:
    where output is written while commands run; None: nowhere.
    """

    def __init__(
        self,
        cas: CasClient,
        cache: FileCache,
        sandbox: Sandbox,
        work_directory: Path,
        *,
        bot_id: str,
        slots: int,
        kill_grace: float = KILL_GRACE,
        log_streams: LogStreams | None = None,
        used_cas: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """`used_cas`: told of each action that ended whether the CAS did what was wanted of it."""
        self._used_cas = used_cas
        self._cas = cas
        self._cache = cache
        self._sandbox = sandbox
        self._work = work_directory
        self._bot_id = bot_id
        self._kill_grace = kill_grace
        self._log_streams = log_streams
        self._blobs = SmallBlobs(cas)
        self._fetcher = InputFetcher(cas, cache)
        self._waiters = ThreadPoolExecutor(slots, "wait-for-command")
        self._serial = 0
        if sandbox.bwrap is not None:
            process.adopt_orphans()
        if self._work.exists():
            remove_tree(self._work)  # of a run that was killed
        self._work.mkdir(parents=True)

    def close(self) -> None:
        """Ends the threads; no action may be running."""
        self._waiters.shutdown()

    async def run(
        self, lease_id: str, action: Action, running: Running, streams: StreamNames | None = None
    ) -> Outcome:
        """Runs the action to its end. `running` is called with what is known so far when the command starts.

        `streams`: where its output is to be read meanwhile. They are finished whatever becomes of the action.

        Failures are outcomes, not exceptions. When cancelled, the command is stopped (SIGTERM, later SIGKILL)
        and the cancellation goes on.
        """
        began = time.monotonic()
        metadata = ExecutedActionMetadata(worker=self._bot_id)
        stamp(metadata.worker_start_timestamp)
        self._serial += 1
        # Not the lease's id, which comes from outside and may come twice.
        base = self._work / str(self._serial)
        workspace = _Workspace.followed_by(base, self._log_streams, lease_id, streams)
        disk_full = False
        try:
            outcome = await self._run(action, workspace, metadata, running)
        except asyncio.CancelledError:
            _log.info("action %s lease %s stopped", _short(action), lease_id)
            raise
        except Exception as error:  # noqa: BLE001 - whatever went wrong becomes the lease's status
            if not isinstance(error, ActionError | ClientError | OSError):
                _log.exception("action %s lease %s", _short(action), lease_id)
            self._used_cas(not blames_cas(error))
            disk_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            outcome = Outcome(status_of(error))
        else:
            self._used_cas(True)
        finally:
            if workspace.followed is not None:
                workspace.followed.end()
            await in_thread(remove_tree, workspace.base)
        if disk_full:
            # Others share the disk, so that the cache's bound does not keep it from filling up. With all that
            # no action needs out of the way, the next ones may do better.
            await in_thread(self._cache.make_room)
        exit_code = "-" if outcome.result is None else outcome.result.exit_code
        _log.info(
            "action %s lease %s exit %s status %d seconds %.3f%s",
            _short(action),
            lease_id,
            exit_code,
            outcome.status.code,
            time.monotonic() - began,
            f" ({outcome.status.message})" if outcome.status.code else "",
        )
        return outcome

    async def _run(
        self, action: Action, workspace: _Workspace, metadata: ExecutedActionMetadata, running: Running
    ) -> Outcome:
        stamp(metadata.input_fetch_start_timestamp)
        await in_thread(workspace.create)
        # The root directory comes in the same call as the command.
        blobs = await self._blobs.read([action.command_digest, action.input_root_digest])
        command = _parse_command(blobs[digest_key(action.command_digest)])
        working_directory = resolve("", command.working_directory, "working directory")
        outputs = declared_outputs(command)
        directories = await read_directories(self._blobs, action.input_root_digest)
        tree = await in_thread(flatten, directories, action.input_root_digest)
        del directories  # not needed while the command runs
        parents = parents_to_create(
            [output.root_path for output in outputs],
            [output.root_path for output in outputs if output.kind == "directory"],
            working_directory,
        )
        linked: list[Placement] = []
        with self._cache.pinned(file.digest for file in tree.files):
            try:
                chroot = self._sandbox.chroot
                await stage(self._fetcher, self._cache, tree, workspace.root, parents, linked, chroot=chroot)
                stamp(metadata.input_fetch_completed_timestamp)
                exit_ = await self._execute(action, command, working_directory, workspace, metadata, running)
                collected = await in_thread(
                    collect, workspace.root, command, workspace.stdout, workspace.stderr, chroot=chroot
                )
                collected.result.exit_code = exit_.code
                await self._upload(collected, exit_, metadata)
            finally:
                disturbed = await in_thread(self._cache.release, linked)
        if disturbed:
            raise InputsDisturbed(f"another action changed the input {disturbed[0]} while this one held it")
        stamp(metadata.worker_completed_timestamp)
        collected.result.execution_metadata.CopyFrom(metadata)
        status = Status()
        if exit_.timed_out:
            status.code = grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
            status.message = f"the command ran for longer than its timeout of {_seconds(action):g} s"
        return Outcome(status, collected.result)

    async def _execute(
        self,
        action: Action,
        command: Command,
        working_directory: str,
        workspace: _Workspace,
        metadata: ExecutedActionMetadata,
        running: Running,
    ) -> process.Exit:
        platform = action.platform if action.HasField("platform") else command.platform
        places = [working_directory, *(output.root_path for output in declared_outputs(command))]
        own_tmp = self._sandbox.chroot and uses_own_tmp(workspace.root, places)
        launch = self._sandbox.launch(
            root=workspace.root,
            working_directory=working_directory,
            private_tmp=None if own_tmp else workspace.private_tmp,
            arguments=command.arguments,
            environment={item.name: item.value for item in command.environment_variables},
            network=wants_network(platform),
            user=wanted_user(platform),
        )
        stamp(metadata.execution_start_timestamp)
        running(metadata)
        began = time.monotonic()
        if workspace.followed is not None:
            workspace.followed.begin()
        started = await process.started(
            self._waiters, launch, self._sandbox.bwrap, workspace.stdout, workspace.stderr
        )
        if isinstance(started, int):
            exit_ = process.Exit(started, None)
        else:
            exit_ = await started.wait(self._waiters, _seconds(action) or None, self._kill_grace)
            if self._sandbox.bwrap is None and os.getpid() == 1:
                await in_thread(process.reap_orphans)
        if workspace.followed is not None:
            workspace.followed.end()  # now, and not when all is uploaded
        if launch.mount_points is not None:
            await in_thread(launch.mount_points.remove)
        stamp(metadata.execution_completed_timestamp)
        metadata.virtual_execution_duration.FromTimedelta(timedelta(seconds=time.monotonic() - began))
        return exit_

    async def _upload(
        self, collected: Collected, exit_: process.Exit, metadata: ExecutedActionMetadata
    ) -> None:
        stamp(metadata.output_upload_start_timestamp)
        if exit_.usage is not None:
            statistics = statistics_blob(statistics_of(exit_.usage))
            collected.blobs.append(statistics)
            add_statistics(metadata, digest_of(statistics))
        await self._cas.upload(collected.blobs, collected.files)
        stamp(metadata.output_upload_completed_timestamp)


def _parse_command(blob: bytes) -> Command:
    try:
        command = Command.FromString(blob)
    except DecodeError as error:
        raise InvalidAction("the blob named by command_digest is not a Command") from error
    if not command.arguments or not command.arguments[0]:
        raise InvalidAction("the command has no arguments")
    texts = [*command.arguments]
    for item in command.environment_variables:
        if not item.name or "=" in item.name:
            raise InvalidAction(f"environment variable {item.name!r} has an impossible name")
        texts += [item.name, item.value]
    if any("\0" in text for text in texts):
        raise InvalidAction("an argument or environment variable contains a NUL byte")
    return command


def _seconds(action: Action) -> float:
    return action.timeout.ToTimedelta().total_seconds() if action.HasField("timeout") else 0.0


def _short(action: Action) -> str:
    return digest_of_message(action).hash[:12]
