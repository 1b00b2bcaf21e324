"""Results on their way to a cache: none may hold a job up, and losses are counted."""

import threading
from collections.abc import Iterator

import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult, Digest
from buildgrid_scheduler.core.errors import PermissionDenied, SchedulerError, Unavailable
from buildgrid_scheduler.storage.action_cache_writer import ActionCacheWriter
from buildgrid_scheduler.storage.memory import MemoryActionCache

PATIENCE = 60.0
DIGESTS = [digest_of(bytes([number])) for number in range(100)]
RESULTS = [ActionResult(exit_code=number) for number in range(1, 101)]


class Cache(MemoryActionCache):
    """Waits before each update until it is let, and then may refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.refused: set[str] = set()
        self.error: Exception | None = None

    def update_many(self, instance: str, entries: list[tuple[Digest, ActionResult]]) -> None:
        self.entered.set()
        assert self.open.wait(PATIENCE)
        self.batches.append(len(entries))
        if self.error is not None:
            raise self.error
        if any(digest_key(digest) in self.refused for digest, _ in entries):
            raise PermissionDenied("not this one")
        super().update_many(instance, entries)


@pytest.fixture
def cache() -> Cache:
    return Cache()


@pytest.fixture
def writer(cache: Cache) -> Iterator[ActionCacheWriter]:
    writer = ActionCacheWriter(cache, drain_seconds=PATIENCE)
    writer.start()
    yield writer
    cache.open.set()
    writer.stop()


def submit(writer: ActionCacheWriter, *numbers: int, instance: str = "") -> None:
    for number in numbers:
        writer.submit(instance, digest_key(DIGESTS[number]), RESULTS[number].SerializeToString())


def test_results_arrive_under_their_instances_by_the_time_it_has_stopped(
    cache: Cache, writer: ActionCacheWriter
) -> None:
    submit(writer, *range(100))
    submit(writer, 7, instance="main/team")
    writer.stop()
    assert cache.get_many("", DIGESTS) == RESULTS
    assert cache.get("main/team", DIGESTS[7]) == RESULTS[7]
    assert cache.get("main/team", DIGESTS[8]) is None
    assert writer.dropped == writer.waiting == 0


def test_submitting_never_waits_and_what_queues_up_goes_together(
    cache: Cache, writer: ActionCacheWriter
) -> None:
    cache.open.clear()
    submit(writer, 0)
    assert cache.entered.wait(PATIENCE)
    submit(writer, *range(1, 50))
    assert writer.waiting == 49
    cache.open.set()
    writer.stop()
    assert cache.batches == [1, 49]


def test_the_later_result_of_an_action_wins(cache: Cache, writer: ActionCacheWriter) -> None:
    for result in RESULTS:
        writer.submit("", digest_key(DIGESTS[0]), result.SerializeToString())
    writer.stop()
    assert cache.get("", DIGESTS[0]) == RESULTS[-1]


@pytest.mark.parametrize(
    ("most_results", "most_bytes"),
    [(3, 1000), (1000, 3 * RESULTS[0].ByteSize())],
    ids=["results", "bytes"],
)
def test_what_finds_no_room_is_dropped_and_counted(
    cache: Cache, most_results: int, most_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    writer = ActionCacheWriter(
        cache, most_results=most_results, most_bytes=most_bytes, drain_seconds=PATIENCE
    )
    cache.open.clear()
    writer.start()
    submit(writer, 0)
    assert cache.entered.wait(PATIENCE)
    submit(writer, *range(1, 11))
    assert writer.dropped == 7
    cache.open.set()
    writer.stop()
    assert [result is not None for result in cache.get_many("", DIGESTS[:11])] == [True] * 4 + [False] * 7
    assert caplog.messages == [
        "1 results were not stored in the action cache (1 so far); the last: the queue is full"
    ], "told at the first, then at most twice a minute"


def test_losses_are_told_again_with_their_number(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    writer = ActionCacheWriter(cache, most_results=0, clock=lambda: now[0])
    submit(writer, 0, 1, 2)
    now[0] += 31
    submit(writer, 3)
    assert "3 results were not stored in the action cache (4 so far)" in caplog.messages[1]
    assert writer.dropped == 4


def test_what_the_cache_refuses_does_not_take_others_with_it(
    cache: Cache, writer: ActionCacheWriter, caplog: pytest.LogCaptureFixture
) -> None:
    cache.open.clear()
    submit(writer, 0)
    assert cache.entered.wait(PATIENCE)
    cache.refused = {digest_key(DIGESTS[2])}
    submit(writer, 1, 2, 3)
    cache.open.set()
    writer.stop()
    assert cache.get_many("", DIGESTS[:4]) == [RESULTS[0], RESULTS[1], None, RESULTS[3]]
    assert writer.dropped == 1
    assert "not this one" in caplog.text


def test_a_cache_that_is_away_loses_the_batch_and_not_the_thread(
    cache: Cache, writer: ActionCacheWriter
) -> None:
    cache.open.clear()
    submit(writer, 0)
    assert cache.entered.wait(PATIENCE)
    cache.error = Unavailable("away")
    submit(writer, 1, 2)
    cache.open.set()
    writer.stop()
    assert cache.batches == [1, 2], "an outage was waited out already: not one by one"
    assert writer.dropped == 3


@pytest.mark.parametrize("error", [SchedulerError("no"), RuntimeError("a fault")])
def test_any_failure_is_a_loss_and_no_more(cache: Cache, writer: ActionCacheWriter, error: Exception) -> None:
    cache.error = error
    submit(writer, 0)
    writer.submit("", "not a digest", b"")
    writer.submit("", digest_key(DIGESTS[1]), b"\xff\xff not a result")
    writer.stop()
    assert writer.dropped == 3


def test_stop_gives_up_on_a_cache_that_hangs(cache: Cache) -> None:
    writer = ActionCacheWriter(cache, drain_seconds=0.05)
    writer.start()
    cache.open.clear()
    submit(writer, 0)
    assert cache.entered.wait(PATIENCE)
    submit(writer, 1, 2)
    writer.stop()
    assert writer.dropped == 2
    submit(writer, 3)
    assert writer.dropped == 3
    cache.open.set()
