"""A bot with hundreds of slots, and actions as large as they may be: it can take every answer."""

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Action
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import Lease
from buildgrid_scheduler.core.slots import MOST_NEW_LEASES

from tests.farm.bots import HELD, active
from tests.integration.scheduler.conftest import Farm

pytestmark = pytest.mark.xdist_group("scheduler-farm")
JOBS = 2 * MOST_NEW_LEASES + 10
PADDING = "x" * 60 * 1024


async def test_a_bot_with_many_slots_is_filled_in_several_answers_of_a_size_that_it_takes(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot("wide", capacity=JOBS)
    await bot.open()
    for number in range(JOBS):
        await client.queue(await client.add_action(f"wide-{number}-{PADDING}"))
    held: dict[str, Lease] = {}
    sizes = []
    while len(held) < JOBS:
        new = [lease for lease in await bot.update(*held.values(), timeout=HELD) if lease.id not in held]
        sizes.append(len(new))
        for lease in new:
            action = Action()
            assert lease.payload.Unpack(action) and len(action.salt) > len(PADDING)
            held[lease.id] = active(lease)
    assert max(sizes) == MOST_NEW_LEASES and len(sizes) == 3
    # Payloads that come back are not sent once more where that would be too much.
    again = await bot.update(*held.values(), timeout=HELD)
    assert {lease.id for lease in again} == set(held)


async def test_leases_of_an_answer_that_was_lost_come_again_as_many_as_fit(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot("forgetful", capacity=JOBS)
    await bot.open()
    for number in range(JOBS):
        await client.queue(await client.add_action(f"forgotten-{number}-{PADDING}"))
    first = await bot.update(timeout=HELD)
    second = await bot.update(timeout=HELD)
    assert {lease.id for lease in first} == {lease.id for lease in second}
    assert len(second) == MOST_NEW_LEASES
    third = await bot.update(*(active(lease) for lease in second), timeout=HELD)
    assert len(third) == 2 * MOST_NEW_LEASES
