"""Execute with `scheduler.check_input_tree`: what clients are told whose inputs are not (all) there."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from buildgrid_client.cas import CasClient
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Command,
    Digest,
    Directory,
)
from google.rpc import error_details_pb2, status_pb2

from tests.farm.clients import QUEUED, WITHIN, Client, response_of, stage_of
from tests.farm.database import Databases, drop_database
from tests.farm.input_trees import bomb, chain, directory, packed, wide
from tests.farm.replica import Replica
from tests.farm.waiting import eventually

pytestmark = pytest.mark.xdist_group("checked-inputs")
Code = grpc.StatusCode
COMMAND = Command(arguments=["true"]).SerializeToString()
INPUTS = 100_000
RELOADED = "buildgrid_config_last_reload_success_timestamp_seconds"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checking")


@pytest.fixture(scope="module")
def replica(databases: Databases, folder: Path) -> Iterator[Replica]:
    url = databases.create()
    replica = Replica(folder, url, scheduler={"check_input_tree": True}, reload={"interval": "200ms"})
    yield replica.start()
    replica.close()
    drop_database(url)


class Builder:
    """A client that uploads what it is told to upload, and no more."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.client = Client(channel)
        self._cas = CasClient(channel)

    async def upload(self, *blobs: bytes) -> None:
        await self._cas.upload_blobs(blobs)

    async def action(self, root: bytes, *, name: str = "", command: bytes = COMMAND) -> Digest:
        """An action with this input root; of what it needs only itself is uploaded."""
        action = Action(
            command_digest=digest_of(command), input_root_digest=digest_of(root), salt=name.encode()
        )
        (digest,) = await self.client.upload(action.SerializeToString())
        return digest

    async def refusal(self, action: Digest) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.client.execute(action).next()
        return raised.value

    async def missing(self, action: Digest) -> set[str]:
        """The keys in the violations of a refused Execute."""
        error = await self.refusal(action)
        assert error.code() is Code.FAILED_PRECONDITION
        trailers = dict(error.trailing_metadata())
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        failure = error_details_pb2.PreconditionFailure()
        assert status.details[0].Unpack(failure)
        assert {violation.type for violation in failure.violations} == {"MISSING"}
        assert all(violation.subject.startswith("blobs/") for violation in failure.violations)
        return {violation.subject.removeprefix("blobs/") for violation in failure.violations}

    async def queue(self, action: Digest) -> None:
        """Asks for an action that must be queued."""
        execution = self.client.execute(action)
        assert stage_of(await execution.next()) == QUEUED
        await self.client.cancel(execution.name)


@pytest.fixture
async def builder(replica: Replica) -> AsyncIterator[Builder]:
    async with replica.open_channel() as channel:
        yield Builder(channel)


def keys(*blobs: bytes) -> set[str]:
    return {digest_key(digest_of(blob)) for blob in blobs}


async def test_command_and_inputs_that_are_missing_are_named_together_until_nothing_is(
    builder: Builder,
) -> None:
    gone = packed(directory({"deepest": digest_of(b"deepest")}))
    *middle, top = chain(60, directory({"deep": digest_of(b"deep")}, {"gone": digest_of(gone)}))
    root = packed(directory({"near": digest_of(b"near")}, {"top": digest_of(top)}))
    command = Command(arguments=["nobody-uploaded-this"]).SerializeToString()
    action = await builder.action(root, command=command)

    assert await builder.missing(action) == keys(command, root)
    await builder.upload(root, top, *middle)
    assert await builder.missing(action) == keys(command, b"near", b"deep", gone)
    await builder.upload(command, b"near", b"deep", gone)
    assert await builder.missing(action) == keys(b"deepest")
    await builder.upload(b"deepest")
    await builder.queue(action)


async def test_an_action_with_a_result_needs_no_inputs_unless_the_result_is_refused(
    builder: Builder,
) -> None:
    root = packed(directory({"never-uploaded": digest_of(b"never uploaded")}))
    await builder.upload(COMMAND)
    action = await builder.action(root, name="cached")
    await builder.client.store(action, ActionResult(exit_code=0, stdout_raw=b"hello"))

    operation = await builder.client.execute(action).next()
    assert response_of(operation).result.stdout_raw == b"hello"
    assert response_of(operation).cached_result

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await builder.client.execute(action, skip_cache_lookup=True).next()
    assert raised.value.code() is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (directory({"..": digest_of(b"x")}), "'..'"),
        (directory({"a/b": digest_of(b"x")}), "'a/b'"),
        (directory({"twice": digest_of(b"x")}, symlinks={"twice": "t"}), "'twice'"),
        (directory({"negative": Digest(hash="a" * 64, size_bytes=-7)}), "-7"),
        (directory(symlinks={"nowhere": ""}), "'nowhere'"),
    ],
    ids=["parent", "two segments", "twice", "negative size", "no target"],
)
async def test_a_malformed_directory_is_named_with_its_entry(
    builder: Builder, bad: Directory, problem: str
) -> None:
    blob = packed(bad)
    root = packed(directory(directories={"bad": digest_of(blob)}))
    await builder.upload(COMMAND, blob, root)
    error = await builder.refusal(await builder.action(root))
    assert error.code() is Code.INVALID_ARGUMENT
    assert digest_of(blob).hash in str(error.details()) and problem in str(error.details())


async def test_symlinks_may_lead_anywhere(builder: Builder) -> None:
    links = {"absolute": "/usr/lib", "above": "../../..", "circle": "circle", "dangling": "no/where"}
    root = packed(directory(symlinks=links))
    await builder.upload(COMMAND, root)
    await builder.queue(await builder.action(root))


async def test_two_thousand_levels_and_a_billion_paths_are_walked(builder: Builder) -> None:
    leaf = directory({"x": digest_of(b"x")})
    for blobs in (chain(2000, leaf), bomb(30, leaf)):
        await builder.upload(COMMAND, *blobs, b"x")
        await builder.queue(await builder.action(blobs[-1]))


async def test_a_hundred_thousand_inputs_are_looked_at_while_others_are_served(builder: Builder) -> None:
    contents = [str(number).encode() for number in range(200)]
    shared = [digest_of(content) for content in contents]
    present = wide(((f"file-{n}", shared[n % 200]) for n in range(INPUTS)), folders=100)
    lacking = wide(
        ((f"file-{n}", Digest(hash=f"{n:064x}", size_bytes=7)) for n in range(INPUTS)), folders=100
    )
    await builder.upload(COMMAND, *contents, *present, *lacking)
    whole, partial = await builder.action(present[-1]), await builder.action(lacking[-1])

    execution = builder.client.execute(whole)
    refusal = asyncio.create_task(builder.refusal(partial))
    # Others get their answers meanwhile.
    small = await builder.action(b"")
    await builder.queue(small)
    assert stage_of(await execution.next(within=60)) == QUEUED
    async with asyncio.timeout(60):
        error = await refusal
    assert error.code() is Code.FAILED_PRECONDITION
    assert f"{INPUTS} input blobs" in str(error.details())


async def test_the_setting_may_be_changed_while_the_server_runs(
    replica: Replica, folder: Path, builder: Builder
) -> None:
    root = packed(directory({"unknown": digest_of(b"unknown to the CAS")}))
    await builder.upload(COMMAND, root)
    action = await builder.action(root)
    assert await builder.missing(action) == keys(b"unknown to the CAS")

    config = folder / "config.yaml"
    checking = config.read_text()
    reloaded = replica.metric(RELOADED)
    config.write_text(checking.replace("check_input_tree: true", "check_input_tree: false"))
    await eventually(lambda: replica.metric(RELOADED) != reloaded, WITHIN, replica.describe)
    await builder.queue(action)

    reloaded = replica.metric(RELOADED)
    config.write_text(checking)
    await eventually(lambda: replica.metric(RELOADED) != reloaded, WITHIN, replica.describe)
    assert await builder.missing(action) == keys(b"unknown to the CAS")
