"""Bots with many properties, 64 of each kind: every job finds one of its own, and none goes elsewhere.

No single property tells the kinds apart. Each kind lacks one group of features that all others have, so a
job that wants a feature of each other group fits one kind alone: by the whole of what it asks, several values
of one key, and by nothing less.
"""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession
from buildgrid_scheduler import (
    BotStatus,
    DynamicPropertySet,
    FailedPrecondition,
    PropertyLabel,
    Scheduler,
    SqlProvider,
    StaticPropertySet,
)
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.engine.items import Call, Synchronize
from buildgrid_scheduler.engine.round import Round
from buildgrid_scheduler.engine.sessions import NewSession
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.properties.matching import Matching
from buildgrid_scheduler.server.metrics.engine import EngineMetrics
from buildgrid_scheduler.storage.memory import MemoryStorage
from prometheus_client import CollectorRegistry

from tests.farm.waiting import eventually_sync
from tests.integration.engine.replica import check_invariants, enqueue, result, success, synchronize

KINDS = range(4)
OF_EACH_KIND = 64
NO_SAFETY_NET = 60.0
"""Seconds between looks at the queue: longer than any test, so that what is not woken is noticed."""
Pair = tuple[str, str]

COMMON: frozenset[Pair] = frozenset(
    {("OSFamily", "linux"), ("ISA", "x86-64"), ("ISA", "i386")}
    | {("Toolchain", f"gcc-{version}") for version in range(9, 15)}
    | {("Library", f"lib{letter}") for letter in "abcdefg"}
)
GROUPS = [frozenset(("Feature", f"{group}.{n}") for n in range(3)) for group in KINDS]
OFFERED = [COMMON.union(*(group for number, group in enumerate(GROUPS) if number != kind)) for kind in KINDS]
"""by kind, what each of its bots has: 25 properties"""
KEYS = {"OSFamily", "ISA", "Toolchain", "Library", "Feature"}


class Dynamic(DynamicPropertySet):
    """One that cannot list what a bot may take."""

    def worker_properties(self, bot_session: BotSession) -> list[dict[str, list[str]]]:
        raise AssertionError("the subsets are listed")


class Static(StaticPropertySet):
    """One that cannot list what a bot may take."""

    def worker_properties(self, bot_session: BotSession) -> list[dict[str, list[str]]]:
        raise AssertionError("the labels are listed")


def dynamic() -> Dynamic:
    return Dynamic(unique_property_keys={"OSFamily"}, match_property_keys=KEYS, wildcard_property_keys=set())


def static() -> Static:
    """The first label is common to all kinds; the others are those of one each, of 22 properties."""
    plain = PropertyLabel("plain", set(COMMON))
    without = sorted(COMMON)[:3]
    labels = [PropertyLabel(f"kind {kind}", set(OFFERED[kind]) - set(without)) for kind in KINDS]
    return Static(property_labels=[plain, *labels], wildcard_property_keys=set())


class Looks(EngineMetrics):
    """Counts, beside what is always counted, what was asked of the database to match bots and jobs."""

    def __init__(self) -> None:
        super().__init__(CollectorRegistry())
        self.claims: list[int] = []
        """in each round"""
        self.hashes: list[int] = []
        """that each claim looked at"""

    def round(self, work: Round) -> None:
        super().round(work)
        self.claims.append(len(work.claims))
        self.hashes += [len(claim.marks) for claim in work.claims]


class Farm:
    """A scheduler, its bots and its jobs."""

    def __init__(self, provider: SqlProvider, property_set: Dynamic | Static) -> None:
        self.scheduler = Scheduler(
            provider,
            MemoryStorage(),
            property_set=property_set,
            job_assignment_interval=NO_SAFETY_NET,
            session_expiry_timer_interval=0,
        )
        self.looks = Looks()
        self.scheduler.engine.observe(self.looks)
        self.kind_of: dict[str, int] = {}
        """by job"""
        self.wanted: dict[str, frozenset[Pair]] = {}
        """by job: what it asked for"""
        self._properties = property_set
        self._matching = Matching(property_set)
        self._random = random.Random(1)
        self._numbers = itertools.count()

    def connect(self, kind: int) -> list[tuple[str, str, Offer]]:
        """Open the sessions of a kind's bots: (session, bot_id, offer) of each."""
        bots = []
        for number in range(OF_EACH_KIND):
            described = BotSession(bot_id=f"bot {kind}.{number}")
            device = described.worker.devices.add()
            for key, value in self._random.sample(sorted(OFFERED[kind]), 25):
                device.properties.add(key=key, value=value)
            device.properties.add(key="Rack", value=str(number))  # known to nobody, and in nobody's way
            bots.append((f"{kind}.{number}", described.bot_id, self._matching.offer(described)))
        engine = self.scheduler.engine
        opened = []
        for name, bot_id, offer in bots:
            item: Call[Any] = Call(Ticket(), engine.sessions.open(NewSession(name, "", bot_id, BotStatus.OK)))
            engine.submit(item)
            opened.append(item)
            assert len(offer) <= len(OFFERED[kind])
        for item in opened:
            result(item)
        return bots

    def call(self, bots: list[tuple[str, str, Offer]], *, hold: bool) -> list[Synchronize]:
        """Let bots ask for work."""
        calls = [synchronize(session, bot_id, offer=offer, hold=hold) for session, bot_id, offer in bots]
        for call in calls:
            self.scheduler.engine.submit(call)
        return calls

    def until_held(self, number: int) -> None:
        """Return when so many calls are held."""
        waiting = self.scheduler.engine.waiting
        eventually_sync(lambda: waiting.held == number, 30, lambda: f"{waiting.held} calls are held")

    def settle(self) -> None:
        """Return when whatever was submitted is done, and what that led to."""
        for _ in range(2):
            result(self.call([("nobody", "nobody", frozenset())], hold=False)[0], quiet=True)

    def ask(self, platforms: list[tuple[int, frozenset[Pair]]]) -> list[str]:
        """Queue a job for each (kind, what it asks for); returns their names."""
        items = []
        for kind, pairs in platforms:
            shuffled = self._random.sample(sorted(pairs), len(pairs))
            platform = Platform(properties=[Platform.Property(name=k, value=v) for k, v in shuffled])
            label, needs = self._properties.execution_properties(platform)
            item = enqueue(f"job {next(self._numbers)}", needs=needs, label=label)
            self.kind_of[item.job.name], self.wanted[item.job.name] = kind, pairs
            items.append(item)
        for item in items:
            self.scheduler.engine.submit(item)
        return [result(item).job_name for item in items]

    def platforms(self, kind: int, number: int = OF_EACH_KIND) -> list[tuple[int, frozenset[Pair]]]:
        """So many different things to ask for that this kind alone has."""
        found: set[frozenset[Pair]] = set()
        while len(found) < number:
            features = {self._random.choice(sorted(group)) for n, group in enumerate(GROUPS) if n != kind}
            others = self._random.sample(sorted(COMMON)[3:], self._random.randint(0, 12))
            found.add(frozenset({*features, *others}))
        return [(kind, pairs) for pairs in sorted(found, key=sorted)]

    def got(self, calls: list[Synchronize]) -> dict[str, str]:
        """By session, the job that it was given, once all have been given one, of their kind."""
        given = {}
        for call in calls:
            (told,) = result(call).leases
            kind = int(call.session_name.partition(".")[0])
            assert self.wanted[told.job_name] <= OFFERED[kind], "it lacks what the job asks for"
            assert self.kind_of[told.job_name] == kind
            given[call.session_name] = told.job_name
        assert max(Counter(given.values()).values()) == 1, "a job was given twice"
        return given

    def complete(self, given: dict[str, str]) -> None:
        """Let the bots be done with it."""
        calls = []
        for session, job in given.items():
            call = synchronize(session, f"bot {session}", reports={job: success()}, offer=None)
            self.scheduler.engine.submit(call)
            calls.append(call)
        assert all(result(call).leases == () for call in calls)


@pytest.fixture(params=[dynamic, static])
def farm(provider: SqlProvider, request: pytest.FixtureRequest) -> Iterator[Farm]:
    make: Callable[[], Dynamic | Static] = request.param
    farm = Farm(provider, make())
    with farm.scheduler:
        eventually_sync(lambda: farm.scheduler.listening, 30, lambda: "it does not reach the database")
        yield farm
    check_invariants(provider)


def test_a_bot_has_25_properties_of_which_each_is_shared_with_other_kinds() -> None:
    for kind in KINDS:
        assert len(OFFERED[kind]) == 25
        for pair in OFFERED[kind]:
            assert any(pair in OFFERED[other] for other in KINDS if other != kind)


def test_of_all_kinds_that_wait_each_job_wakes_a_bot_of_its_own(farm: Farm) -> None:
    bots = [bot for kind in KINDS for bot in farm.connect(kind)]
    random.Random(2).shuffle(bots)
    calls = farm.call(bots, hold=True)
    farm.until_held(len(KINDS) * OF_EACH_KIND)
    jobs = farm.ask([platform for kind in KINDS for platform in farm.platforms(kind)])
    assert len(set(farm.wanted.values())) == len(jobs), "no two ask for the same"
    given = farm.got(calls)
    assert sorted(given.values()) == sorted(jobs)
    farm.complete(given)


def test_bots_that_come_later_take_their_own_and_leave_the_rest(farm: Farm) -> None:
    jobs = farm.ask([platform for kind in KINDS for platform in farm.platforms(kind)])
    absent = KINDS[-1]
    early = [bot for kind in KINDS[:-1] for bot in farm.connect(kind)]
    given = farm.got(farm.call(early, hold=False))
    assert sorted(given.values()) == sorted(job for job in jobs if farm.kind_of[job] != absent)
    farm.complete(given)
    idle = farm.call(early, hold=False)
    assert all(result(call).leases == () for call in idle), "what waits is not for them"
    late = farm.got(farm.call(farm.connect(absent), hold=False))
    assert sorted(late.values()) == sorted(job for job in jobs if farm.kind_of[job] == absent)
    farm.complete(late)


def test_what_all_kinds_have_is_taken_by_any(farm: Farm) -> None:
    bots = [bot for kind in KINDS for bot in farm.connect(kind)[:2]]
    jobs = farm.ask([(0, frozenset({pair})) for pair in sorted(COMMON)[: len(bots)]])
    taken = [result(call).leases[0].job_name for call in farm.call(bots, hold=False)]
    assert sorted(taken) == sorted(jobs)
    farm.complete({bot[0]: job for bot, job in zip(bots, taken, strict=True)})


def test_what_no_kind_has_waits_or_is_refused_and_is_given_to_nobody(farm: Farm) -> None:
    everything = frozenset(sorted(group)[0] for group in GROUPS)
    if isinstance(farm.scheduler.property_set, StaticPropertySet):
        with pytest.raises(FailedPrecondition, match="no label has all"):
            farm.ask([(0, everything)])
        return
    bots = [bot for kind in KINDS for bot in farm.connect(kind)]
    calls = farm.call(bots, hold=True)
    farm.until_held(len(bots))
    farm.ask([(0, everything)])
    farm.settle()
    assert not any(call.ticket.future.done() for call in calls)


def test_what_is_looked_at_does_not_grow_with_bots_and_their_properties(farm: Farm) -> None:
    farm.ask([platform for kind in KINDS for platform in farm.platforms(kind)])
    bots = [bot for kind in KINDS for bot in farm.connect(kind)]
    farm.complete(farm.got(farm.call(bots, hold=False)))
    assert max(farm.looks.claims) <= len(KINDS), "one claim for all bots of a kind that ask at once"
    assert max(farm.looks.hashes) <= OF_EACH_KIND, "a bot looks at what waits for it, and at nothing else"
