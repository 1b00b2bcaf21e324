"""Attempts that fail, bots that vanish, bots with several slots."""

import asyncio
import time

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import (
    ACTIVE,
    BOT_TERMINATING,
    CANCELLED,
    OK,
    PENDING,
)
from google.rpc import code_pb2

from tests.farm.bots import HELD, Bot, active, cancelled, completed, failed
from tests.farm.clients import EXECUTING, QUEUED, stage_of
from tests.farm.waiting import gather_within
from tests.integration.scheduler.conftest import SHARED, Farm

pytestmark = pytest.mark.xdist_group("scheduler-farm")
KEEPALIVE = SHARED["bot_session_keepalive_timeout"]
REAPED_WITHIN = KEEPALIVE + 3
"""Seconds after the last call of a bot."""


async def test_a_failed_attempt_waits_again_but_not_in_the_answer_that_reports_it(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    digest = await client.add_action("flaky")
    execution = await client.queue(digest)
    lease = await bot.take_lease()
    assert await bot.update(failed(lease, grpc.StatusCode.INTERNAL, "disk full"), timeout=HELD) == []
    assert stage_of(await client.get(execution.name)) == QUEUED
    again = await bot.take_again()
    assert again.id == lease.id
    await bot.update(completed(again))
    response = await execution.response()
    assert (response.status.code, response.result.stdout_raw) == (0, digest.hash.encode())


async def test_a_failed_attempt_goes_to_another_bot_that_waits(farm: Farm) -> None:
    client, bot, other = farm.client(), farm.bot("failing"), farm.bot("other", second=True)
    await client.queue(await client.add_action("passed-on"))
    lease = await bot.take_lease()
    await other.open()
    waiting = asyncio.create_task(other.update(timeout=HELD))
    await farm.replicas[1].until_held(1)
    assert await bot.update(failed(lease, grpc.StatusCode.UNAVAILABLE)) == []
    (told,) = await asyncio.wait_for(waiting, 1)
    assert told.id == lease.id


async def test_at_the_limit_the_failure_of_the_last_attempt_is_the_answer(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    execution = await client.queue(await client.add_action("hopeless"))
    await bot.update(failed(await bot.take_lease(), grpc.StatusCode.INTERNAL, "the first"))
    await bot.update(failed(await bot.take_again(), grpc.StatusCode.INTERNAL, "the last"))
    response = await execution.response()
    assert (response.status.code, response.status.message) == (code_pb2.INTERNAL, "the last")
    assert await bot.update() == []


async def test_a_failure_that_is_the_actions_own_is_not_tried_again(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    execution = await client.queue(await client.add_action("too-slow"))
    lease = failed(await bot.take_lease(), grpc.StatusCode.DEADLINE_EXCEEDED, "after 5 s")
    lease.result.Pack(ActionResult(stdout_raw=b"so far"))
    await bot.update(lease)
    response = await execution.response()
    assert (response.status.code, response.status.message) == (code_pb2.DEADLINE_EXCEEDED, "after 5 s")
    assert response.result.stdout_raw == b"so far"


async def test_repeating_a_completion_changes_nothing(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    digests = await client.add_actions("repeated", 2)
    executions = [await client.queue(digest) for digest in digests]
    first = await bot.take_lease()
    (second,) = await bot.update(completed(first))
    # The answer was lost: the bot says the same again, and is told the same.
    (told,) = await bot.update(completed(first))
    assert (told.id, told.state) == (second.id, PENDING)
    await bot.update(completed(told))
    assert await bot.update(completed(told)) == []
    for execution, digest in zip(executions, digests, strict=True):
        assert (await execution.response()).result.stdout_raw == digest.hash.encode()


async def test_repeating_a_failure_counts_once_and_does_not_keep_the_job_from_the_bot(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    execution = await client.queue(await client.add_action("failed-once"))
    lease = await bot.take_lease()
    report = failed(lease, grpc.StatusCode.INTERNAL, "once")
    for _ in range(3):
        assert await bot.update(report) == []
    again = await bot.take_again()
    await bot.update(completed(again))
    assert (await execution.response()).status.code == 0


async def test_the_action_of_a_bot_that_is_gone_runs_again_elsewhere(farm: Farm) -> None:
    client, gone, other = farm.client(), farm.bot("gone"), farm.bot("other", second=True)
    execution = await client.queue(await client.add_action("orphaned"))
    lease = await gone.take_lease()
    await gone.update(active(lease))
    began = time.monotonic()
    told = await other.open(timeout=HELD)
    while not told:
        assert time.monotonic() - began < REAPED_WITHIN
        told = await other.update(timeout=HELD)
    assert [offered.id for offered in told] == [lease.id]
    assert time.monotonic() - began > KEEPALIVE - 1
    await other.update(completed(told[0]))
    assert (await execution.response()).status.code == 0


async def test_a_job_that_takes_every_bot_with_it_ends_as_unavailable_and_says_why(farm: Farm) -> None:
    client = farm.client()
    execution = await client.queue(await client.add_action("poison"))
    for bot_id in ("first", "second"):
        bot = farm.bot(bot_id)
        lease = await bot.take_lease()
        await bot.update(active(lease))
        # The bot comes back at once, which closes the session that had the lease.
        await farm.bot(bot_id).open(status=BOT_TERMINATING)
    response = await execution.response(within=3)
    assert response.status.code == code_pb2.UNAVAILABLE
    assert "bot second vanished" in response.status.message
    assert "2 lost attempts" in response.status.message


async def test_a_bot_that_is_gone_at_the_last_attempt_is_the_answer(farm: Farm) -> None:
    client = farm.client()
    execution = await client.queue(await client.add_action("last-straw"))
    bot = farm.bot("first")
    await bot.update(failed(await bot.take_lease(), grpc.StatusCode.INTERNAL))
    lease = await bot.take_again()
    await bot.update(active(lease))
    response = await execution.response(within=REAPED_WITHIN)
    assert response.status.code == code_pb2.UNAVAILABLE
    assert "bot first vanished: it stopped calling" in response.status.message


async def test_leases_that_were_never_started_do_not_use_up_attempts(farm: Farm) -> None:
    client = farm.client()
    execution = await client.queue(await client.add_action("unlucky"))
    leases = set()
    for _ in range(6):  # three times as often as a job is tried
        leases.add((await farm.bot("flapping").take_lease()).id)
    (lease,) = leases
    bot = farm.bot("flapping")
    told = await bot.take_lease()
    await bot.update(active(told))
    assert told.id == lease
    await bot.update(completed(told))
    assert (await execution.response()).status.code == 0


async def test_a_bot_that_announced_its_end_does_not_use_up_attempts(farm: Farm) -> None:
    client = farm.client()
    execution = await client.queue(await client.add_action("rolled"))
    for number in range(4):
        bot = farm.bot(f"node-{number}")
        lease = await bot.take_lease()
        assert [told.state for told in await bot.update(active(lease), status=BOT_TERMINATING)] == [ACTIVE]
        await farm.bot(f"node-{number}").open(status=BOT_TERMINATING)
    bot = farm.bot("steady")
    await bot.update(completed(await bot.take_lease()))
    assert (await execution.response()).status.code == 0


async def test_a_terminating_bot_hands_back_what_it_has_not_started(farm: Farm) -> None:
    client, bot, other = farm.client(), farm.bot("leaving", capacity=3), farm.bot("other", second=True)
    executions = [await client.queue(digest) for digest in await client.add_actions("handed-back", 2)]
    one, two = await bot.open()
    await bot.update(active(one), two)
    await other.open()
    waiting = asyncio.create_task(other.update(timeout=HELD))
    await farm.replicas[1].until_held(1)
    (kept,) = await bot.update(active(one), status=BOT_TERMINATING)
    assert (kept.id, kept.state) == (one.id, ACTIVE)
    (moved,) = await asyncio.wait_for(waiting, 1)
    assert moved.id == two.id
    assert await bot.update(completed(one), status=BOT_TERMINATING) == []
    await other.update(completed(moved))
    for execution in executions:
        assert (await execution.response()).status.code == 0


async def test_a_bot_with_three_slots_gets_three_leases_and_fills_each_as_it_becomes_free(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot(capacity=3)
    executions = [await client.queue(digest) for digest in await client.add_actions("slots", 5)]
    leases = await bot.open()
    assert len({lease.id for lease in leases}) == 3
    one, two, three = leases
    told = await bot.update(active(one), completed(two), active(three))
    assert [lease.state for lease in told if lease.id in (one.id, three.id)] == [ACTIVE, ACTIVE]
    (four,) = [lease for lease in told if lease.id not in (one.id, three.id)]
    assert four.state == PENDING
    told = await bot.update(completed(one), completed(three), active(four))
    (five,) = [lease for lease in told if lease.id != four.id]
    await bot.update(completed(four), completed(five))
    for execution in executions:
        assert (await execution.response()).status.code == 0


async def test_of_a_bot_with_slots_a_missing_active_lease_is_requeued_alone(farm: Farm) -> None:
    client, bot, other = farm.client(), farm.bot(capacity=3), farm.bot("other")
    for digest in await client.add_actions("missing", 3):
        await client.queue(digest)
    leases = await bot.open()
    await bot.update(*map(active, leases), status=OK)
    lost, *kept = leases
    told = await bot.update(*map(active, kept))
    assert {lease.id for lease in told} >= {lease.id for lease in kept}
    if len(told) == 2:
        assert (await other.take_lease()).id == lost.id
    else:
        assert {lease.id: lease.state for lease in told}[lost.id] == PENDING


async def test_of_a_bot_with_slots_an_unknown_lease_is_told_cancelled_until_it_is_gone(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot(capacity=2)
    await client.queue(await client.add_action("known"))
    (lease,) = await bot.open()
    unknown = active(lease)
    unknown.id = "11111111-1111-1111-1111-111111111111"
    states = {told.id: told.state for told in await bot.update(active(lease), unknown)}
    assert states == {lease.id: ACTIVE, unknown.id: CANCELLED}
    # Neither the bot's answer to that nor a late result is taken amiss, and the slot is free again.
    (told,) = await bot.update(active(lease), cancelled(unknown))
    assert (told.id, told.state) == (lease.id, ACTIVE)
    (told,) = await bot.update(active(lease), completed(unknown))
    assert told.id == lease.id
    await client.queue(await client.add_action("for-the-free-slot"))
    assert len(await bot.update(active(lease))) == 2


async def test_forty_slots_are_served_from_two_replicas_without_a_job_given_twice(farm: Farm) -> None:
    client = farm.client()
    digests = await client.add_actions("forty", 60)
    executions = await gather_within(20, *(client.queue(digest) for digest in digests))
    bots = [farm.bot(f"bot-{n}", second=n % 2 == 1, capacity=10) for n in range(4)]

    async def fill(bot: Bot) -> list[str]:
        leases = await bot.open(timeout=HELD)
        while len(leases) < 10:  # the replicas take from the same queue, and pass what the other locks
            leases = await bot.update(*map(active, leases))
        return [lease.id for lease in leases]

    leases = [lease for filled in await gather_within(10, *map(fill, bots)) for lease in filled]
    assert len(leases) == len(set(leases)) == 40
    stages = [stage_of(await client.get(execution.name)) for execution in executions]
    assert (stages.count(EXECUTING), stages.count(QUEUED)) == (40, 20)
