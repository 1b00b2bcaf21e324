"""Random histories of clients, bots and operators on two replicas: what must hold, holds after each step.

Bots here are honest about what they were told, but messages and answers get lost, come twice and come
late; clients change their minds, or are seen no more; sessions expire, bots vanish, never begin, are drained
and undrained; connections are lost before and after commits. Every step is a call of the engine on the real
database. HISTORIES=2000 in the environment runs so many, for who has half an hour.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.requirements import Offer, pairs, requirement_hash
from buildgrid_scheduler.engine.abandoned import cancel_abandoned
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.draining import (
    drain_if_idle,
    drain_some_if_idle,
    drain_when_idle,
    undrain,
)
from buildgrid_scheduler.engine.expiring import end_overlong, end_unserved
from buildgrid_scheduler.engine.items import Enqueue, Synchronized
from buildgrid_scheduler.engine.operations import share
from buildgrid_scheduler.engine.unstarted import take_back_unstarted
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.provider import SqlProvider
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

from tests.integration.engine.believing_bot import Bot
from tests.integration.engine.faults import ERRANDS, WRITER, faults_on_demand
from tests.integration.engine.random_farm import LIMITS, Farm
from tests.integration.engine.replica import (
    ACTIVE,
    KEEPALIVE,
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
NEEDS: list[dict[str, list[str]]] = [{}, {"Pool": ["large"]}]
OFFERS: list[Offer] = [frozenset(), pairs({"Pool": ["large"]})]
INSTANCES = ["", "", "team/a"]
CLASSES = ["", "spot", "firm"]
ENDS = {"ok": success(), "exit 1": success(exit_code=1), "retry": failure(), "failed": failure(code=9)}


class Histories(Farm, RuleBasedStateMachine):
    """See the module."""

    lived = 0
    requests = Bundle("requests")
    bots = Bundle("bots")

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

    @rule(request=requests, which=st.booleans())
    def ask_again_after_an_unheard_commit(self, request: Enqueue, which: bool) -> None:
        before = self.at(which).load(request.operation_name)
        again = Enqueue(Ticket(), request.operation_name, request.job, tried=True)
        self.at(which).submit(again)
        result(again)
        assert self.at(which).load(request.operation_name) == before

    @rule(request=requests)
    def somebody_follows(self, request: Enqueue) -> None:
        self.follow(request.operation_name)

    @rule(target=requests, request=requests, which=st.booleans(), priority=st.integers(-1, 1))
    def join(self, request: Enqueue, which: bool, priority: int) -> Enqueue:
        """Another operation on what runs, by its action."""
        job, name = request.job, str(uuid.uuid4())
        transaction = share(job.instance, name, job.action_digest, priority=priority)
        if not self.at(which).call(transaction):
            return request
        self.wanted.add(name)
        return Enqueue(Ticket(), name, replace(job, name=self.at(which).load(name).job_name))

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

    @rule(
        bot=bots,
        which=st.booleans(),
        heard=st.sampled_from([True, True, True, False]),
        offered=st.sampled_from([True, True, False]),
        status=st.sampled_from([BotStatus.OK] * 4 + [BotStatus.UNHEALTHY, BotStatus.BOT_TERMINATING]),
    )
    def report(self, bot: Bot, which: bool, heard: bool, offered: bool, status: BotStatus) -> None:
        self.say(bot, which, heard=heard, offered=offered, status=status)

    @rule(bot=bots, which=st.booleans())
    def report_twice(self, bot: Bot, which: bool) -> None:
        """The message arrives again before the bot has done anything."""
        answer = self.call(bot, self.at(which), bot.last_message, BotStatus.OK, True)
        if answer is not None and bot.leases == bot.last_message:
            bot.hear(answer)

    @rule(bot=bots, which=st.booleans(), ends=st.tuples(*[st.sampled_from(["", "", *sorted(ENDS)])] * 3))
    def a_bot_works(self, bot: Bot, which: bool, ends: tuple[str, ...]) -> None:
        """It starts what it has, or comes to the end of it, and says so."""
        for job, end in zip(bot.running, ends, strict=False):
            bot.leases[job] = ENDS[end] if end else Report(ACTIVE)
        self.say(bot, which)

    @rule(bot=bots, end=st.sampled_from(sorted(ENDS)), number=st.integers(0, 2))
    def an_action_ends(self, bot: Bot, end: str, number: int) -> None:
        if running := bot.running:
            bot.leases[running[number % len(running)]] = ENDS[end]

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
        self.what_was_not_started_is_taken_back(at)
        self.what_nobody_follows_is_cancelled(at)

    def what_was_not_started_is_taken_back(self, at: Replica) -> None:
        limit, policy = KEEPALIVE / 3, at.engine.policy
        while at.call(take_back_unstarted(limit, at_once=2, policy=policy, store_results=True)):
            pass

    @rule(bot=bots, which=st.booleans())
    def a_bot_does_not_start(self, bot: Bot, which: bool) -> None:
        """What it was handed is taken from it, and it goes on calling."""
        self.say(bot, which)
        self.at(which).clock.advance(KEEPALIVE * 0.4)
        self.what_was_not_started_is_taken_back(self.at(not which))
        for _ in range(2):
            self.say(bot, which)

    def what_nobody_follows_is_cancelled(self, at: Replica) -> None:
        unfollowed, before = self.unfollowed_for(KEEPALIVE / 2), self.cancelled()
        after: str | None = ""
        while after is not None:
            after = at.call(cancel_abandoned(KEEPALIVE / 2, after=after, page=3, at_once=2)).after
        cancelled = self.cancelled() - before
        assert cancelled <= unfollowed, "somebody followed it, or need not"
        self.wanted -= cancelled

    @rule(thread=st.sampled_from([WRITER, ERRANDS]), committed=st.booleans())
    def a_connection_will_be_lost(self, thread: str, committed: bool) -> None:
        self.faults.arm(thread, committed=committed)

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

    @invariant()
    def no_end_is_told_twice(self) -> None:
        assert len({job.name for job in self.told}) == len(self.told)

    def teardown(self) -> None:
        """A bot that does everything comes: every job that anybody waits for gets done."""
        self.faults.disarm()
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
        for replica in self.replicas:
            replica.look()
        self.every_end_was_told_once()
        self.every_job_tells_its_history()
        Histories.lived += 1


@contextmanager
def _replicas(provider: SqlProvider) -> Iterator[None]:
    clock = SteppingClock()
    Histories.provider, Histories.told = provider, []
    Histories.replicas = (
        Replica(provider, limits=LIMITS, clock=clock),
        Replica(provider, limits=LIMITS, clock=clock, priority_percentage=50),
    )
    for replica in Histories.replicas:
        replica.engine.completions.listen(Histories.told.extend)
    try:
        yield
    finally:
        for replica in Histories.replicas:
            replica.stop()


@pytest.mark.timeout(600 + 10 * EXAMPLES)
def test_random_histories_lose_no_job_and_give_none_twice(
    provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _replicas(provider), faults_on_demand(monkeypatch) as faults:
        Histories.faults, Histories.lived = faults, 0
        bounds = settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(Histories, settings=bounds)
        assert Histories.lived >= EXAMPLES
        assert faults.happened, "no connection was lost"
