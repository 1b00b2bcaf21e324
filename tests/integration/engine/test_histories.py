"""Random histories of clients, bots and operators on two replicas: what must hold, holds after each step.

Bots here are honest about what they were told, but messages and answers get lost, come twice and come
late; clients change their minds; sessions expire. Every step is a call of the engine on the real database.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.errors import DataLoss, InvalidArgument
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.requirements import Offer, pairs, requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.items import Enqueue, Synchronized
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import Base, LeaseEntry
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select, text

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
    result,
    success,
    synchronize,
)

EXAMPLES, STEPS = int(os.environ.get("HISTORIES", "30")), 30
LIMITS = AttemptLimits(max_job_attempts=3, max_infra_attempts=6)
NEEDS: list[dict[str, list[str]]] = [{}, {"Pool": ["large"]}]
OFFERS: list[Offer] = [frozenset(), pairs({"Pool": ["large"]})]
INSTANCES = ["", "team/a"]
ENDS = {"ok": success(), "exit 1": success(exit_code=1), "retry": failure(), "failed": failure(code=9)}


@dataclass
class Bot:
    """What a bot believes."""

    bot_id: str
    instance: str
    capacity: int
    offer: Offer
    session: str = ""
    leases: dict[str, Report] = field(default_factory=dict)
    last_message: dict[str, Report] = field(default_factory=dict)

    def hear(self, answer: Synchronized) -> None:
        """An answer arrives."""
        told = {tell.job_name: tell for tell in answer.leases}
        for job in list(self.leases):
            if self.leases[job].state in (COMPLETED, CANCELLED) or job not in told:
                del self.leases[job]
        for job, tell in told.items():
            if tell.state is CANCELLED:
                self.leases[job] = Report(CANCELLED)
            elif job not in self.leases:
                assert tell.state is PENDING
                assert tell.action is not None, "a bot can do nothing without the action"
                self.leases[job] = Report(PENDING)


class Histories(RuleBasedStateMachine):
    """See the module."""

    provider: SqlProvider
    replicas: tuple[Replica, Replica]

    operations = Bundle("operations")
    requests = Bundle("requests")
    bots = Bundle("bots")

    def __init__(self) -> None:
        super().__init__()
        # Requirements stay: a replica writes each of them once.
        tables = [t.name for t in Base.metadata.sorted_tables if t.name != "requirements"]
        with self.provider.session() as session:
            session.execute(text(f"TRUNCATE {', '.join(tables)}"))
        self.numbers = count()
        self.answers: dict[str, re_pb2.ExecuteResponse] = {}
        self.wanted: set[str] = set()
        """operations that nobody cancelled"""

    def at(self, which: bool) -> Replica:
        return self.replicas[which]

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
        which=st.booleans(),
    )
    def a_bot_comes(self, capacity: int, offer: Offer, instance: str, which: bool) -> Bot:
        bot = Bot(f"bot {next(self.numbers)}", instance, capacity, offer)
        self.open(bot, self.at(which))
        return bot

    def open(self, bot: Bot, at: Replica) -> None:
        bot.session = at.open(bot.bot_id, capacity=bot.capacity, instance=bot.instance)
        bot.leases.clear()
        bot.last_message.clear()

    def call(
        self, bot: Bot, at: Replica, reports: dict[str, Report], status: BotStatus, offered: bool
    ) -> Synchronized | None:
        at.look()
        before = self.leased(bot)
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
        finished = {job for job, report in reports.items() if report.state is COMPLETED}
        assert not finished & {t.job_name for t in answer.leases if t.state is not CANCELLED}
        if status is not BotStatus.OK:
            assert {t.job_name for t in answer.leases if t.state is PENDING} <= before, "it is not well"
        return answer

    def leased(self, bot: Bot) -> set[str]:
        with self.provider.session() as session:
            query = select(LeaseEntry.job_name).where(LeaseEntry.session_name == bot.session)
            return set(session.execute(query).scalars())

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

    @rule(bot=bots, end=st.sampled_from(sorted(ENDS)), data=st.data())
    def an_action_ends(self, bot: Bot, end: str, data: st.DataObject) -> None:
        running = sorted(job for job, report in bot.leases.items() if report.state in (PENDING, ACTIVE))
        if running:
            bot.leases[data.draw(st.sampled_from(running))] = ENDS[end]

    @rule(bot=bots)
    def all_actions_start(self, bot: Bot) -> None:
        for job, report in bot.leases.items():
            if report.state is PENDING:
                bot.leases[job] = Report(ACTIVE)

    @rule(bot=bots)
    def a_bot_forgets_its_leases(self, bot: Bot) -> None:
        bot.leases.clear()

    @rule(bot=bots, which=st.booleans())
    def a_bot_starts_anew(self, bot: Bot, which: bool) -> None:
        self.open(bot, self.at(which))

    @rule(bot=consumes(bots), which=st.booleans(), gone=st.booleans())
    def a_bot_goes(self, bot: Bot, which: bool, gone: bool) -> None:
        if gone:  # without a word
            return
        at = self.at(which)
        at.call(at.engine.sessions.close(bot.instance, bot.session, "it was closed"))

    # --- time and operators

    @rule(share=st.sampled_from([0.4, 2.0]))
    def time_passes(self, share: float) -> None:
        self.replicas[0].clock.advance(KEEPALIVE * share)
        while self.replicas[0].reap():
            pass

    @rule(bot=bots, needs=st.sampled_from(NEEDS), by_age=st.booleans(), which=st.booleans())
    def assign_by_name(self, bot: Bot, needs: dict[str, list[str]], by_age: bool, which: bool) -> None:
        if pairs(needs) <= bot.offer:
            transaction = assign_waiting(bot.instance, requirement_hash(needs), [bot.session], by_age=by_age)
            assert self.at(which).call(transaction) in ([], [bot.session])

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
        for instance in INSTANCES:
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
