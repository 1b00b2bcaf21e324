"""Log streams of leases, made by a real log stream service, which may fail: then the job runs without."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import grpc
import pytest
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.core.job_streams import JobStreams
from buildgrid_scheduler.logstreams import LeaseStreams, LogStreams
from buildgrid_scheduler.outgoing.pause import Pause

from tests.farm.waiting import eventually_sync
from tests.integration.integrations.grpc_servers import LogStreamServer

WITHIN = 20.0
Start = Callable[..., LeaseStreams]


class Store:
    """Keeps names, as the scheduler does for clients to see."""

    def __init__(self) -> None:
        self.kept: dict[str, JobStreams] = {}
        self.leased = True
        self.reached = threading.Event()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def __call__(self, instance: str, session: str, job: str, streams: JobStreams) -> bool:
        self.reached.set()
        assert self.may_go_on.wait(WITHIN)
        if self.leased:
            self.kept[f"{instance}/{session}/{job}"] = streams
        return self.leased


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.may_go_on.set()


@pytest.fixture
def start(log_stream_server: LogStreamServer, store: Store) -> Iterator[Start]:
    started: list[LeaseStreams] = []

    def start(*, instance: str | None = None, timeout: float = WITHIN, **options: object) -> LeaseStreams:
        client = LogStreams(log_stream_server.channel(), instance, timeout)
        streams = LeaseStreams(client, store, **{"bound": WITHIN, **options})  # type: ignore[arg-type]
        streams.start()
        started.append(streams)
        return streams

    yield start
    for streams in started:
        streams.stop()


def outcome(future: "Future[JobStreams | None]") -> JobStreams | None:
    return future.result(WITHIN)


def test_a_lease_gets_a_stream_for_stdout_and_one_for_stderr(
    start: Start, log_stream_server: LogStreamServer, store: Store
) -> None:
    streams = outcome(start().request("team", "session", "job"))
    assert streams is not None
    names = [streams.stdout_read, streams.stdout_write, streams.stderr_read, streams.stderr_write]
    assert len(set(names)) == 4
    assert streams.stdout_write == f"{streams.stdout_read}/write-secret"
    assert streams.stderr_write == f"{streams.stderr_read}/write-secret"
    assert log_stream_server.parents == ["team", "team"]
    assert store.kept == {"team/session/job": streams}


def test_a_configured_instance_is_the_parent_of_all_streams(
    start: Start, log_stream_server: LogStreamServer
) -> None:
    outcome(start(instance="logs").request("team", "session", "job"))
    assert log_stream_server.parents == ["logs", "logs"]


async def test_a_coroutine_gets_the_streams_of_all_new_leases(start: Start) -> None:
    streams = start()
    found = await streams.of_new_leases("team", "session", ["a", "b"])
    assert sorted(found) == ["a", "b"]
    assert await streams.of_new_leases("team", "session", []) == {}


def test_a_lease_that_is_gone_has_no_streams(start: Start, store: Store) -> None:
    store.leased = False
    assert outcome(start().request("team", "session", "job")) is None


def test_threads_can_wait_for_streams_that_are_being_made(start: Start, store: Store) -> None:
    streams = start()
    store.may_go_on.clear()
    future = streams.request("team", "session", "job")
    assert store.reached.wait(WITHIN)
    threading.Timer(0.05, store.may_go_on.set).start()
    streams.settle(["job", "another"])
    assert future.done()
    streams.settle(["job"])


async def test_a_service_that_is_down_means_no_streams_and_no_delay(
    start: Start, log_stream_server: LogStreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    streams = start()
    log_stream_server.stop()
    async with asyncio.timeout(WITHIN):
        assert await streams.of_new_leases("team", "session", ["a"]) == {}
    streams.stop()  # what it complains of comes after the answer
    assert "log-streams: not sent: UNAVAILABLE" in caplog.text


def test_a_service_that_came_back_makes_streams_again(
    start: Start, log_stream_server: LogStreamServer
) -> None:
    streams = start(pause=Pause(seconds=0))
    log_stream_server.stop()
    assert outcome(streams.request("team", "session", "job")) is None
    log_stream_server.start()
    eventually_sync(
        lambda: outcome(streams.request("team", "session", "job")) is not None, WITHIN, lambda: "none"
    )


@pytest.mark.parametrize("made", [0, 1])
def test_a_service_that_refuses_either_stream_means_none(
    start: Start, log_stream_server: LogStreamServer, store: Store, made: int
) -> None:
    log_stream_server.refuse_after = made
    assert outcome(start().request("team", "session", "job")) is None
    assert store.kept == {}


def test_a_stream_without_a_name_to_write_to_is_none(
    start: Start, log_stream_server: LogStreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    streams = start()
    log_stream_server.nameless = True
    assert outcome(streams.request("team", "session", "job")) is None
    eventually_sync(lambda: "without name or write_resource_name" in caplog.text, WITHIN, lambda: caplog.text)


async def test_an_answer_waits_for_a_service_that_hangs_no_longer_than_the_bound(
    start: Start, log_stream_server: LogStreamServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    streams = start(bound=0.1)
    log_stream_server.mood.hang()
    async with asyncio.timeout(WITHIN):
        assert await streams.of_new_leases("team", "session", ["a"]) == {}
    log_stream_server.mood.release()
    # Readers would wait in vain for streams that the bot has not heard of.
    await asyncio.to_thread(
        eventually_sync,
        lambda: "were made too late" in caplog.text,
        WITHIN,
        lambda: caplog.text,
    )
    assert store.kept == {}


def test_a_service_that_times_out_again_and_again_is_left_alone(
    start: Start, log_stream_server: LogStreamServer
) -> None:
    streams = start(timeout=0.1, pause=Pause(failures=2, seconds=600))
    log_stream_server.mood.hang()
    for _ in range(2):
        assert outcome(streams.request("team", "session", "job")) is None
    calls = len(log_stream_server.tokens)
    assert streams.request("team", "session", "job").done()
    assert len(log_stream_server.tokens) == calls


def test_more_leases_than_can_wait_run_without(start: Start, store: Store) -> None:
    streams = start(threads=1, capacity=1)
    store.may_go_on.clear()
    first = streams.request("team", "session", "a")
    assert store.reached.wait(WITHIN)
    second, third = (streams.request("team", "session", job) for job in ("b", "c"))
    assert third.done()
    assert third.result() is None
    store.may_go_on.set()
    assert outcome(first) is not None
    assert outcome(second) is not None


async def test_a_caller_that_goes_away_does_no_harm(start: Start, store: Store) -> None:
    streams = start()
    store.may_go_on.clear()
    waiting = asyncio.ensure_future(streams.of_new_leases("team", "session", ["a"]))
    assert await asyncio.to_thread(store.reached.wait, WITHIN)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    store.may_go_on.set()
    assert await streams.of_new_leases("team", "session", ["b"]) != {}
    assert sorted(store.kept) == ["team/session/a", "team/session/b"]


def test_who_waits_no_more_does_not_take_the_streams_from_the_bot(start: Start, store: Store) -> None:
    streams = start()
    store.may_go_on.clear()
    future = streams.request("team", "session", "job")
    assert not future.cancel()
    store.may_go_on.set()
    assert outcome(future) is not None


def test_a_store_that_fails_means_no_streams(
    start: Start, log_stream_server: LogStreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(instance: str, session: str, job: str, streams: JobStreams) -> bool:
        raise Unavailable("the database cannot be reached")

    streams = LeaseStreams(LogStreams(log_stream_server.channel()), failing, bound=WITHIN)
    streams.start()
    assert outcome(streams.request("team", "session", "job")) is None
    streams.stop()
    assert "the database cannot be reached" in caplog.text


def test_the_client_says_why_it_failed(log_stream_server: LogStreamServer) -> None:
    client = LogStreams(log_stream_server.channel(), timeout=WITHIN)
    client.start()
    log_stream_server.mood.refusal = grpc.StatusCode.PERMISSION_DENIED
    with pytest.raises(grpc.RpcError, match="not today"):
        client.create("team")
    client.stop()
