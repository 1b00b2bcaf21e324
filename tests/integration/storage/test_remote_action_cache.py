"""The action cache of another server."""

from collections.abc import Callable, Iterator
from datetime import timedelta

import grpc
import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult
from buildgrid_scheduler.core.errors import PermissionDenied, SchedulerError, Unavailable
from buildgrid_scheduler.storage.memory import MemoryActionCache
from buildgrid_scheduler.storage.remote import RemoteActionCache, RemoteEndpoint

from tests.integration.storage.remote_server import RemoteServer
from tests.integration.storage.waiting import PATIENCE, in_thread, outage_noticed

DIGESTS = [digest_of(bytes([number])) for number in range(100)]
RESULTS = [ActionResult(exit_code=number) for number in range(100)]


@pytest.fixture
def cache(remote: RemoteServer) -> Iterator[RemoteActionCache]:
    cache = RemoteActionCache(RemoteEndpoint(remote.endpoint), lookup_tolerance=timedelta(seconds=0.3))
    cache.start()
    yield cache
    cache.stop()


def test_results_are_found_and_missed_in_order(cache: RemoteActionCache) -> None:
    cache.update_many("", list(zip(DIGESTS[::2], RESULTS[::2], strict=True)))
    expected = [result if number % 2 == 0 else None for number, result in enumerate(RESULTS)]
    assert cache.get_many("", DIGESTS) == expected
    assert cache.get("", DIGESTS[4]) == RESULTS[4]
    assert cache.get_many("", []) == []


def test_the_last_result_of_an_action_wins(cache: RemoteActionCache) -> None:
    cache.update("", DIGESTS[0], RESULTS[1])
    cache.update_many("", [(DIGESTS[0], RESULTS[2]), (DIGESTS[0], RESULTS[3])])
    assert cache.get("", DIGESTS[0]) == RESULTS[3]


def test_each_instance_has_its_own_results_there(cache: RemoteActionCache) -> None:
    cache.update("main/team", DIGESTS[0], RESULTS[1])
    assert cache.get("", DIGESTS[0]) is None
    assert cache.get("main/team", DIGESTS[0]) == RESULTS[1]


def test_one_instance_there_may_serve_all_here(remote: RemoteServer) -> None:
    cache = RemoteActionCache(RemoteEndpoint(remote.endpoint), instance_name="main/team", allow_updates=False)
    cache.start()
    cache.update("here", DIGESTS[0], RESULTS[1])
    assert cache.get("elsewhere", DIGESTS[0]) == RESULTS[1]
    assert remote.cache.get("main/team", DIGESTS[0]) == RESULTS[1]
    assert not cache.allow_updates
    cache.stop()


def test_an_update_waits_an_outage_out(remote: RemoteServer, cache: RemoteActionCache) -> None:
    remote.stop()
    with outage_noticed() as noticed:
        outcome = in_thread(lambda: cache.update_many("", [*zip(DIGESTS, RESULTS, strict=True)]))
        assert noticed.wait(PATIENCE)
        remote.start()
        outcome.result(PATIENCE)
    assert remote.cache.get_many("", DIGESTS) == RESULTS


def test_a_lookup_waits_only_for_a_moment(remote: RemoteServer, cache: RemoteActionCache) -> None:
    remote.stop()
    with pytest.raises(Unavailable, match="look up action"):
        cache.get_many("", DIGESTS)


def test_a_lookup_that_fails_among_others_is_tried_again(
    remote: RemoteServer, cache: RemoteActionCache
) -> None:
    cache.update_many("", [*zip(DIGESTS, RESULTS, strict=True)])
    remote.faults.fail("GetActionResult", grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
    assert cache.get_many("", DIGESTS) == RESULTS


def test_refusals_are_told(remote: RemoteServer, cache: RemoteActionCache) -> None:
    refused: MemoryActionCache = remote.cache
    refused._allow_updates = False
    with pytest.raises(PermissionDenied, match=r"store the result of action .*does not take action results"):
        cache.update("", DIGESTS[0], RESULTS[0])
    with pytest.raises(SchedulerError, match=r"INVALID_ARGUMENT|NOT_FOUND"):
        cache.update("nobody", DIGESTS[0], RESULTS[0])


@pytest.mark.parametrize("end", [RemoteActionCache.stop_waiting, RemoteActionCache.stop])
def test_stopping_ends_the_waiting(
    remote: RemoteServer, cache: RemoteActionCache, end: Callable[[RemoteActionCache], None]
) -> None:
    remote.stop()
    with outage_noticed() as noticed:
        outcome = in_thread(lambda: cache.update("", DIGESTS[0], RESULTS[0]))
        assert noticed.wait(PATIENCE)
        end(cache)
        with pytest.raises(Unavailable, match="stopping"):
            outcome.result(PATIENCE)
