"""Clients that ask for the same action, priorities, the action cache, cancelling."""

import grpc
import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    Digest,
    OutputFile,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import CANCELLED, PENDING
from google.rpc import code_pb2

from tests.farm.bots import Bot, action_hash, active, cancelled, completed
from tests.farm.clients import COMPLETED, EXECUTING, QUEUED, Client, response_of, stage_of
from tests.integration.scheduler.conftest import Farm

pytestmark = pytest.mark.xdist_group("scheduler-farm")


async def order_of(bot: Bot, number: int) -> list[str]:
    """The actions of the next leases, in the order in which one slot gets them."""
    actions = []
    lease = await bot.take_lease()
    for _ in range(number):
        actions.append(action_hash(lease))
        told = await bot.update(completed(lease))
        if told:
            (lease,) = told
    assert not told
    return actions


async def test_an_operation_goes_through_its_stages_and_carries_the_result(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot("the-bot")
    digest = await client.add_action("stages")
    execution = await client.queue(digest)
    lease = await bot.take_lease()
    await execution.until(EXECUTING)
    await bot.update(active(lease))
    await bot.update(completed(lease))
    response = await execution.response()
    assert execution.stages == [QUEUED, EXECUTING, COMPLETED]
    assert execution.name.startswith(f"{farm.tenant}/")
    assert response.result.stdout_raw == digest.hash.encode()
    assert response.result.execution_metadata.worker == "the-bot"
    assert not response.cached_result
    assert [response_of(await client.get(execution.name)), (await client.unfinished())] == [response, []]


@pytest.mark.parametrize("second", [False, True], ids=["same replica", "other replica"])
async def test_a_second_client_shares_a_waiting_or_running_job(farm: Farm, second: bool) -> None:
    one, two, bot = farm.client(), farm.client(second=second), farm.bot()
    digest = await one.add_action(f"shared-{second}")
    await two.add_action(f"shared-{second}")
    executions = [await one.queue(digest), await two.queue(digest)]
    lease = await bot.take_lease()
    executions.append(await two.queue(digest, skip_cache_lookup=True))
    assert stage_of(executions[2].told[0]) == EXECUTING
    assert len({execution.name for execution in executions}) == 3
    assert await bot.update(completed(lease)) == []
    for execution in executions:
        assert (await execution.response()).result.stdout_raw == digest.hash.encode()


async def test_do_not_cache_forbids_sharing_and_caching(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot(capacity=3)
    digest = await client.add_action("alone", do_not_cache=True)
    executions = [await client.queue(digest) for _ in range(2)]
    leases = await bot.open()
    assert len({lease.id for lease in leases}) == 2
    await bot.update(*map(completed, leases))
    for execution in executions:
        assert (await execution.response()).status.code == 0
    assert await client.cached(digest) is None
    again = await client.queue(digest)
    assert stage_of(again.told[0]) == QUEUED


async def test_a_cache_hit_is_born_complete(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    digest = await client.add_action("hit")
    first = await client.queue(digest)
    lease = await bot.take_lease()
    await bot.update(completed(lease))
    await first.response()
    elsewhere = farm.client(second=True)
    await elsewhere.add_action("hit")
    second = elsewhere.execute(digest)
    response = await second.response()
    assert response.cached_result
    assert response.result.stdout_raw == digest.hash.encode()
    assert second.stages == [COMPLETED]
    assert await bot.update() == []


async def test_skip_cache_lookup_runs_the_action_again_and_replaces_the_entry(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    digest = await client.add_action("refreshed")
    await client.store(digest, ActionResult(stdout_raw=b"old"))
    execution = await client.queue(digest, skip_cache_lookup=True)
    lease = await bot.take_lease()
    await bot.update(completed(lease, ActionResult(stdout_raw=b"new")))
    response = await execution.response()
    assert (response.result.stdout_raw, response.cached_result) == (b"new", False)
    cached = await client.cached(digest)
    assert cached is not None and cached.stdout_raw == b"new"


async def test_a_result_whose_output_is_missing_is_no_hit(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    digest = await client.add_action("evicted")
    output = OutputFile(path="out", digest=digest_of(b"evicted since"))
    await client.store(digest, ActionResult(output_files=[output]))
    execution = await client.queue(digest)
    assert stage_of(execution.told[0]) == QUEUED
    lease = await bot.take_lease()
    await client.upload(b"evicted since")
    await bot.update(completed(lease, ActionResult(output_files=[output])))
    assert not (await execution.response()).cached_result
    assert (await client.execute(digest).response()).cached_result


async def test_a_command_that_fails_is_a_result_that_is_not_cached(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    digest = await client.add_action("exit-1")
    execution = await client.queue(digest)
    await bot.update(completed(await bot.take_lease(), ActionResult(exit_code=1)))
    response = await execution.response()
    assert (response.status.code, response.result.exit_code) == (0, 1)
    assert await client.cached(digest) is None


async def test_lower_priorities_are_served_first_and_ties_go_to_the_older(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    wanted: dict[str, Digest] = {}
    for name, priority in (("late", 5), ("tie-1", 0), ("tie-2", 0), ("urgent", -3), ("later", 7)):
        wanted[name] = await client.add_action(name)
        await client.queue(wanted[name], priority=priority)
    names = {digest.hash: name for name, digest in wanted.items()}
    served = [names[hash_] for hash_ in await order_of(bot, 5)]
    assert served == ["urgent", "tie-1", "tie-2", "late", "later"]


async def test_a_more_urgent_client_pulls_a_shared_job_forward(farm: Farm) -> None:
    client, other, bot = farm.client(), farm.client(second=True), farm.bot()
    patient, usual = await client.add_action("patient"), await client.add_action("usual")
    await other.add_action("patient")
    await client.queue(patient, priority=10)
    await client.queue(usual, priority=5)
    await other.queue(patient, priority=20)  # less urgent: changes nothing
    await other.queue(patient, priority=1)
    assert await order_of(bot, 2) == [patient.hash, usual.hash]


async def test_a_retried_job_keeps_its_place(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    digests = await client.add_actions("place", 2)
    for digest in digests:
        await client.queue(digest)
    first = await bot.take_lease()
    # A new session of the bot: the job was never started, and waits again in its old place.
    bot.name = ""
    assert (await bot.take_lease()).id == first.id


async def test_cancelling_one_of_two_operations_leaves_the_job_to_the_other(farm: Farm) -> None:
    one, two, bot = farm.client(), farm.client(second=True), farm.bot()
    digest = await one.add_action("half-wanted")
    await two.add_action("half-wanted")
    first, second = await one.queue(digest), await two.queue(digest)
    lease = await bot.take_lease()
    await bot.update(active(lease))
    await two.cancel(first.name)  # through the other replica
    assert (await first.response(within=3)).status.code == code_pb2.CANCELLED
    gone = await one.get(first.name)
    assert gone.done and response_of(gone).status.code == code_pb2.CANCELLED
    assert stage_of(await two.get(second.name)) == EXECUTING
    (told,) = await bot.update(active(lease))
    assert told.state != CANCELLED
    await bot.update(completed(lease))
    assert (await second.response()).status.code == 0
    assert response_of(await one.get(first.name)).status.code == code_pb2.CANCELLED


async def test_cancelling_both_operations_stops_the_bot_and_frees_its_slot(farm: Farm) -> None:
    one, two, bot = farm.client(), farm.client(second=True), farm.bot()
    digest = await one.add_action("unwanted")
    await two.add_action("unwanted")
    first, second = await one.queue(digest), await two.queue(digest)
    lease = await bot.take_lease()
    await bot.update(active(lease))
    await one.cancel(first.name)
    await two.cancel(second.name)
    for execution in (first, second):
        assert (await execution.response(within=3)).status.code == code_pb2.CANCELLED
    (told,) = await bot.update(active(lease))
    assert (told.id, told.state) == (lease.id, CANCELLED)
    # A result that comes too late is discarded.
    assert await bot.update(completed(lease)) == []
    assert response_of(await one.get(first.name)).status.code == code_pb2.CANCELLED
    assert await one.cached(digest) is None
    await one.queue(await one.add_action("wanted"))
    assert (await bot.take_lease()).state == PENDING


async def test_a_cancelled_job_that_waited_is_never_handed_out(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    digest = await client.add_action("withdrawn")
    execution = await client.queue(digest)
    await client.cancel(execution.name)
    assert (await execution.response()).status.code == code_pb2.CANCELLED
    assert await bot.open() == []
    # Cancelling what is done changes nothing; asking again makes a new job.
    await client.cancel(execution.name)
    again = await client.queue(digest)
    await bot.update(completed(await bot.take_lease()))
    assert (await again.response()).status.code == 0
    assert response_of(await client.get(execution.name)).status.code == code_pb2.CANCELLED


async def test_a_bot_that_stopped_as_told_may_say_so(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    execution = await client.queue(await client.add_action("stopped"))
    lease = await bot.take_lease()
    await bot.update(active(lease))
    await client.cancel(execution.name)
    await bot.update(active(lease))
    assert await bot.update(cancelled(lease)) == []


async def test_a_client_that_goes_away_does_not_stop_its_action(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    digest = await client.add_action("left-alone")
    execution = await client.queue(digest)
    lease = await bot.take_lease()
    execution.hang_up()
    await bot.update(completed(lease))
    for way in (client, farm.client(second=True)):
        assert (await way.wait(execution.name).response()).result.stdout_raw == digest.hash.encode()


async def test_unfinished_operations_are_listed_for_their_instance_alone(farm: Farm) -> None:
    client = farm.client()
    names = [(await client.queue(digest)).name for digest in await client.add_actions("listed", 3)]
    await client.cancel(names[1])
    assert [operation.name for operation in await client.unfinished()] == [names[0], names[2]]
    stranger = Client(farm.channel(), "tenant/149")
    assert not {operation.name for operation in await stranger.unfinished()} & set(names)


async def test_an_operation_that_is_done_can_be_forgotten_and_no_other(farm: Farm) -> None:
    client = farm.client()
    execution = await client.queue(await client.add_action("forgotten"))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await client.delete(execution.name)
    assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    await client.cancel(execution.name)
    await client.delete(execution.name)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await client.get(execution.name)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
