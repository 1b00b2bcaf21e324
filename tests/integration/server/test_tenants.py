"""Instances are tenants, and within one an operation belongs to whoever made it."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult
from buildgrid_scheduler.auth.policy import Right
from grpc import StatusCode

from tests.farm.bots import Bot, active, completed
from tests.farm.clients import QUEUED, Client, Execution, response_of, stage_of
from tests.integration.server.secured import ADMIN_ELSEWHERE, Secured, with_right

Connect = Callable[[str], grpc.aio.Channel]


@pytest.fixture
async def connect(secured: Secured) -> AsyncIterator[Connect]:
    """Opens connections whose calls carry a token; they are closed after the test."""
    async with AsyncExitStack() as stack:

        def open_channel(token: str) -> grpc.aio.Channel:
            channel = secured.credentials.channel(secured.server.endpoint, token)
            stack.push_async_callback(channel.close)
            return channel

        yield open_channel


@pytest.fixture
def client(secured: Secured, connect: Connect) -> Callable[..., Client]:
    """A client of a subject, for an instance."""

    def make(subject: str, instance: str = "main") -> Client:
        return Client(connect(secured.credentials.token(subject)), instance)

    return make


@pytest.fixture
def bot(secured: Secured, connect: Connect) -> Callable[..., Bot]:
    """A bot that takes only what this test queues, by its pool."""

    def make(pool: str, instance: str = "main", bot_id: str = "", **options: Any) -> Bot:
        token = secured.credentials.token(f"bot-of-{instance}")
        return Bot(connect(token), instance, bot_id or f"bot-{pool}", properties={"Pool": pool}, **options)

    return make


async def denied(call: Awaitable[object]) -> tuple[StatusCode, str]:
    """How a call was refused."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError(f"answered: {answer}")


async def queued(client: Client, name: str, **platform: str) -> Execution:
    """An action of one's own that waits for a bot."""
    return await client.queue(await client.add_action(name, platform=platform))


def ways_to(client: Client, operation: str) -> list[Callable[[], Awaitable[object]]]:
    """All that one can try with the name of an operation."""
    return [
        lambda: client.get(operation),
        lambda: client.wait(operation).next(),
        lambda: client.cancel(operation),
        lambda: client.delete(operation),
    ]


async def test_one_tenant_never_sees_anothers_operations(client: Callable[..., Client]) -> None:
    pool = str(uuid.uuid4())
    alice, olga = client("alice"), client("olga", "other")
    execution = await queued(alice, "tenants", Pool=pool)
    bare = execution.name.removeprefix("main/")
    for attempt in ways_to(olga, execution.name):
        code, message = await denied(attempt())
        assert code is StatusCode.PERMISSION_DENIED
        assert "the right 'execute' in instance 'main' is missing" in message
    # In her own instance there is no such operation, whatever she calls it.
    for name in (f"other/{bare}", f"other/main/{bare}", bare):
        for attempt in ways_to(olga, name):
            assert (await denied(attempt()))[0] in (StatusCode.NOT_FOUND, StatusCode.PERMISSION_DENIED), name
    # Administering one's own instance opens no other.
    master = client(ADMIN_ELSEWHERE, "other")
    for attempt in (*ways_to(master, execution.name), *ways_to(master, f"other/{bare}")):
        assert (await denied(attempt()))[0] in (StatusCode.NOT_FOUND, StatusCode.PERMISSION_DENIED)
    assert execution.name not in {operation.name for operation in await master.unfinished()}
    assert stage_of(await alice.get(execution.name)) == QUEUED


async def test_equal_actions_of_two_tenants_are_two_jobs_with_results_of_their_own(
    client: Callable[..., Client], bot: Callable[..., Bot]
) -> None:
    pool = str(uuid.uuid4())
    alice, olga = client("alice"), client("olga", "other")
    mine = await queued(alice, "the same", Pool=pool)
    hers = await queued(olga, "the same", Pool=pool)
    worker = bot(pool)
    lease = await worker.take_lease()
    await worker.update(completed(lease, ActionResult(stdout_raw=b"of main")))
    assert (await mine.response()).result.stdout_raw == b"of main"
    digest = (await alice.upload(lease.payload.value))[0]
    assert await alice.cached(digest) is not None
    # It neither became her result nor is it in her cache; and her job is none of that bot's business.
    assert await olga.cached(digest) is None
    assert await worker.update() == []
    assert stage_of(await olga.get(hers.name)) == QUEUED
    neighbour = bot(pool, "other")
    await neighbour.update(completed(await neighbour.take_lease(), ActionResult(stdout_raw=b"of other")))
    assert (await hers.response()).result.stdout_raw == b"of other"
    cached = await alice.cached(digest)
    assert cached is not None
    assert cached.stdout_raw == b"of main"


async def test_bots_of_two_tenants_do_not_touch_each_other(
    client: Callable[..., Client], bot: Callable[..., Bot]
) -> None:
    pool = str(uuid.uuid4())
    ours, theirs = bot(pool, bot_id="the-same"), bot(pool, "other", bot_id="the-same")
    await queued(client("alice"), "bots", Pool=pool)
    lease = await ours.take_lease()
    await theirs.open()  # closes no session but one of its own instance
    assert [told.id for told in await ours.update(active(lease))] == [lease.id]
    name = ours.name
    code, message = await denied(_as_session(theirs, name).update(completed(lease)))
    assert (code, "'run-bots' in instance 'main'" in message) == (StatusCode.PERMISSION_DENIED, True)
    alias = name.replace("main/", "other/")
    code, _ = await denied(_as_session(theirs, alias).update(completed(lease)))
    assert code is StatusCode.INVALID_ARGUMENT
    assert [told.id for told in await ours.update(active(lease))] == [lease.id]


def _as_session(bot: Bot, name: str) -> Bot:
    bot.name = name
    return bot


async def test_an_operation_belongs_to_its_identity(client: Callable[..., Client]) -> None:
    pool = str(uuid.uuid4())
    alice, bob, master = client("alice"), client("bob"), client(with_right(Right.ADMINISTER))
    execution = await queued(alice, "owned", Pool=pool)
    for attempt in ways_to(bob, execution.name):
        code, message = await denied(attempt())
        assert code is StatusCode.PERMISSION_DENIED
        assert "belongs to another identity, and the right 'administer' in instance 'main'" in message
    assert execution.name not in {operation.name for operation in await bob.unfinished()}
    for entitled in (alice, master):
        assert execution.name in {operation.name for operation in await entitled.unfinished()}
        assert stage_of(await entitled.get(execution.name)) == QUEUED
        assert (await entitled.wait(execution.name).next()).name == execution.name
    await master.cancel(execution.name)
    assert response_of(await alice.get(execution.name)).status.code == StatusCode.CANCELLED.value[0]
    await alice.delete(execution.name)
    assert (await denied(alice.get(execution.name)))[0] is StatusCode.NOT_FOUND


async def test_two_identities_share_a_job_and_each_cancels_its_own_operation(
    client: Callable[..., Client], bot: Callable[..., Bot]
) -> None:
    pool = str(uuid.uuid4())
    alice, bob = client("alice"), client("bob")
    first, second = await queued(alice, "shared", Pool=pool), await queued(bob, "shared", Pool=pool)
    assert first.name != second.name
    worker = bot(pool, capacity=2)
    lease = await worker.take_lease()
    await bob.cancel(second.name)
    assert [told.id for told in await worker.update(completed(lease))] == []  # it was one job
    assert (await first.response()).status.code == 0
    assert (await second.response()).status.code == StatusCode.CANCELLED.value[0]


# --- Kubernetes


async def test_a_pod_is_the_bot_of_its_name_and_no_other(
    secured: Secured, connect: Connect, client: Callable[..., Client]
) -> None:
    pool = {"Pool": str(uuid.uuid4())}
    first, second = (connect(secured.credentials.pod(name)) for name in ("bot-1", "bot-2"))
    owner = Bot(first, "main", "bot-1", properties=pool)
    await queued(client("alice"), "pods", **pool)
    lease = await owner.take_lease()
    await owner.update(active(lease))
    # The neighbour can neither open a session in its name nor speak in its session.
    code, message = await denied(Bot(second, "main", "bot-1").open())
    assert code is StatusCode.PERMISSION_DENIED
    assert "the right 'run-bots' as bot 'bot-1' is missing: the token is that of pod 'bot-2'" in message
    for bot_id, wanted in (
        ("bot-1", StatusCode.PERMISSION_DENIED),
        ("bot-2", StatusCode.INVALID_ARGUMENT),
    ):
        thief = _as_session(Bot(second, "main", bot_id), owner.name)
        assert (await denied(thief.update(completed(lease))))[0] is wanted
    assert [told.id for told in await owner.update(active(lease))] == [lease.id]
    await Bot(second, "main", "bot-2", properties=pool).open()


@pytest.mark.parametrize(
    ("pod", "namespace", "said"),
    [
        (None, "builds", "the token is bound to no pod"),
        ("bot-1", "elsewhere", "the right 'run-bots' in instance 'main' is missing"),
    ],
)
async def test_a_token_of_no_pod_or_of_another_namespace_runs_no_bots(
    secured: Secured, connect: Connect, pod: str | None, namespace: str, said: str
) -> None:
    channel = connect(secured.credentials.pod(pod, namespace))
    code, message = await denied(Bot(channel, "main", "bot-1").open())
    assert (code, said in message) == (StatusCode.PERMISSION_DENIED, True), message


async def test_a_pods_renewed_token_goes_on_with_its_session(secured: Secured, connect: Connect) -> None:
    before = Bot(connect(secured.credentials.pod("bot-3")), "main", "bot-3", properties={"Pool": "none"})
    await before.open()
    after = Bot(connect(secured.credentials.pod("bot-3")), "main", "bot-3", properties={"Pool": "none"})
    assert await _as_session(after, before.name).update() == []
