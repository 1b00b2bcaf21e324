"""A farm small enough to see through: Bots, CAS and ByteStream in the test's own event loop.

It hands leases out as the real server does (long polls included), remembers every update, and can be told
to end sessions, lose calls, and go away.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from buildgrid_client.digests import digest_key, digest_of, digest_of_message
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from buildgrid_protos.google.bytestream import bytestream_pb2, bytestream_pb2_grpc
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2, bots_pb2_grpc
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

Context = grpc.aio.ServicerContext[Any, Any]


class FakeCas(re_grpc.ContentAddressableStorageServicer, bytestream_pb2_grpc.ByteStreamServicer):
    """Blobs in a dict. `failures` is how many calls still fail as UNAVAILABLE; calls wait for `open`.

    `refusal`: what all are answered with.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.failures = 0
        self.refusal: grpc.StatusCode | None = None
        self.cut_reads_after: int | None = None
        self.called = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    def put(self, content: bytes | Message) -> re_pb2.Digest:
        data = content if isinstance(content, bytes) else content.SerializeToString(deterministic=True)
        digest = digest_of(data)
        self.blobs[digest_key(digest)] = data
        return digest

    def get(self, digest: re_pb2.Digest) -> bytes:
        return self.blobs[digest_key(digest)]

    async def _enter(self, name: str, context: Context) -> None:
        self.calls.append(name)
        self.called.set()
        await self.open.wait()
        if self.refusal is not None:
            await context.abort(self.refusal, "as the test wants it")
        if self.failures:
            self.failures -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the fake is away")

    async def FindMissingBlobs(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        await self._enter("FindMissingBlobs", context)
        missing = [digest for digest in request.blob_digests if digest_key(digest) not in self.blobs]
        return re_pb2.FindMissingBlobsResponse(missing_blob_digests=missing)

    async def BatchReadBlobs(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        await self._enter("BatchReadBlobs", context)
        response = re_pb2.BatchReadBlobsResponse()
        for digest in request.digests:
            data = self.blobs.get(digest_key(digest))
            status = Status() if data is not None else Status(code=5)
            response.responses.add(digest=digest, data=data or b"", status=status)
        assert response.ByteSize() <= 4 << 20
        return response

    async def BatchUpdateBlobs(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        await self._enter("BatchUpdateBlobs", context)
        assert request.ByteSize() <= 4 << 20
        response = re_pb2.BatchUpdateBlobsResponse()
        for item in request.requests:
            ok = digest_of(item.data) == item.digest
            if ok:
                self.blobs[digest_key(item.digest)] = item.data
            response.responses.add(digest=item.digest, status=Status(code=0 if ok else 3))
        return response

    async def Read(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        await self._enter("Read", context)
        data = self.blobs.get(request.resource_name.split("blobs/", 1)[1])
        if data is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such blob")
            return
        sent = request.read_offset
        while sent < len(data):
            chunk = data[sent : sent + (1 << 20)]
            yield bytestream_pb2.ReadResponse(data=chunk)
            sent += len(chunk)
            if self.cut_reads_after is not None and sent >= self.cut_reads_after:
                self.cut_reads_after = None
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")

    async def Write(self, request_iterator: AsyncIterator[bytestream_pb2.WriteRequest], context):  # type: ignore[no-untyped-def]  # noqa: N802
        await self._enter("Write", context)
        name, data = "", bytearray()
        async for request in request_iterator:
            name = name or request.resource_name
            assert request.write_offset == len(data)
            data += request.data
        key = name.split("blobs/", 1)[1]
        if digest_key(digest_of(bytes(data))) != key:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "other bytes")
        self.blobs[key] = bytes(data)
        return bytestream_pb2.WriteResponse(committed_size=len(data))

    async def QueryWriteStatus(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        await context.abort(grpc.StatusCode.NOT_FOUND, "uploads are not resumed here")

    GetTree = SplitBlob = SpliceBlob = GetChunkMapping = RegisterChunkMapping = None  # type: ignore[assignment]


@dataclass
class Job:
    """A lease and how far it is; `done` is the lease as it was reported in the end."""

    lease: bots_pb2.Lease
    sent: bool = False
    reported: list[int] = field(default_factory=list)
    done: bots_pb2.Lease | None = None
    partial: bytes | None = None


class FakeBots(bots_pb2_grpc.BotsServicer):
    """Jobs go to whatever session polls. Every change is announced on `changed`.

    `streams`: the names to write standard output and error to, by lease, told beside each answer.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Condition()
        self.jobs: dict[str, Job] = {}
        self.session_name = ""
        self.sessions = 0
        self.updates: list[bots_pb2.BotSession] = []
        self.held = 0
        self.codes: list[grpc.StatusCode] = []
        self.details = "as the test wants it"
        self.refusals = 0
        self.refusal: tuple[grpc.StatusCode, str] | None = None
        self.streams: dict[str, tuple[str, str]] = {}

    async def CreateBotSession(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        if self.refusal is not None:
            async with self.changed:
                self.refusals += 1
                self.changed.notify_all()
            await context.abort(*self.refusal)
        self.sessions += 1
        self.session_name = f"session-{self.sessions}"
        return await self._answer(request.bot_session, context)

    async def UpdateBotSession(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        if self.codes:
            await context.abort(self.codes.pop(0), self.details)
        if request.name != self.session_name:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such session")
        for key, value in context.invocation_metadata():
            if key.startswith("partial-execution-metadata-"):
                lease_id = key.removeprefix("partial-execution-metadata-").removesuffix("-bin")
                self.jobs[lease_id].partial = value
        return await self._answer(request.bot_session, context)

    async def PostBotEventTemp(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "")

    async def _answer(self, session: bots_pb2.BotSession, context: Context) -> bots_pb2.BotSession:
        capacity = next(int(c.value) for c in session.worker.configs if c.key == "capacity")
        held = [lease.id for lease in session.leases if lease.state != bots_pb2.COMPLETED]
        async with self.changed:
            self.updates.append(session)
            for lease in session.leases:
                job = self.jobs[lease.id]
                job.reported.append(lease.state)
                if lease.state == bots_pb2.COMPLETED and job.done is None:
                    job.done = lease
                elif job.lease.state != bots_pb2.CANCELLED:
                    job.lease.state = lease.state
            for job in self.jobs.values():
                # The answer that brought it was lost: the lease is sent again.
                unknown = job.lease.id not in [lease.id for lease in session.leases]
                if job.sent and unknown and job.lease.state == bots_pb2.PENDING and job.done is None:
                    job.sent = False
            self.changed.notify_all()
            free = capacity - len(held)
            deadline = time.monotonic() + 0.8 * (context.time_remaining() or 60.0)
            name = self.session_name

            def something_to_say() -> bool:
                return (
                    self.session_name != name
                    or bool(self._waiting())
                    or any(self.jobs[id_].lease.state == bots_pb2.CANCELLED for id_ in held)
                )

            if session.status == bots_pb2.OK and free > 0 and deadline - time.monotonic() > 2.5:
                self.held += 1
                self.changed.notify_all()
                try:
                    await asyncio.wait_for(
                        self.changed.wait_for(something_to_say), deadline - time.monotonic()
                    )
                except TimeoutError:
                    pass
                finally:
                    self.held -= 1
            if self.session_name != name:
                await context.abort(grpc.StatusCode.DATA_LOSS, "the session was closed")
            answer = bots_pb2.BotSession(name=name, bot_id=session.bot_id, status=session.status)
            answer.leases.extend(self.jobs[id_].lease for id_ in held)
            if session.status == bots_pb2.OK:
                for job in self._waiting()[:free]:
                    job.sent = True
                    answer.leases.append(job.lease)
            context.set_trailing_metadata(self._trailers(answer))
            return answer

    def _trailers(self, answer: bots_pb2.BotSession) -> tuple[tuple[str, bytes], ...]:
        trailers = []
        for lease in answer.leases:
            stdout, stderr = self.streams.get(lease.id, ("", ""))
            metadata = re_pb2.ExecuteOperationMetadata(
                action_digest=digest_of(self.jobs[lease.id].lease.payload.value),
                stdout_stream_name=stdout,
                stderr_stream_name=stderr,
            )
            trailers.append(("executeoperationmetadata-bin", metadata.SerializeToString()))
        return tuple(trailers)

    def _waiting(self) -> list[Job]:
        return [job for job in self.jobs.values() if not job.sent]


class FakeFarm:
    """The three services behind one port that stays the same over `stop` and `start`."""

    def __init__(self) -> None:
        self.cas = FakeCas()
        self.bots = FakeBots()
        self.port = 0
        self._server: grpc.aio.Server | None = None
        self._serial = 0

    @property
    def endpoint(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        bots_pb2_grpc.add_BotsServicer_to_server(self.bots, self._server)
        re_grpc.add_ContentAddressableStorageServicer_to_server(self.cas, self._server)
        bytestream_pb2_grpc.add_ByteStreamServicer_to_server(self.cas, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def submit(self, action: re_pb2.Action, streams: tuple[str, str] | None = None) -> Job:
        self._serial += 1
        lease = bots_pb2.Lease(id=f"job-{self._serial}", state=bots_pb2.PENDING)
        if streams is not None:
            self.bots.streams[lease.id] = streams
        lease.payload.Pack(action)
        return await self.submit_lease(lease)

    async def submit_lease(self, lease: bots_pb2.Lease) -> Job:
        job = Job(lease)
        async with self.bots.changed:
            self.bots.jobs[lease.id] = job
            self.bots.changed.notify_all()
        return job

    async def cancel(self, job: Job) -> None:
        async with self.bots.changed:
            job.lease.state = bots_pb2.CANCELLED
            self.bots.changed.notify_all()

    async def close_session(self) -> None:
        """As if the session had expired: the poll under way ends with DATA_LOSS."""
        async with self.bots.changed:
            self.bots.session_name = "closed"
            self.bots.changed.notify_all()

    async def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        async with self.bots.changed:
            await asyncio.wait_for(self.bots.changed.wait_for(condition), seconds)

    async def finished(self, job: Job) -> bots_pb2.Lease:
        await self.until(lambda: job.done is not None)
        assert job.done is not None
        return job.done

    async def active(self, job: Job) -> None:
        await self.until(lambda: bots_pb2.ACTIVE in job.reported)

    def action(
        self,
        arguments: list[str],
        *,
        files: dict[str, bytes | str] | None = None,
        executables: frozenset[str] = frozenset(),
        symlinks: dict[str, str] | None = None,
        outputs: list[str] | None = None,
        environment: dict[str, str] | None = None,
        working_directory: str = "",
        timeout: float | None = None,
        platform: dict[str, str] | None = None,
        command: re_pb2.Command | None = None,
    ) -> re_pb2.Action:
        """An action whose blobs are all in the CAS."""
        if command is None:
            command = re_pb2.Command()
        command.arguments.extend(arguments)
        command.output_paths.extend(outputs or [])
        command.working_directory = working_directory
        for name, value in (environment or {"PATH": "/usr/bin:/bin"}).items():
            command.environment_variables.add(name=name, value=value)
        action = re_pb2.Action(
            command_digest=self.cas.put(command),
            input_root_digest=self.tree(files or {}, symlinks or {}, executables),
        )
        for name, value in (platform or {}).items():
            action.platform.properties.add(name=name, value=value)
        if timeout is not None:
            action.timeout.FromMilliseconds(round(timeout * 1000))
        return action

    def shell(self, script: str, **more: object) -> re_pb2.Action:
        return self.action(["/bin/sh", "-c", script], **more)  # type: ignore[arg-type]

    def tree(
        self, files: dict[str, bytes | str], symlinks: dict[str, str], executables: frozenset[str]
    ) -> re_pb2.Digest:
        root: dict[str, Any] = {}
        for path, content in [*files.items(), *symlinks.items()]:
            *parents, name = path.split("/")
            node = root
            for parent in parents:
                node = node.setdefault(parent, {})
            node[name] = (content, path)

        def store(node: dict[str, Any]) -> re_pb2.Digest:
            directory = re_pb2.Directory()
            for name in sorted(node):
                if isinstance(node[name], dict):
                    directory.directories.add(name=name, digest=store(node[name]))
                    continue
                content, path = node[name]
                if path in symlinks:
                    directory.symlinks.add(name=name, target=content)
                else:
                    data = content.encode() if isinstance(content, str) else content
                    directory.files.add(
                        name=name, digest=self.cas.put(data), is_executable=path in executables
                    )
            return self.cas.put(directory)

        return store(root)


def result_of(lease: bots_pb2.Lease) -> re_pb2.ActionResult:
    result = re_pb2.ActionResult()
    assert lease.result.Unpack(result)
    return result


__all__ = ["FakeFarm", "Job", "digest_of_message", "result_of"]
