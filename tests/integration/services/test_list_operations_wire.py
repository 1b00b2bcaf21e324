"""google.longrunning.Operations.ListOperations, as clients call it."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ExecuteOperationMetadata,
    ExecuteResponse,
    ExecutionStage,
)
from buildgrid_scheduler.auth.access import Access, OpenAccess
from buildgrid_scheduler.auth.identity import Owner
from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.engine.engine import Engine
from buildgrid_scheduler.engine.items import LoadedOperation
from buildgrid_scheduler.engine.listing import OperationList
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.services.operations import MAX_PAGE, OperationsService
from buildgrid_scheduler.store.provider import SqlProvider
from google.longrunning import operations_pb2_grpc
from google.longrunning.operations_proto_pb2 import ListOperationsRequest, ListOperationsResponse

from tests.farm.waiting import eventually
from tests.integration.engine.listed import DAWN, METADATA, Job, Listed, store
from tests.integration.store.postgres import database as database
from tests.integration.store.postgres import postgres as postgres
from tests.integration.store.postgres import provider as provider

WITHIN = 30.0
THREADS = 4
RESPONSE = ExecuteResponse(message="done").SerializeToString()
RECC = tuple("recc" if key == "tool_name" else "" for key in METADATA)


def waiting(number: int, **options: Any) -> Listed:
    queued = DAWN + timedelta(seconds=number)
    return Listed(f"waits-{number}", Job(f"job-{number}", "main/team", queued=queued), **options)


def finished(number: int, response: bytes = RESPONSE) -> Listed:
    queued = DAWN + timedelta(seconds=number)
    job = Job(f"done-{number}", "main/team", queued=queued, completed=queued, response=response)
    return Listed(f"is-done-{number}", job)


class Arrivals(Instances):
    """Counts the calls that the service has looked at."""

    count = 0

    def check(self, name: str, right: Right) -> str:
        self.count += 1
        return super().check(name, right)


class OwnOperations(OpenAccess):
    """Callers who may list what is theirs."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def listed_owner(self, instance: str) -> Owner:
        return self._owner


@dataclass
class Farm:
    """Calls the service of one server, whose parts are here to be looked at."""

    stub: Any
    arrivals: Arrivals
    executor: Executor

    async def page(self, name: str = "main/team", **request: Any) -> ListOperationsResponse:
        answer: ListOperationsResponse = await self.stub.ListOperations(
            ListOperationsRequest(name=name, **request), timeout=WITHIN
        )
        return answer

    async def names(self, **request: Any) -> list[str]:
        return [operation.name for operation in (await self.page(**request)).operations]

    async def refused(self, **request: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.page(**request)
        return raised.value.code(), raised.value.details() or ""


Serve = Callable[..., Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server whose lists are these."""
    servers: list[grpc.aio.Server] = []
    channels: list[grpc.aio.Channel] = []
    with ThreadPoolExecutor(THREADS) as executor:

        async def start(lists: OperationList, access: Access | None = None) -> Farm:
            server = grpc.aio.server()
            no_engine = cast(Engine, None)  # lists are read past it
            arrivals = Arrivals(["", "main/team"], access)
            service = OperationsService(no_engine, lists, arrivals, executor)
            operations_pb2_grpc.add_OperationsServicer_to_server(service, server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            servers.append(server)
            channels.append(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
            return Farm(operations_pb2_grpc.OperationsStub(channels[-1]), arrivals, executor)

        yield start
        for channel in channels:
            await channel.close()
        for server in servers:
            await server.stop(None)


@pytest.fixture
async def farm(serve: Serve, provider: SqlProvider) -> Farm:
    """A server on the test's database."""
    started: Farm = await serve(OperationList(provider))
    return started


async def test_without_a_filter_the_unfinished_operations_are_listed_with_their_names_on_the_wire(
    farm: Farm, provider: SqlProvider
) -> None:
    store(provider, [waiting(2), waiting(1), finished(0)])
    answer = await farm.page()
    assert [operation.name for operation in answer.operations] == ["main/team/waits-1", "main/team/waits-2"]
    assert answer.next_page_token == ""
    metadata = ExecuteOperationMetadata.FromString(answer.operations[0].metadata.value)
    assert metadata.stage == ExecutionStage.QUEUED
    assert await farm.names(name="") == []


async def test_a_finished_operation_is_listed_with_its_response(farm: Farm, provider: SqlProvider) -> None:
    store(provider, [waiting(1), finished(2)])
    (operation,) = (await farm.page(filter="stage=COMPLETED")).operations
    assert operation.name == "main/team/is-done-2"
    assert operation.done
    assert ExecuteResponse.FromString(operation.response.value).message == "done"


async def test_filters_and_order_are_those_of_the_text(farm: Farm, provider: SqlProvider) -> None:
    store(provider, [waiting(n, metadata=RECC if n % 2 else None) for n in range(6)])
    text = 'tool_name = "recc" & queued_time>=2030-01-31T06:00:02Z & sort_order=queued_time(desc)'
    assert await farm.names(filter=text) == ["main/team/waits-5", "main/team/waits-3"]
    assert await farm.names(filter="name=main/team/waits-4") == ["main/team/waits-4"]


async def test_who_may_not_administer_lists_their_own_operations(serve: Serve, provider: SqlProvider) -> None:
    own = Owner("main/team", "ci", "bazel", "ann")
    store(
        provider,
        [
            waiting(1, identity=own),
            waiting(2, identity=("main/team", "ci", "bazel", "bob")),
            waiting(3),
            waiting(4, identity=own),
        ],
    )
    farm: Farm = await serve(OperationList(provider), OwnOperations(own))
    assert await farm.names() == ["main/team/waits-1", "main/team/waits-4"]
    assert await farm.names(filter="client_subject!=ann") == []


async def test_a_client_follows_the_tokens_to_the_end(farm: Farm, provider: SqlProvider) -> None:
    store(provider, [waiting(n) for n in range(7)])
    pages: list[list[str]] = []
    token = ""
    while token or not pages:
        answer = await farm.page(page_size=3, page_token=token)
        pages.append([operation.name[-1] for operation in answer.operations])
        token = answer.next_page_token
    assert pages == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


async def test_a_page_is_never_larger_than_clients_take(farm: Farm, provider: SqlProvider) -> None:
    store(provider, [finished(n, response=bytes(700 * 1024)) for n in range(6)])
    seen: list[int] = []
    token = ""
    while token or not seen:
        answer = await farm.page(filter="stage=COMPLETED", page_token=token)  # at the default limit of 4 MiB
        seen.append(len(answer.operations))
        token = answer.next_page_token
    assert seen == [4, 2]


async def test_a_page_holds_the_server_s_maximum_whatever_is_asked(farm: Farm, provider: SqlProvider) -> None:
    job = waiting(0).job
    store(provider, [Listed(f"o-{n:04}", job) for n in range(MAX_PAGE + 1)])
    for size in (0, MAX_PAGE + 1, 2**31 - 1):
        answer = await farm.page(page_size=size)
        assert len(answer.operations) == MAX_PAGE
        assert answer.next_page_token
    assert await farm.names(page_token=answer.next_page_token) == [f"main/team/o-{MAX_PAGE:04}"]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"filter": "stag=QUEUED"}, "Did you mean stage?"),
        ({"filter": "queued_time>2030-01-31"}, "no time zone"),
        ({"filter": "sort_order=name&sort_order=name"}, "named twice"),
        ({"page_size": -1}, "page_size: -1"),
        ({"page_token": "x"}, "page_token"),
        ({"name": "nowhere"}, "'nowhere'"),
    ],
)
async def test_what_makes_no_sense_is_an_invalid_argument(
    farm: Farm, request_: dict[str, Any], words: str
) -> None:
    code, message = await farm.refused(**request_)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert words in message


async def test_a_token_for_other_filters_is_an_invalid_argument(farm: Farm, provider: SqlProvider) -> None:
    store(provider, [waiting(1), waiting(2)])
    token = (await farm.page(page_size=1)).next_page_token
    code, message = await farm.refused(page_token=token, filter="stage=QUEUED")
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "page_token" in message


async def test_slow_lists_leave_threads_to_the_storage(serve: Serve, provider: SqlProvider) -> None:
    go_on = threading.Event()

    class Slow(OperationList):
        def page(self, instance: str, filters: Any = (), **options: Any) -> tuple[list[LoadedOperation], str]:
            go_on.wait(WITHIN)
            return [], ""

    farm: Farm = await serve(Slow(provider))
    async with asyncio.TaskGroup() as tasks:
        calls = [tasks.create_task(farm.page()) for _ in range(2 * THREADS)]
        await eventually(lambda: farm.arrivals.count == len(calls), WITHIN)
        try:
            read = asyncio.wrap_future(farm.executor.submit(lambda: "a blob"))
            assert await asyncio.wait_for(read, 5) == "a blob"
        finally:
            go_on.set()
    assert [call.result() for call in calls] == [ListOperationsResponse()] * len(calls)
