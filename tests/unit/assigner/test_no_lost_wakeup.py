"""No wake-up is lost: random histories of one replica's memory beside a queue that it does not own.

The queue, the other replicas and the order of events are simulated; the calls of `WaitingBots` are those
that the engine makes, in its order. Whenever nothing is on its way any more, no waiting job may be left
that a held bot could take: one that is not drained, and not of a class that the job avoids.
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
CLASSES = ["", "spot", "firm"]


@dataclass(frozen=True)
class Job:
    """A job that waits."""

    needs: str
    avoids: str = ""


@dataclass
class Batch:
    """One batch of the engine, between its snapshot and its commit."""

    new: list[Arrival]
    calls: list[Call]
    woken: list[Call]
    jobs: dict[int, Job] = field(default_factory=dict)
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
    got: dict[int, Job]
    avoided: set[str]


class Replica(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = WaitingBots()
        self.queue: dict[int, Job] = {}
        """committed and waiting"""
        self.locked: set[int] = set()
        """held by the claim of another replica that has not ended"""
        self.untold: list[str] = []
        """notifications on their way"""
        self.submitted: list[Call] = []
        self.enqueued: list[Arrival] = []
        self.nudged = False
        self.look: tuple[dict[tuple[str, str], int], set[str]] | None = None
        """one at the queue that is under way: its mark, and what it sees"""
        self.overdue = False
        """something has to be found by a look: nobody tells of it"""
        self.batch: Batch | None = None
        self.numbers = count()

    # --- this replica's clients and bots

    @rule(needs=st.sampled_from(NEEDS))
    def a_client_enqueues_here(self, needs: str) -> None:
        self.enqueued.append(arrival(needs))

    @rule(bot=st.integers(0, 5), offer=st.sampled_from(OFFERS), capacity_class=st.sampled_from(CLASSES))
    def a_bot_calls(self, bot: int, offer: str, capacity_class: str) -> None:
        self.submitted.append(Call(f"bot {bot}", pairs(offer), capacity_class=capacity_class))

    @rule(bot=st.integers(0, 5))
    def a_drained_bot_calls(self, bot: int) -> None:
        self.submitted.append(Call(f"bot {bot}", wakes_for=None))

    @rule(bot=st.integers(0, 5))
    def a_held_call_runs_out_of_time(self, bot: int) -> None:
        for call in self.waiting.take([f"bot {bot}"]):
            assert isinstance(call, Call)
            call.hold = False

    # --- the other replicas

    @rule(needs=st.sampled_from(NEEDS))
    def a_client_enqueues_elsewhere(self, needs: str) -> None:
        self.queue[next(self.numbers)] = Job(needs)
        self.untold.append(needs)

    @rule(needs=st.sampled_from(NEEDS), avoids=st.sampled_from(CLASSES[1:]))
    def a_bot_loses_a_job_elsewhere(self, needs: str, avoids: str) -> None:
        self.queue[next(self.numbers)] = Job(needs, avoids)
        self.untold.append(needs)

    @rule()
    def time_passes_until_no_class_is_avoided_any_more(self) -> None:
        if any(job.avoids for job in self.queue.values()):
            self.queue = {number: Job(job.needs) for number, job in self.queue.items()}
            self.overdue = True

    @precondition(lambda self: self.look is None)
    @rule()
    def a_look_at_the_queue_begins(self) -> None:
        began = self.waiting.looking()
        found = {job.needs for job in self.queue.values()}
        if self.batch is not None:  # not committed: still there for others
            for claim in self.batch.claims:
                found |= {job.needs for number, job in claim.got.items() if number in self.batch.found}
        self.look = began, found
        self.overdue = False

    @precondition(lambda self: self.look is not None)
    @rule()
    def a_look_at_the_queue_ends(self) -> None:
        assert self.look is not None
        (began, found), self.look = self.look, None
        self.nudged |= self.waiting.some_wait([arrival(needs) for needs in sorted(found)], began)

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
        batch.jobs = {next(self.numbers): Job(job.requirement_hash) for job in batch.new}
        groups: dict[tuple[frozenset[str], str], list[Call]] = {}
        for call in batch.calls:
            if call.wakes_for is None:
                continue
            hashes = self.waiting.candidates("", call.wakes_for) | {
                job.requirement_hash for job in batch.new if job.requires <= call.wakes_for
            }
            if hashes:
                groups.setdefault((frozenset(hashes), call.capacity_class), []).append(call)
        for (wanted, capacity_class), calls in groups.items():
            marks = self.waiting.heard("", wanted)
            visible = {**self.queue, **batch.jobs}
            able = [job for job in sorted(visible) if visible[job].needs in wanted]
            avoiding = [job for job in able if capacity_class and visible[job].avoids == capacity_class]
            chosen = [job for job in able if job not in avoiding][: len(calls)]
            avoided = {visible[job].needs for job in avoiding} if len(chosen) < len(calls) else set()
            got = {job: visible[job] for job in chosen if job not in self.locked}
            for job in got:
                self.queue.pop(job, None)
                batch.jobs.pop(job, None)
            batch.claims.append(Claim(calls, marks, len(chosen), got, avoided))

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
                got=[job.needs for job in claim.got.values()],
                marks=claim.marks,
                capacity_class=claim.calls[0].capacity_class,
                avoided=claim.avoided,
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
            self.queue.update({number: job for number, job in claim.got.items() if number in batch.found})
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
        if self.overdue or self.look is not None:
            return
        held = [call for calls in self.waiting._classes.values() for call in calls.values()]
        for job in self.queue.values():
            able = [
                call
                for call in held
                if call.wakes_for is not None
                and pairs(job.needs) <= call.wakes_for
                and not (job.avoids and job.avoids == call.capacity_class)
            ]
            assert not able, f"{job} waits, and so does a bot that could take it"

    def teardown(self) -> None:
        """Let everything that is on its way arrive; then the invariant says something every time."""
        self.locked.clear()
        for needs in self.untold:
            self.waiting.arrived([arrival(needs)], heard=True)
            self.nudged = True
        self.untold.clear()
        for _ in range(1000):
            if self.look is not None:
                self.a_look_at_the_queue_ends()
            elif self.overdue:
                self.a_look_at_the_queue_begins()
            elif self.batch is not None:
                self.the_batch_is_committed()
            elif self.submitted or self.enqueued or self.nudged:
                self.a_batch_begins()
            else:
                break
        else:
            raise AssertionError("the replica asks for ever")
        self.no_job_is_left_that_a_held_bot_could_take()
        # One more look, of which nothing comes: no hint is left of work that is not there.
        self.a_look_at_the_queue_begins()
        self.a_look_at_the_queue_ends()
        assert {hash_ for _, hash_ in self.waiting._work} == {job.needs for job in self.queue.values()}


TestNoLostWakeup = Replica.TestCase
TestNoLostWakeup.settings = settings(
    max_examples=300, stateful_step_count=50, deadline=None, database=None, print_blob=True
)
