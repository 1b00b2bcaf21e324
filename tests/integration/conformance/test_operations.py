"""google.longrunning.Operations beside the Execution service."""

import grpc
import pytest
from google.longrunning.operations_proto_pb2 import WaitOperationRequest
from google.rpc import code_pb2

from tests.farm.bots import active, completed
from tests.farm.clients import EXECUTING, metadata_of, response_of, stage_of
from tests.integration.conformance.tenant import Tenant, refused

pytestmark = pytest.mark.xdist_group("conformance")


async def test_an_operation_that_is_asked_for_tells_what_its_stream_tells(tenant: Tenant) -> None:
    client, bot = tenant.client, tenant.bot()
    digest = await client.add_action("asked")
    execution = await client.queue(digest)
    lease = await bot.take_lease()
    await bot.update(active(lease))
    told = await client.get(execution.name)
    assert (told.name, told.done, stage_of(told)) == (execution.name, False, EXECUTING)
    assert metadata_of(told).action_digest == digest
    await bot.update(completed(lease))
    response = await execution.response()
    assert response_of(await client.get(execution.name)) == response


async def test_a_cancelled_operation_stays_and_is_an_answer_not_an_error(tenant: Tenant) -> None:
    client = tenant.client
    execution = await client.queue(await client.add_action("cancelled"))
    await client.cancel(execution.name)
    operation = await client.get(execution.name)
    assert operation.done
    assert operation.WhichOneof("result") == "response"
    assert response_of(operation).status.code == code_pb2.CANCELLED


async def test_deleting_is_no_way_to_cancel(tenant: Tenant) -> None:
    client, bot = tenant.client, tenant.bot()
    execution = await client.queue(await client.add_action("kept"))
    error = await refused(client.delete(execution.name))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    await bot.update(completed(await bot.take_lease()))
    assert (await execution.response()).status.code == 0


async def test_waiting_is_done_with_wait_execution_alone(tenant: Tenant) -> None:
    execution = await tenant.client.queue(await tenant.client.add_action("waits"))
    error = await refused(tenant.operations.WaitOperation(WaitOperationRequest(name=execution.name)))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
