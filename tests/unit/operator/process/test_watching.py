"""What the operator sees of a cluster that is played: lists, and watches that tell of nothing."""

import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from queue import Queue
from typing import cast

import pytest
from buildgrid_operator.cluster.client import Client, Listing
from buildgrid_operator.cluster.errors import KindMissing, Unreachable
from buildgrid_operator.cluster.kinds import CONFIG_MAP, POD, SCHEDULER, Kind, ObjectRef
from buildgrid_operator.process.event_stream import EventStream
from buildgrid_operator.process.relisting import STARTING
from buildgrid_operator.process.watching import CUSTOM, WATCHED, Watches
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.concerns import Key

from tests.unit.operator.reconcile.objects import Json, obj, ref

PATIENCE = 30.0
MAIN = ref(SCHEDULER, "main")


class Cluster:
    """Lists what it has, unless the list of a kind is to fail, once or for the time being."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._objects: dict[ObjectRef, Json] = {}
        self._version = 1
        self._broken: tuple[Kind, Exception] | None = None
        self.failures = 0
        self.lists = 0
        self.probes = 0
        self.gone: set[Kind] = set()

    def put(self, *objects: Json) -> None:
        with self._changed:
            self._objects |= {ObjectRef.of(each): each for each in objects}

    def delete(self, which: ObjectRef) -> None:
        with self._changed:
            del self._objects[which]
            self._version += 10

    def break_at(self, kind: Kind, error: Exception) -> None:
        with self._changed:
            self._broken = kind, error

    def mend(self) -> None:
        with self._changed:
            self._broken = None

    def list(self, kind: Kind, namespace: str | None = None, *, labels: str = "") -> Listing:
        with self._changed:
            if self._broken is not None and self._broken[0] == kind:
                self.failures += 1
                self._changed.notify_all()
                raise self._broken[1]
            self.lists += kind == WATCHED[-1]
            self._changed.notify_all()
            if kind in self.gone:
                raise KindMissing(f"no {kind}")
            return Listing(
                tuple(each for which, each in self._objects.items() if which.kind == kind), str(self._version)
            )

    def verbs(self, kind: Kind) -> dict[str, frozenset[str]]:
        with self._changed:
            self.probes += 1
            self._changed.notify_all()
            return {each.plural: frozenset({"get"}) for each in CUSTOM if each not in self.gone}

    def until(self, reached: Callable[[], bool]) -> None:
        """`reached` is looked at after each list."""
        with self._changed:
            assert self._changed.wait_for(reached, PATIENCE)


class SilentStream:
    """Watches that are open and tell of nothing."""

    def __init__(self) -> None:
        self.begun: Queue[Mapping[Kind, str]] = Queue()
        self.ended = 0

    def run(
        self,
        kinds: Mapping[Kind, str],
        namespaces: tuple[str, ...],
        happened: object,
        listed: object,
        stop: threading.Event,
    ) -> None:
        self.begun.put(kinds)
        stop.wait()
        self.ended += 1


class Operator:
    """The part that watches, by a clock that stands still unless it is set."""

    def __init__(self) -> None:
        self.cluster = Cluster()
        self.cluster.put(obj(SCHEDULER, "main"), obj(CONFIG_MAP, "config", scheduler="main"))
        self.stream = SilentStream()
        self.cache = Cache()
        self.keys: Queue[Key] = Queue()
        self.now = 1000.0
        self.watches = Watches(
            cast(Client, self.cluster),
            cast(EventStream, self.stream),
            self.cache,
            self.keys.put,
            retry=timedelta(milliseconds=1),
            tick=timedelta(milliseconds=1),
            clock=lambda: self.now,
        )

    def begins(self) -> None:
        """Starts, and sees the only Scheduler."""
        self.watches.start()
        self.stream.begun.get(timeout=PATIENCE)
        assert self.next_key() == MAIN

    def next_key(self) -> Key:
        return self.keys.get(timeout=PATIENCE)

    def problem(self) -> str | None:
        return self.watches.problem

    def all_watches_have_begun(self) -> None:
        self.now += STARTING.total_seconds() + 1


@pytest.fixture
def operator() -> Iterator[Operator]:
    operator = Operator()
    yield operator
    operator.cluster.mend()
    operator.watches.stop()


def test_what_is_deleted_while_the_watches_begin_is_found_when_they_have(operator: Operator) -> None:
    operator.begins()
    operator.cluster.delete(ref(CONFIG_MAP, "config"))
    operator.all_watches_have_begun()
    assert operator.next_key() == MAIN
    assert operator.cache.get(ref(CONFIG_MAP, "config")) is None
    assert operator.cluster.lists == 2


def test_the_watches_outlive_what_nobody_foresaw(
    operator: Operator, caplog: pytest.LogCaptureFixture
) -> None:
    operator.cluster.break_at(POD, KeyError("metadata"))
    operator.watches.start()
    operator.cluster.until(lambda: operator.cluster.failures >= 3)
    assert operator.problem() == "the cluster cannot be watched: KeyError: 'metadata'"
    told = [record for record in caplog.records if record.exc_info]
    assert [record.levelname for record in told] == ["ERROR"], "once, with its trace"
    operator.cluster.mend()
    operator.stream.begun.get(timeout=PATIENCE)
    assert operator.problem() is None
    assert operator.next_key() == MAIN


def test_the_lists_outlive_what_nobody_foresaw(operator: Operator, caplog: pytest.LogCaptureFixture) -> None:
    operator.begins()
    operator.cluster.break_at(POD, KeyError("metadata"))
    operator.all_watches_have_begun()
    operator.cluster.until(lambda: operator.cluster.failures >= 3)
    assert operator.problem() == "the cluster cannot be watched: KeyError: 'metadata'"
    assert len([record for record in caplog.records if record.exc_info]) == 1
    operator.cluster.mend()
    operator.cluster.until(lambda: operator.cluster.lists == 2)
    operator.watches.stop()  # when that list has been taken up
    assert operator.problem() is None


def test_a_list_that_fails_is_had_again_soon(operator: Operator, caplog: pytest.LogCaptureFixture) -> None:
    operator.begins()
    operator.cluster.delete(ref(CONFIG_MAP, "config"))
    operator.cluster.break_at(CONFIG_MAP, Unreachable("no route"))
    operator.all_watches_have_begun()
    operator.cluster.until(lambda: operator.cluster.failures >= 3)
    assert operator.problem() is None, "the watches are open"
    operator.cluster.mend()
    assert operator.next_key() == MAIN
    assert caplog.text.count("no route") == 1


def test_news_of_a_list_that_failed_later_are_not_lost(operator: Operator) -> None:
    operator.cluster.break_at(POD, Unreachable("no route"))
    operator.watches.start()
    operator.cluster.until(lambda: operator.cluster.failures >= 2)
    assert operator.problem() == "no route"
    assert operator.keys.empty(), "a pass would see only a part of what there is"
    operator.cluster.mend()
    assert operator.next_key() == MAIN


def _probe(operator: Operator) -> None:
    """One look whether the CRDs are there, and what follows."""
    before = operator.cluster.probes
    operator.now += 11
    operator.cluster.until(lambda: operator.cluster.probes == before + 1)


def test_crds_that_are_gone_are_missed_although_the_watches_stay_open(operator: Operator) -> None:
    operator.begins()
    operator.cluster.gone = {SCHEDULER}
    _probe(operator)
    _probe(operator)
    assert operator.next_key() == MAIN, "with its CRD it is gone"
    operator.cluster.until(lambda: operator.problem() is not None)
    assert "waits for the CRD of Scheduler" in str(operator.problem())
    operator.cluster.gone = set()
    operator.stream.begun.get(timeout=PATIENCE)
    assert operator.problem() is None
    assert operator.next_key() == MAIN


def test_discovery_that_lags_once_ends_no_watch(operator: Operator) -> None:
    operator.begins()
    operator.cluster.gone = {SCHEDULER}
    _probe(operator)
    operator.cluster.gone = set()
    _probe(operator)
    _probe(operator)
    assert operator.stream.ended == 0
    assert operator.problem() is None
