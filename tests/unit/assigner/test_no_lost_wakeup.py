"""No wake-up is lost: random histories of one replica's memory beside a queue that it does not own.

The queue, the other replicas and the order of events are simulated; the calls of `WaitingBots` are those
that the engine makes, in its order. Whenever nothing is on its way any more, no waiting job may be left
that a held bot could take.
"""

from dataclasses import dataclass, field
from itertools import count

from buildgrid_scheduler.assigner.waiting import Arrival, WaitingBots
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.unit.assigner.calls import Call, arrival, pairs

NEEDS = ["", "a", "b", "a b"]
OFFERS = ["", "a", "b", "a b", "a b c"]


@dataclass
class Batch:
    """One batch of the engine, between its snapshot and its commit."""

    new: list[Arrival]
    calls: list[Call]
    woken: list[Call]
    jobs: dict[int, str] = field(default_factory=dict)
    """the new ones that are left, which nobody else sees before the commit"""
    found: set[int] = field(default_factory=set)
    """the jobs that were there before"""
    claims: list["Claim"] = field(default_factory=list)


@dataclass
class Claim:
    """What a group of bots asked for and got."""

    calls: list[Call]
    marks: dict[str, int]
    chosen: int
    got: dict[int, str]


class Replica(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = WaitingBots()
        self.queue: dict[int, str] = {}
        """committed and waiting: number -> what it needs"""
        self.locked: set[int] = set()
        """held by the claim of another replica that has not ended"""
        self.untold: list[str] = []
        """notifications on their way"""
        self.submitted: list[Call] = []
        self.enqueued: list[Arrival] = []
        self.nudged = False
        self.batch: Batch | None = None
        self.numbers = count()

    # --- this replica's clients and bots

    @rule(needs=st.sampled_from(NEEDS))
    def a_client_enqueues_here(self, needs: str) -> None:
        self.enqueued.append(arrival(needs))

    @rule(bot=st.integers(0, 5), offer=st.sampled_from(OFFERS))
    def a_bot_calls(self, bot: int, offer: str) -> None:
        self.submitted.append(Call(f"bot {bot}", pairs(offer)))

    @rule(bot=st.integers(0, 5))
    def a_held_call_runs_out_of_time(self, bot: int) -> None:
        for call in self.waiting.take([f"bot {bot}"]):
            assert isinstance(call, Call)
            call.hold = False

    # --- the other replicas

    @rule(needs=st.sampled_from(NEEDS))
    def a_client_enqueues_elsewhere(self, needs: str) -> None:
        self.queue[next(self.numbers)] = needs
        self.untold.append(needs)

    @precondition(lambda self: self.untold)
    @rule(data=st.data())
    def a_notification_arrives(self, data: st.DataObject) -> None:
        needs = self.untold.pop(data.draw(st.integers(0, len(self.untold) - 1)))
        self.waiting.arrived([arrival(needs)], heard=True)
        if self.waiting.held:
            self.nudged = True

    @precondition(lambda self: set(self.queue) - self.locked)
    @rule(data=st.data())
    def another_replica_locks_a_job(self, data: st.DataObject) -> None:
        self.locked.add(data.draw(st.sampled_from(sorted(set(self.queue) - self.locked))))

    @precondition(lambda self: self.locked)
    @rule(data=st.data(), takes=st.booleans())
    def another_replica_takes_it_or_lets_go(self, data: st.DataObject, takes: bool) -> None:
        job = data.draw(st.sampled_from(sorted(self.locked)))
        self.locked.discard(job)
        if takes:
            del self.queue[job]

    # --- the batches of this one, in two steps

    @precondition(lambda self: self.batch is None)
    @rule()
    def a_batch_begins(self) -> None:
        if not (self.submitted or self.enqueued or self.nudged):
            return
        new = self.enqueued
        calls: list[Call] = []
        for call in self.submitted:
            if call.session_name not in {c.session_name for c in calls}:
                calls.append(call)
        self.submitted = [call for call in self.submitted if call not in calls]
        self.enqueued, self.nudged = [], False
        self.waiting.take(call.session_name for call in calls)  # older calls, which are answered
        woken = [call for call in self.waiting.plan(new) if isinstance(call, Call)]
        calls += woken
        self.waiting.asking(call.session_name for call in calls)
        self.batch = Batch(new, calls, woken)
        self.claim(self.batch)

    def claim(self, batch: Batch) -> None:
        batch.found = set(self.queue)
        batch.jobs = {next(self.numbers): job.requirement_hash for job in batch.new}
        groups: dict[frozenset[str], list[Call]] = {}
        for call in batch.calls:
            assert call.offer is not None
            hashes = self.waiting.candidates("", call.offer) | {
                job.requirement_hash for job in batch.new if job.requires <= call.offer
            }
            if hashes:
                groups.setdefault(frozenset(hashes), []).append(call)
        for wanted, calls in groups.items():
            marks = self.waiting.heard("", wanted)
            visible = {**self.queue, **batch.jobs}
            chosen = [job for job in sorted(visible) if visible[job] in wanted][: len(calls)]
            got = {job: visible[job] for job in chosen if job not in self.locked}
            for job in got:
                self.queue.pop(job, None)
                batch.jobs.pop(job, None)
            batch.claims.append(Claim(calls, marks, len(chosen), got))

    @precondition(lambda self: self.batch is not None)
    @rule()
    def the_batch_is_committed(self) -> None:
        batch, self.batch = self.batch, None
        assert batch is not None
        self.queue.update(batch.jobs)
        self.waiting.arrived(batch.new, heard=False)
        again = False
        answered: set[str] = set()
        for claim in batch.claims:
            again |= self.waiting.settle(
                "",
                asked=len(claim.calls),
                chosen=claim.chosen,
                got=list(claim.got.values()),
                marks=claim.marks,
            )
            answered |= {call.session_name for call, _ in zip(claim.calls, claim.got, strict=False)}
        for call in batch.calls:
            if call.session_name not in answered:
                self.hold(call)
        self.nudged |= again or self.waiting.unplanned

    @precondition(lambda self: self.batch is not None)
    @rule()
    def the_batch_is_rolled_back(self) -> None:
        batch, self.batch = self.batch, None
        assert batch is not None
        for claim in batch.claims:
            self.queue.update({job: needs for job, needs in claim.got.items() if job in batch.found})
        for call in batch.woken:
            self.hold(call)
        self.waiting.plan_again()
        self.enqueued = batch.new + self.enqueued
        self.submitted = [call for call in batch.calls if call not in batch.woken] + self.submitted
        self.nudged = True

    def hold(self, call: Call) -> None:
        if self.waiting.hold(call) is call and call.hold:
            self.submitted.append(call)

    # --- what holds

    @invariant()
    def no_job_is_left_that_a_held_bot_could_take(self) -> None:
        if self.batch or self.submitted or self.enqueued or self.nudged or self.untold or self.locked:
            return
        held = [call.offer for calls in self.waiting._classes.values() for call in calls.values()]
        for needs in self.queue.values():
            able = [offer for offer in held if offer is not None and pairs(needs) <= offer]
            assert not able, f"a job that needs {needs!r} waits, and so does a bot that could take it"

    def teardown(self) -> None:
        """Let everything that is on its way arrive; then the invariant says something every time."""
        self.locked.clear()
        for needs in self.untold:
            self.waiting.arrived([arrival(needs)], heard=True)
            self.nudged = True
        self.untold.clear()
        for _ in range(1000):
            if self.batch is not None:
                self.the_batch_is_committed()
            elif self.submitted or self.enqueued or self.nudged:
                self.a_batch_begins()
            else:
                break
        else:
            raise AssertionError("the replica asks for ever")
        self.no_job_is_left_that_a_held_bot_could_take()


TestNoLostWakeup = Replica.TestCase
TestNoLostWakeup.settings = settings(
    max_examples=300, stateful_step_count=50, deadline=None, database=None, print_blob=True
)
