"""What Schedulers push: the newest state is kept, an end is told and begun anew."""

import queue
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_operator.cluster.fleet import Cancellable, FleetUnreachable
from buildgrid_operator.cluster.fleet_state import FleetState, Requirement
from buildgrid_operator.cluster.fleet_streams import SILENT_AFTER, FleetStreams
from buildgrid_operator.cluster.kinds import SCHEDULER, ObjectRef
from buildgrid_operator.desired.endpoints import FleetAddress

FARM = ObjectRef(SCHEDULER, "builds", "farm")
ADDRESS = FleetAddress("builds", "farm", "grpc://farm:50051")
END = object()


class Call:
    """One stream: it says what the test puts in."""

    def __init__(self) -> None:
        self.says: queue.Queue[object] = queue.Queue()

    def cancel(self) -> bool:
        self.says.put(FleetUnreachable("cancelled"))
        return True


class Replicas:
    """A source; what it is asked for is noted."""

    def __init__(self) -> None:
        self.asked: queue.Queue[FleetAddress] = queue.Queue()
        self._calls: queue.Queue[Call] = queue.Queue()
        self._call: Call | None = None

    def say(self, *said: object) -> None:
        """On the newest stream; waits for the first one."""
        while self._call is None or not self._calls.empty():
            self._call = self._calls.get(timeout=30)
        for each in said:
            self._call.says.put(each)

    def watch(self, address: FleetAddress, begun: Callable[[Cancellable], None]) -> Iterator[FleetState]:
        call = Call()
        begun(call)
        self._calls.put(call)
        self.asked.put(address)
        while True:
            said = call.says.get(timeout=30)
            if said is END:
                return
            if isinstance(said, Exception):
                raise said
            assert isinstance(said, FleetState)
            yield said


class Clock:
    now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Farm:
    """Streams with everything around them."""

    def __init__(self) -> None:
        self.replicas, self.clock = Replicas(), Clock()
        self.changed: queue.Queue[ObjectRef] = queue.Queue()
        self.streams = FleetStreams(self.replicas, self.changed.put, clock=self.clock, randomness=lambda: 0.0)

    def news(self) -> None:
        assert self.changed.get(timeout=30) == FARM


@pytest.fixture
def farm() -> Iterator[Farm]:
    made = Farm()
    yield made
    made.streams.stop()


def state(revision: int, queued: int = 0) -> FleetState:
    return FleetState(requirements=(Requirement("", "h", {}, queued),), revision=revision)


def test_the_newest_state_is_told_with_its_time(farm: Farm) -> None:
    assert farm.streams.follow(FARM, ADDRESS).state is None
    farm.replicas.say(state(1, 3))
    farm.news()
    heard = farm.streams.follow(FARM, ADDRESS)
    assert (heard.state, heard.at, heard.problem) == (state(1, 3), farm.clock.now, None)
    assert farm.replicas.asked.qsize() == 1


def test_a_heartbeat_is_no_news_and_keeps_the_state_fresh(farm: Farm) -> None:
    farm.streams.follow(FARM, ADDRESS)
    farm.replicas.say(state(1, 3))
    farm.news()
    farm.clock.now += timedelta(seconds=5)
    farm.replicas.say(state(2, 3))
    farm.replicas.say(state(3, 4))
    farm.news()
    assert farm.changed.empty()
    assert farm.streams.follow(FARM, ADDRESS).at == farm.clock.now


def test_a_replica_that_is_behind_is_not_believed_but_another_database_is_in_the_end(farm: Farm) -> None:
    farm.streams.follow(FARM, ADDRESS)
    farm.replicas.say(state(10, 1))
    farm.news()
    farm.replicas.say(state(9, 7))
    farm.replicas.say(state(11, 2))
    farm.news()
    heard = farm.streams.follow(FARM, ADDRESS).state
    assert heard is not None
    assert heard.queued == 2
    farm.clock.now += timedelta(seconds=6)
    farm.replicas.say(state(1, 5))
    farm.news()
    heard = farm.streams.follow(FARM, ADDRESS).state
    assert heard is not None
    assert heard.queued == 5


@pytest.mark.parametrize("end", [END, FleetUnreachable("nobody is there"), RuntimeError("a bug")])
def test_a_stream_that_ends_is_told_and_begun_anew(farm: Farm, end: object) -> None:
    farm.streams.follow(FARM, ADDRESS)
    farm.replicas.say(state(1, 3))
    farm.news()
    farm.replicas.say(end)
    farm.news()
    heard = farm.streams.follow(FARM, ADDRESS)
    assert heard.problem is not None
    assert heard.state == state(1, 3)
    for _ in range(2):
        farm.replicas.asked.get(timeout=30)
    farm.replicas.say(state(2, 3))
    farm.news()
    assert farm.streams.follow(FARM, ADDRESS).problem is None


def test_one_that_is_silent_is_asked_anew(farm: Farm) -> None:
    farm.streams.follow(FARM, ADDRESS)
    farm.replicas.say(state(1, 3))
    farm.news()
    farm.replicas.asked.get(timeout=30)
    farm.clock.now += SILENT_AFTER + timedelta(seconds=1)
    farm.streams.follow(FARM, ADDRESS)
    assert farm.replicas.asked.get(timeout=30) == ADDRESS


def test_another_address_is_another_stream_and_one_that_is_not_followed_ends(farm: Farm) -> None:
    farm.streams.follow(FARM, ADDRESS)
    farm.replicas.asked.get(timeout=30)
    elsewhere = FleetAddress("builds", "farm", "grpc://elsewhere:50051")
    farm.streams.follow(FARM, elsewhere)
    assert farm.replicas.asked.get(timeout=30) == elsewhere
    farm.streams.unfollow(FARM)
    threads = [each for each in threading.enumerate() if each.name == "fleet of farm"]
    for each in threads:
        each.join(30)
    assert not any(each.is_alive() for each in threads)
