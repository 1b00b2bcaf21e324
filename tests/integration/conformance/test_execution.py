"""Execution: what the REAPI text asks of a server, as clients see it."""

from datetime import timedelta

import grpc
import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Command,
    DigestFunction,
    ExecuteRequest,
    Platform,
    RequestMetadata,
)
from google.longrunning.operations_proto_pb2 import ListOperationsRequest
from google.rpc import code_pb2

from tests.farm.bots import action_hash, active, completed, failed
from tests.farm.clients import COMPLETED, EXECUTING, QUEUED, WITHIN, Execution, metadata_of, stage_of
from tests.integration.conformance.tenant import QUEUE, Tenant, refused

pytestmark = pytest.mark.xdist_group("conformance")
Code = grpc.StatusCode
HEADER = "build.bazel.remote.execution.v2.requestmetadata-bin"


async def test_each_message_tells_metadata_of_the_action_and_done_exactly_with_completed(
    tenant: Tenant,
) -> None:
    client, bot = tenant.client, tenant.bot()
    digest = await client.add_action("told")
    execution = await client.queue(digest)
    lease = await bot.take_lease()
    await execution.until(EXECUTING)
    await bot.update(completed(lease))
    await execution.response()
    for operation in execution.told:
        assert operation.name == execution.name
        assert metadata_of(operation).action_digest == digest
        assert metadata_of(operation).digest_function == DigestFunction.UNKNOWN
        assert operation.done is (stage_of(operation) == COMPLETED)
        assert operation.WhichOneof("result") == ("response" if operation.done else None)
    assert [operation.done for operation in execution.told][-2:] == [False, True]


async def test_who_waits_is_told_the_state_at_once_and_then_the_end(tenant: Tenant) -> None:
    client, bot = tenant.client, tenant.bot()
    execution = await client.queue(await client.add_action("waited for"))
    waits = client.wait(execution.name)
    assert stage_of(await waits.next()) == QUEUED
    await bot.update(completed(await bot.take_lease()))
    response = await waits.response()
    assert response == await execution.response()
    late = client.wait(execution.name)
    assert await late.response() == response
    assert late.stages == [COMPLETED]


async def test_who_waits_for_a_deleted_operation_is_told_that_it_is_not_there(tenant: Tenant) -> None:
    client = tenant.client
    execution = await client.queue(await client.add_action("deleted"))
    await client.cancel(execution.name)
    await client.delete(execution.name)
    assert (await refused(client.wait(execution.name).next())).code() is Code.NOT_FOUND


async def test_an_operation_goes_back_to_queued_when_its_bot_is_lost(tenant: Tenant) -> None:
    client, bot = tenant.client, tenant.bot()
    execution = await client.queue(await client.add_action("lost"))
    lease = await bot.take_lease()
    await execution.until(EXECUTING)
    await bot.update(failed(lease, Code.INTERNAL, "no disk"))
    await execution.until(QUEUED)
    await bot.update(completed(await bot.take_again()))
    assert (await execution.response()).status.code == 0


async def test_actions_that_differ_in_salt_or_timeout_have_results_of_their_own(tenant: Tenant) -> None:
    client, bot = tenant.client, tenant.bot()
    first = await client.add_action("salt")
    others = [
        await client.add_action("other salt"),
        await client.add_action("salt", timeout=timedelta(seconds=9)),
    ]
    await client.store(first, ActionResult(stdout_raw=b"cached"))
    assert (await client.execute(first).response()).cached_result
    for digest in others:
        execution = await client.queue(digest)
        lease = await bot.take_lease()
        assert action_hash(lease) == digest.hash
        await bot.update(completed(lease))
        assert not (await execution.response()).cached_result


async def test_a_timeout_below_zero_is_refused(tenant: Tenant) -> None:
    digest = await tenant.client.add_action("negative", timeout=timedelta(seconds=-1))
    error = await refused(tenant.client.execute(digest).next())
    assert error.code() is Code.INVALID_ARGUMENT
    assert "timeout" in (error.details() or "")


async def test_a_result_with_a_failed_status_is_told_and_not_cached(tenant: Tenant) -> None:
    client, bot = tenant.client, tenant.bot()
    digest = await client.add_action("slow")
    execution = await client.queue(digest)
    lease = failed(await bot.take_lease(), Code.DEADLINE_EXCEEDED, "after 5 s")
    lease.result.Pack(ActionResult(stdout_raw=b"so far"))
    await bot.update(lease)
    response = await execution.response()
    assert response.status.code == code_pb2.DEADLINE_EXCEEDED
    assert response.result.stdout_raw == b"so far"
    assert await client.cached(digest) is None


@pytest.mark.parametrize("in_action", [True, False], ids=["action", "command"])
async def test_the_platform_of_the_action_comes_before_that_of_the_command(
    tenant: Tenant, in_action: bool
) -> None:
    client = tenant.client

    def pool(name: str) -> Platform:
        return Platform(properties=[Platform.Property(name="Pool", value=name)])

    command = Command(arguments=["true"], platform=pool("old")).SerializeToString()
    action = Action(
        command_digest=digest_of(command),
        input_root_digest=digest_of(b""),
        platform=pool("new") if in_action else None,
    )
    digest, *_ = await client.upload(action.SerializeToString(), command)
    await client.queue(digest)
    old, new = tenant.bot("old", properties={"Pool": "old"}), tenant.bot("new", properties={"Pool": "new"})
    right, wrong = (new, old) if in_action else (old, new)
    assert await wrong.open() == []
    assert action_hash(await right.take_lease()) == digest.hash


async def test_a_full_queue_is_resource_exhausted(tenant: Tenant) -> None:
    client = tenant.client
    digests = await client.add_actions("many", QUEUE + 1)
    for digest in digests[:-1]:
        await client.queue(digest)
    error = await refused(client.execute(digests[-1]).next())
    assert error.code() is Code.RESOURCE_EXHAUSTED
    assert stage_of((await client.queue(digests[0])).told[0]) == QUEUED, "sharing is always possible"


async def test_times_of_an_execution_are_told_to_its_client(tenant: Tenant) -> None:
    client, bot = tenant.client, tenant.bot("the-bot")
    execution = await client.queue(await client.add_action("timed"))
    lease = await bot.take_lease()
    await bot.update(active(lease))
    await bot.update(completed(lease))
    metadata = (await execution.response()).result.execution_metadata
    assert metadata.worker == "the-bot"
    assert metadata.queued_timestamp.ToNanoseconds() > 0


async def listed(tenant: Tenant, text: str) -> list[str]:
    request = ListOperationsRequest(name=tenant.instance, filter=text)
    return [
        each.name for each in (await tenant.operations.ListOperations(request, timeout=WITHIN)).operations
    ]


async def test_the_request_metadata_of_a_call_is_kept_with_its_operation(tenant: Tenant) -> None:
    client = tenant.client
    digest = await client.add_action("described")
    said = RequestMetadata(tool_invocation_id="build-7", action_mnemonic="CppCompile")
    execution = client.execute(digest, metadata=((HEADER, said.SerializeToString()),))
    await execution.next()
    assert await listed(tenant, "invocation_id=build-7 & action_mnemonic=CppCompile") == [execution.name]
    assert await listed(tenant, "invocation_id=build-8") == []


async def test_a_call_without_request_metadata_is_served_and_nonsense_is_refused(tenant: Tenant) -> None:
    client = tenant.client
    digest = await client.add_action("plain")
    assert stage_of(await client.execute(digest).next()) == QUEUED
    error = await refused(client.execute(digest, metadata=((HEADER, b"\xff\xff\xff"),)).next())
    assert error.code() is Code.INVALID_ARGUMENT
    assert HEADER in (error.details() or "")


@pytest.mark.parametrize(
    ("function", "served"),
    [
        (DigestFunction.UNKNOWN, True),
        (DigestFunction.SHA256, True),
        (DigestFunction.SHA1, False),
        (DigestFunction.BLAKE3, False),
    ],
)
async def test_only_sha256_is_executed(
    tenant: Tenant, function: DigestFunction.Value.ValueType, served: bool
) -> None:
    digest = await tenant.client.add_action("hashed")
    request = ExecuteRequest(instance_name=tenant.instance, action_digest=digest, digest_function=function)
    execution = Execution(tenant.client.execution.Execute(request))
    if served:
        assert stage_of(await execution.next()) == QUEUED
    else:
        error = await refused(execution.next())
        assert error.code() is Code.INVALID_ARGUMENT
        assert DigestFunction.Value.Name(function) in (error.details() or "")


async def test_commands_of_any_output_are_taken_as_they_are(tenant: Tenant) -> None:
    """Canonical form is the client's business: other bytes are another action."""
    client = tenant.client
    command = Command(arguments=["true"], output_paths=["b", "a", "b"]).SerializeToString()
    action = Action(command_digest=digest_of(command), input_root_digest=digest_of(b"")).SerializeToString()
    digest, *_ = await client.upload(action, command)
    assert stage_of((await client.queue(digest)).told[0]) == QUEUED


async def test_node_properties_do_not_keep_an_action_from_running(tenant: Tenant) -> None:
    client = tenant.client
    command = Command(arguments=["true"], output_node_properties=["mtime", "colour"]).SerializeToString()
    action = Action(command_digest=digest_of(command), input_root_digest=digest_of(b"")).SerializeToString()
    digest, *_ = await client.upload(action, command)
    assert stage_of((await client.queue(digest)).told[0]) == QUEUED


async def test_nothing_is_executed_without_arguments(tenant: Tenant) -> None:
    client = tenant.client
    action = Action(command_digest=digest_of(b""), input_root_digest=digest_of(b"")).SerializeToString()
    (digest,) = await client.upload(action)
    error = await refused(client.execute(digest).next())
    assert error.code() is Code.INVALID_ARGUMENT
    assert "arguments" in (error.details() or "")


async def test_a_result_that_came_from_a_bot_is_found_in_the_action_cache(tenant: Tenant) -> None:
    client, bot = tenant.client, tenant.bot()
    digest = await client.add_action("cached")
    execution = await client.queue(digest)
    lease = await bot.take_lease()
    await bot.update(completed(lease))
    response = await execution.response()
    assert await client.cached(digest) == response.result
    again = await client.execute(digest).response()
    assert (again.cached_result, again.result) == (True, response.result)


async def test_stdout_that_a_bot_inlined_is_in_the_answer_whether_it_was_asked_for_or_not(
    tenant: Tenant,
) -> None:
    client, bot = tenant.client, tenant.bot()
    digest = await client.add_action("said")
    execution = await client.queue(digest)
    await bot.update(completed(await bot.take_lease(), ActionResult(stdout_raw=b"said")))
    assert (await execution.response()).result.stdout_raw == b"said"
    cached = await client.cached(digest)
    assert cached is not None and cached.stdout_raw == b"said"


async def test_a_bot_gets_the_action_of_the_client_byte_for_byte(tenant: Tenant) -> None:
    client, bot = tenant.client, tenant.bot()
    digest = await client.add_action("verbatim", timeout=timedelta(seconds=5))
    await client.queue(digest)
    lease = await bot.take_lease()
    assert digest_of(lease.payload.value) == digest
