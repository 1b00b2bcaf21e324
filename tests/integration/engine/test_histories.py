"""Random histories of clients, bots and operators on two replicas: what must hold, holds after each step.

Bots here are honest about what they were told, but messages and answers get lost, come twice and come
late; clients change their minds; sessions expire, bots vanish, are drained and undrained. Every step is a
call of the engine on the real database.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.errors import DataLoss, InvalidArgument
from buildgrid_scheduler.core.history import EventKind
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.requirements import Offer, pairs, requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.draining import (
    drain_if_idle,
    drain_some_if_idle,
    drain_when_idle,
    undrain,
)
from buildgrid_scheduler.engine.expiring import end_overlong, end_unserved
from buildgrid_scheduler.engine.history import JobHistories
from buildgrid_scheduler.engine.items import Enqueue, Synchronized
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import JobEntry, LeaseEntry, QueueEntry
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from tests.integration.engine.believing_bot import Bot
from tests.integration.engine.replica import (
    ACTIVE,
    CANCELLED,
    COMPLETED,
    KEEPALIVE,
    PENDING,
    Replica,
    Report,
    SteppingClock,
    check_invariants,
    enqueue,
    failure,
    forget_everything,
    result,
    success,
    synchronize,
)

EXAMPLES, STEPS = int(os.environ.get("HISTORIES", "30")), 30
LIMITS = AttemptLimits(max_job_attempts=3, max_infra_attempts=6)
NEEDS: list[dict[str, list[str]]] = [{}, {"Pool": ["large"]}]
OFFERS: list[Offer] = [frozenset(), pairs({"Pool": ["large"]})]
INSTANCES = ["", "", "team/a"]
CLASSES = ["", "spot", "firm"]
ENDS = {"ok": success(), "exit 1": success(exit_code=1), "retry": failure(), "failed": failure(code=9)}


class Histories(RuleBasedStateMachine):
    """See the module."""

    provider: SqlProvider
    replicas: tuple[Replica, Replica]

    operations = Bundle("operations")
    requests = Bundle("requests")
    bots = Bundle("bots")

    def __init__(self) -> None:
        super().__init__()
        forget_everything(self.provider)
        self.marks: set[tuple[str, str]] = set()
        """(instance, bot_id) of the bots that are drained"""
        self.numbers = count()
        self.answers: dict[str, re_pb2.ExecuteResponse] = {}
        self.wanted: set[str] = set()
        """operations that nobody cancelled"""

    def at(self, which: bool) -> Replica:
        return self.replicas[which]

    # --- how it begins: a history that had to come this far by itself would rarely come further

    @initialize(target=bots, classes=st.permutations(CLASSES), whole=st.booleans())
    def a_farm(self, classes: list[str], whole: bool) -> MultipleResults[Bot]:
        kinds = zip((3, 1, 3), classes, strict=True)
        offers = (OFFERS[1], OFFERS[whole], OFFERS[1])
        return multiple(
            *(self.new_bot(c, offers[n], "", kind, bool(n % 2)) for n, (c, kind) in enumerate(kinds))
        )

    @initialize(target=requests, priorities=st.lists(st.integers(-1, 1), min_size=3, max_size=6))
    def a_build(self, priorities: list[int]) -> MultipleResults[Enqueue]:
        return multiple(
            *(
                self.asked(bool(n % 2), enqueue(f"action {n}", priority=priority, needs=NEEDS[n % 2]))
                for n, priority in enumerate(priorities)
            )
        )

    # --- clients

    @rule(
        target=requests,
        word=st.sampled_from("abcd"),
        which=st.booleans(),
        priority=st.integers(-1, 1),
        do_not_cache=st.booleans(),
        instance=st.sampled_from(INSTANCES),
        needs=st.sampled_from(NEEDS),
        born=st.booleans(),
    )
    def ask(
        self,
        word: str,
        which: bool,
        priority: int,
        do_not_cache: bool,
        instance: str,
        needs: dict[str, list[str]],
        born: bool,
    ) -> Enqueue:
        cached = re_pb2.ExecuteResponse(cached_result=True).SerializeToString()
        response = cached if born and word == "d" else None
        item = enqueue(
            word,
            priority=priority,
            instance=instance,
            do_not_cache=do_not_cache and response is None,
            needs=needs,
            response=response,
        )
        return self.asked(which, item)

    def asked(self, which: bool, item: Enqueue) -> Enqueue:
        self.at(which).submit(item)
        enqueued = result(item)
        self.wanted.add(enqueued.operation_name)
        return item

    @rule(request=requests, which=st.booleans())
    def ask_again_after_an_unheard_commit(self, request: Enqueue, which: bool) -> None:
        before = self.at(which).load(request.operation_name)
        again = Enqueue(Ticket(), request.operation_name, request.job, tried=True)
        self.at(which).submit(again)
        result(again)
        assert self.at(which).load(request.operation_name) == before

    @rule(request=requests, which=st.booleans())
    def cancel(self, request: Enqueue, which: bool) -> None:
        self.wanted.discard(request.operation_name)
        self.at(which).cancel(request.operation_name, request.job.instance)

    # --- bots

    @rule(
        target=bots,
        capacity=st.sampled_from([1, 1, 3]),
        offer=st.sampled_from(OFFERS),
        instance=st.sampled_from(INSTANCES),
        capacity_class=st.sampled_from(CLASSES),
        which=st.booleans(),
    )
    def a_bot_comes(
        self, capacity: int, offer: Offer, instance: str, capacity_class: str, which: bool
    ) -> Bot:
        return self.new_bot(capacity, offer, instance, capacity_class, which)

    def new_bot(self, capacity: int, offer: Offer, instance: str, capacity_class: str, which: bool) -> Bot:
        bot = Bot(f"bot {next(self.numbers)}", instance, capacity, offer, capacity_class)
        self.open(bot, self.at(which))
        return bot

    def open(self, bot: Bot, at: Replica) -> None:
        bot.session = at.open(
            bot.bot_id, capacity=bot.capacity, instance=bot.instance, capacity_class=bot.capacity_class
        )
        bot.leases.clear()
        bot.last_message.clear()

    def call(
        self, bot: Bot, at: Replica, reports: dict[str, Report], status: BotStatus, offered: bool
    ) -> Synchronized | None:
        at.look()
        before, kept_from_it = self.leased(bot), self.avoiding(bot)
        item = synchronize(
            bot.session,
            bot.bot_id,
            reports=reports,
            status=status,
            instance=bot.instance,
            offer=bot.offer if offered else None,
        )
        at.submit(item)
        try:
            answer: Synchronized = result(item)
        except (DataLoss, InvalidArgument):
            self.open(bot, at)
            return None
        self.was_given_what_it_may(bot, before, kept_from_it)
        finished = {job for job, report in reports.items() if report.state is COMPLETED}
        assert not finished & {t.job_name for t in answer.leases if t.state is not CANCELLED}
        if status is not BotStatus.OK:
            assert {t.job_name for t in answer.leases if t.state is PENDING} <= before, "it is not well"
        return answer

    def leased(self, bot: Bot) -> set[str]:
        with self.provider.session() as session:
            query = select(LeaseEntry.job_name).where(LeaseEntry.session_name == bot.session)
            return set(session.execute(query).scalars())

    def avoiding(self, bot: Bot) -> set[str]:
        """The jobs that are not for bots of this class now."""
        with self.provider.session() as session:
            query = select(QueueEntry.job_name).where(
                QueueEntry.instance_name == bot.instance,
                QueueEntry.avoid_class == bot.capacity_class,
                QueueEntry.avoid_until > self.replicas[0].clock(),
            )
            return set(session.execute(query).scalars())

    def was_given_what_it_may(self, bot: Bot, before: set[str], kept_from_it: set[str]) -> None:
        given = self.leased(bot) - before
        assert not given or (bot.instance, bot.bot_id) not in self.marks, "it is drained"
        assert not given & kept_from_it, "a job went to the class that it avoids"

    @rule(
        bot=bots,
        which=st.booleans(),
        heard=st.sampled_from([True, True, True, False]),
        offered=st.sampled_from([True, True, False]),
        status=st.sampled_from([BotStatus.OK] * 4 + [BotStatus.UNHEALTHY, BotStatus.BOT_TERMINATING]),
    )
    def report(self, bot: Bot, which: bool, heard: bool, offered: bool, status: BotStatus) -> None:
        bot.last_message = dict(bot.leases)
        answer = self.call(bot, self.at(which), bot.last_message, status, offered)
        if heard and answer is not None:
            bot.hear(answer)

    @rule(bot=bots, which=st.booleans())
    def report_twice(self, bot: Bot, which: bool) -> None:
        """The message arrives again before the bot has done anything."""
        answer = self.call(bot, self.at(which), bot.last_message, BotStatus.OK, True)
        if answer is not None and bot.leases == bot.last_message:
            bot.hear(answer)

    @rule(bot=bots, which=st.booleans(), data=st.data())
    def a_bot_works(self, bot: Bot, which: bool, data: st.DataObject) -> None:
        """It starts what it has, or comes to the end of it, and says so."""
        for job in bot.running:
            end = data.draw(st.sampled_from(["", "", *sorted(ENDS)]))
            bot.leases[job] = ENDS[end] if end else Report(ACTIVE)
        self.report(bot, which, True, True, BotStatus.OK)

    @rule(bot=bots, end=st.sampled_from(sorted(ENDS)), data=st.data())
    def an_action_ends(self, bot: Bot, end: str, data: st.DataObject) -> None:
        if bot.running:
            bot.leases[data.draw(st.sampled_from(bot.running))] = ENDS[end]

    @rule(bot=bots)
    def a_bot_forgets_its_leases(self, bot: Bot) -> None:
        bot.leases.clear()

    @rule(bot=bots, which=st.booleans())
    def a_bot_starts_anew(self, bot: Bot, which: bool) -> None:
        self.open(bot, self.at(which))

    @rule(bot=bots, which=st.booleans(), restarts=st.booleans())
    def a_bot_crashes_while_it_works(self, bot: Bot, which: bool, restarts: bool) -> None:
        self.a_bot_works_for_a_while(bot, which)
        if restarts:
            self.open(bot, self.at(not which))
        else:
            self.at(not which).close(bot.session, bot.instance)

    @rule(bot=bots, beside=bots, which=st.booleans())
    def a_bot_crashes_beside_another(self, bot: Bot, beside: Bot, which: bool) -> None:
        """What it had falls to one that may be busy, and is not to disturb what runs there."""
        self.a_bot_works_for_a_while(bot, which)
        self.a_bot_works_for_a_while(beside, which)
        self.a_bot_crashes_while_it_works(bot, which, restarts=False)
        self.a_bot_works_for_a_while(beside, not which)

    def a_bot_works_for_a_while(self, bot: Bot, which: bool) -> None:
        for _ in range(2):
            self.report(bot, which, True, True, BotStatus.OK)
            bot.start_all()

    @rule(bot=consumes(bots), which=st.booleans(), gone=st.booleans())
    def a_bot_goes(self, bot: Bot, which: bool, gone: bool) -> None:
        if gone:  # without a word
            return
        self.at(which).close(bot.session, bot.instance)

    # --- time and operators

    @rule(share=st.sampled_from([0.02, 0.4, 2.0]), which=st.booleans())
    def time_passes(self, share: float, which: bool) -> None:
        at = self.at(which)
        at.clock.advance(KEEPALIVE * share)
        while at.reap():
            pass
        at.call(end_overlong(KEEPALIVE / 3, at_once=2, policy=at.engine.policy))
        at.call(end_unserved(2 * KEEPALIVE, at_once=2, policy=at.engine.policy))

    @rule(bot=bots, needs=st.sampled_from(NEEDS), by_age=st.booleans(), which=st.booleans())
    def assign_by_name(self, bot: Bot, needs: dict[str, list[str]], by_age: bool, which: bool) -> None:
        if pairs(needs) <= bot.offer:
            transaction = assign_waiting(bot.instance, requirement_hash(needs), [bot.session], by_age=by_age)
            before, kept_from_it = self.leased(bot), self.avoiding(bot)
            assert self.at(which).call(transaction) in ([], [bot.session])
            self.was_given_what_it_may(bot, before, kept_from_it)

    @rule(bot=bots, which=st.booleans(), if_idle=st.booleans(), disrupted=st.booleans())
    def drain(self, bot: Bot, which: bool, if_idle: bool, disrupted: bool) -> None:
        names = [bot.bot_id]
        if if_idle:
            marked = self.at(which).call(drain_if_idle(bot.instance, names))
            assert marked == ([] if self.leased(bot) else names)
        else:
            marked = self.at(which).call(drain_when_idle(bot.instance, names, disrupted=disrupted))
            assert marked == names
        self.marks.update((bot.instance, name) for name in marked)

    @rule(instance=st.sampled_from(INSTANCES), number=st.integers(1, 3), which=st.booleans())
    def drain_some_if_they_are_idle(self, instance: str, number: int, which: bool) -> None:
        marked = self.at(which).call(drain_some_if_idle(instance, number))
        assert len(marked) == len(set(marked)) <= number
        assert not self.marks & {(instance, name) for name in marked}, "it was marked before"
        assert all(self.at(which).drained(instance)[name].done for name in marked)
        self.marks.update((instance, name) for name in marked)

    @rule(bot=bots, which=st.booleans())
    def undrain(self, bot: Bot, which: bool) -> None:
        mark = (bot.instance, bot.bot_id)
        had_one = self.at(which).call(undrain(bot.instance, [bot.bot_id]))
        assert had_one == ([bot.bot_id] if mark in self.marks else [])
        self.marks.discard(mark)

    # --- what holds

    @invariant()
    def the_database_is_in_order(self) -> None:
        check_invariants(self.provider, LIMITS)

    @invariant()
    def an_answer_once_given_is_final(self) -> None:
        for operation in [*self.answers, *self.wanted]:
            answer = self.replicas[0].response(operation)
            if answer is not None:
                assert self.answers.setdefault(operation, answer) == answer
            assert operation not in self.answers or answer is not None, "done, and then not"
        for operation in self.wanted & set(self.answers):
            assert self.answers[operation].status.code != 1, "nobody cancelled it"

    def teardown(self) -> None:
        """A bot that does everything comes: every job that anybody waits for gets done."""
        for instance in sorted(set(INSTANCES)):
            at = self.replicas[1]
            at.clock.advance(2 * KEEPALIVE)
            while at.reap():
                pass
            session = at.open("the last", capacity=50, instance=instance)
            reports: dict[str, Report] = {}
            while True:
                at.look()
                item = synchronize(session, "the last", reports=reports, offer=OFFERS[1], instance=instance)
                at.submit(item)
                answer: Synchronized = result(item)
                if not answer.leases:
                    break
                reports = {tell.job_name: success() for tell in answer.leases}
        for operation in self.wanted:
            assert self.replicas[0].stage(operation) is Stage.COMPLETED, "a job was lost"
        self.every_job_tells_its_history()

    def every_job_tells_its_history(self) -> None:
        histories = JobHistories(self.provider)
        with self.provider.session() as session:
            jobs = session.execute(select(JobEntry)).scalars().all()
        for job in jobs:
            events = histories.load(job.instance_name, job.name).events
            kinds = [event.kind for event in events]
            assert kinds[0] is EventKind.QUEUED
            assert kinds[-1] in (EventKind.CANCELLED, EventKind.COMPLETED, EventKind.TIMED_OUT)
            assert kinds.count(EventKind.RETRIED) == job.n_tries - 1 + job.n_infra_tries
            assert [event.at for event in events] == sorted(event.at for event in events)


@contextmanager
def _replicas(provider: SqlProvider) -> Iterator[None]:
    clock = SteppingClock()
    Histories.provider = provider
    Histories.replicas = (
        Replica(provider, limits=LIMITS, clock=clock),
        Replica(provider, limits=LIMITS, clock=clock, priority_percentage=50),
    )
    try:
        yield
    finally:
        for replica in Histories.replicas:
            replica.stop()


@pytest.mark.timeout(600)
def test_random_histories_lose_no_job_and_give_none_twice(provider: SqlProvider) -> None:
    with _replicas(provider):
        bounds = settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(Histories, settings=bounds)
