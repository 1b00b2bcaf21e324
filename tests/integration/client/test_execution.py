"""An action is followed to its end, whatever happens to its stream."""

import asyncio
from collections.abc import Iterator

import grpc
import grpc.aio
import pytest
from buildgrid_client.digests import digest_of
from buildgrid_client.execution import ExecutionClient
from buildgrid_client.execution_errors import ExecutionFailed
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    ExecuteOperationMetadata,
    ExecuteResponse,
    ExecutionStage,
)
from google.rpc.status_pb2 import Status

from tests.integration.client.fake_farm import OPERATION, Abort, FakeFarm, done, missing_status, stage

ACTION = digest_of(b"an action")
QUEUED = stage(ExecutionStage.QUEUED)
LOST = Abort(grpc.StatusCode.UNAVAILABLE, "going away")
GONE = Abort(grpc.StatusCode.NOT_FOUND, "no such operation")


def ticking(*seconds: float) -> Iterator[float]:
    """A clock that shows these times and then stands still."""
    yield from seconds
    while True:
        yield seconds[-1]


async def test_stages_are_told_once_each_and_the_response_comes_back(
    farm: FakeFarm, channel: grpc.aio.Channel
) -> None:
    response = ExecuteResponse(result=ActionResult(exit_code=3))
    farm.script = [[QUEUED, QUEUED, stage(ExecutionStage.EXECUTING), done(response)]]
    stages = []

    def on_stage(value: ExecutionStage.Value.ValueType, told: ExecuteOperationMetadata) -> None:
        stages.append(value)

    answer = await ExecutionClient(channel).execute(ACTION, on_stage=on_stage)
    assert answer == response
    assert stages == [ExecutionStage.QUEUED, ExecutionStage.EXECUTING, ExecutionStage.COMPLETED]


async def test_the_request_says_who_asks_for_what(farm: FakeFarm, channel: grpc.aio.Channel) -> None:
    farm.script = [[QUEUED, LOST], [done()]]
    client = ExecutionClient(
        channel, "main", tool_name="mytool", tool_version="1.2", correlated_invocations_id="ci-7"
    )
    await client.execute(ACTION, skip_cache_lookup=True, priority=-5, mnemonic="Compile", target="a.c")
    execute, wait = farm.calls
    assert execute.request.instance_name == "main"  # type: ignore[union-attr]
    assert execute.request.skip_cache_lookup  # type: ignore[union-attr]
    assert execute.request.execution_policy.priority == -5  # type: ignore[union-attr]
    assert wait.request.name == OPERATION  # type: ignore[union-attr]
    for metadata in (execute.metadata, wait.metadata):
        assert (metadata.tool_details.tool_name, metadata.tool_details.tool_version) == ("mytool", "1.2")
        assert metadata.tool_invocation_id == client.invocation_id
        assert metadata.correlated_invocations_id == "ci-7"
        assert (metadata.action_id, metadata.action_mnemonic) == (ACTION.hash, "Compile")
        assert metadata.target_id == "a.c"


@pytest.mark.parametrize("end", [[LOST], []], ids=["unavailable", "ended without an error"])
async def test_a_stream_lost_midway_is_picked_up(
    farm: FakeFarm, channel: grpc.aio.Channel, end: list[Abort]
) -> None:
    farm.script = [[QUEUED, *end], [stage(ExecutionStage.EXECUTING), *end], [done()]]
    await ExecutionClient(channel).execute(ACTION)
    assert farm.methods == ["Execute", "WaitExecution", "WaitExecution"]


async def test_a_stream_lost_before_its_first_word_is_asked_for_again(
    farm: FakeFarm, channel: grpc.aio.Channel
) -> None:
    farm.script = [[LOST], [done()]]
    await ExecutionClient(channel).execute(ACTION)
    assert farm.methods == ["Execute", "Execute"]


async def test_an_operation_that_is_gone_is_executed_again(farm: FakeFarm, channel: grpc.aio.Channel) -> None:
    farm.script = [[QUEUED, LOST], [GONE], [stage(ExecutionStage.QUEUED, "main/op-2"), LOST], [done()]]
    await ExecutionClient(channel).execute(ACTION)
    assert farm.methods == ["Execute", "WaitExecution", "Execute", "WaitExecution"]
    assert farm.calls[-1].request.name == "main/op-2"  # type: ignore[union-attr]


async def test_a_server_that_forgets_every_operation_is_given_up(
    farm: FakeFarm, channel: grpc.aio.Channel
) -> None:
    farm.script = [[QUEUED], [GONE]] * 20
    with pytest.raises(ExecutionFailed, match="vanished after 10 attempts; do the replicas") as caught:
        await ExecutionClient(channel).execute(ACTION)
    assert caught.value.code is grpc.StatusCode.ABORTED


async def test_an_outage_longer_than_the_tolerance_is_an_error(
    farm: FakeFarm, channel: grpc.aio.Channel
) -> None:
    farm.script = [[QUEUED, LOST], [LOST], [LOST]]
    clock = ticking(0.0, 59.0, 61.0)
    client = ExecutionClient(channel, outage_tolerance=60.0, clock=lambda: next(clock))
    with pytest.raises(ExecutionFailed, match=r"no word of operation 'main/op-1' for 61 s; last: going away"):
        await client.execute(ACTION)
    assert farm.methods == ["Execute", "WaitExecution", "WaitExecution"]


async def test_any_word_from_the_server_ends_an_outage(farm: FakeFarm, channel: grpc.aio.Channel) -> None:
    farm.script = [[QUEUED, LOST], [LOST], [QUEUED, LOST], [LOST], [done()]]
    clock = ticking(0.0, 50.0, 100.0, 150.0)
    client = ExecutionClient(channel, outage_tolerance=60.0, clock=lambda: next(clock))
    await client.execute(ACTION)


async def test_missing_blobs_of_a_refused_call_are_named(farm: FakeFarm, channel: grpc.aio.Channel) -> None:
    refused = Abort(grpc.StatusCode.FAILED_PRECONDITION, "short", missing_status("aa/1", "bb/2"))
    farm.script = [[refused]]
    with pytest.raises(ExecutionFailed, match=r"inputs are missing \(not in the CAS: aa/1, bb/2\)") as caught:
        await ExecutionClient(channel).execute(ACTION)
    assert caught.value.missing == ("aa/1", "bb/2")


async def test_missing_blobs_of_a_finished_operation_are_named(
    farm: FakeFarm, channel: grpc.aio.Channel
) -> None:
    farm.script = [[QUEUED, done(ExecuteResponse(status=missing_status("aa/1")))]]
    with pytest.raises(ExecutionFailed) as caught:
        await ExecutionClient(channel).execute(ACTION)
    assert caught.value.missing == ("aa/1",)


async def test_a_failed_status_keeps_the_output_there_is(farm: FakeFarm, channel: grpc.aio.Channel) -> None:
    response = ExecuteResponse(
        result=ActionResult(stdout_raw=b"half"), status=Status(code=4, message="ran into its timeout")
    )
    farm.script = [[done(response)]]
    with pytest.raises(ExecutionFailed, match="DEADLINE_EXCEEDED: ran into its timeout") as caught:
        await ExecutionClient(channel).execute(ACTION)
    assert caught.value.response is not None
    assert caught.value.response.result.stdout_raw == b"half"


async def test_an_operation_that_is_done_with_an_error_fails(
    farm: FakeFarm, channel: grpc.aio.Channel
) -> None:
    operation = stage(ExecutionStage.COMPLETED)
    operation.done = True
    operation.error.CopyFrom(Status(code=1, message="cancelled by an administrator"))
    farm.script = [[operation]]
    with pytest.raises(ExecutionFailed, match="CANCELLED: cancelled by an administrator"):
        await ExecutionClient(channel).execute(ACTION)


async def test_an_answer_that_is_no_response_is_an_error(farm: FakeFarm, channel: grpc.aio.Channel) -> None:
    operation = stage(ExecutionStage.COMPLETED)
    operation.done = True
    farm.script = [[operation]]
    with pytest.raises(ExecutionFailed, match="done with a nothing in it"):
        await ExecutionClient(channel).execute(ACTION)


async def test_a_caller_who_is_cancelled_cancels_the_operation(
    farm: FakeFarm, channel: grpc.aio.Channel
) -> None:
    never, queued = asyncio.Event(), asyncio.Event()
    farm.script = [[QUEUED, never]]
    running = asyncio.create_task(ExecutionClient(channel).execute(ACTION, on_stage=lambda *_: queued.set()))
    await queued.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert farm.cancelled == [OPERATION]
