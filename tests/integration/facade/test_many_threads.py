"""Sixteen threads that do everything at once, on two replicas and for two instances; and what holds then."""

import itertools
import random
import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta

from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import Lease, LeaseState
from buildgrid_scheduler import (
    BotStatus,
    Cancelled,
    OperationFilter,
    Scheduler,
    SqlProvider,
    instance_context,
    requirement_hash,
)
from google.rpc import code_pb2

from tests.integration.engine.replica import check_invariants
from tests.integration.facade.calls import (
    OK,
    Start,
    action,
    active,
    completed,
    metadata_of,
    queue,
    response_of,
)

INSTANCES = ("", "team/main")
THREADS = 16
STEPS = 60
WORDS = 12
HASHES = [requirement_hash(needs) for needs in ({}, {"Pool": ["large"]})]
FILTERS = ["", "stage=EXECUTING", "stage=COMPLETED & sort_order=queued_time(desc)", "platform=Pool:large"]


class Ledger:
    """What all threads know."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.operations: dict[str, list[str]] = {instance: [] for instance in INSTANCES}
        self.cancelled: set[str] = set()
        self.answers: dict[str, re_pb2.ExecuteResponse] = {}
        """by operation, as it was first seen"""
        self.exit_codes: dict[str, list[int]] = defaultdict(list)
        """by job: those that its bots have reported, each of which is unique"""
        self.numbers = itertools.count(1)
        self.failures: list[BaseException] = []


class Person:
    """A thread: a client, a bot and a curious administrator, by turns."""

    def __init__(self, number: int, at: Scheduler, ledger: Ledger) -> None:
        self._at = at
        self._ledger = ledger
        self._random = random.Random(number)
        self._instance = INSTANCES[number % 2]
        self._bot_id = f"bot {number}"
        self._session = ""
        self._lease: Lease | None = None
        self._deeds: list[Callable[[], object]] = [
            *[self.ask] * 4,
            *[self.work] * 8,
            self.ask_once_more,
            self.cancel,
            self.connect_again,
            self.list_operations,
            self.look_around,
            *[self.look] * 2,
        ]

    def live(self, all_connected: threading.Barrier) -> None:
        """Do this and that."""
        with instance_context(self._instance):
            self.connect_again()
            all_connected.wait(60)
            for _ in range(STEPS):
                self._random.choice(self._deeds)()

    def leave(self) -> None:
        """What its bot still had waits again."""
        with instance_context(self._instance):
            self._at.close_bot_sessions(self._session)

    # --- as a client

    def _any_operation(self) -> str:
        with self._ledger.lock:
            known = self._ledger.operations[self._instance]
            if known:
                return self._random.choice(known)
        return self.ask()

    def _made(self, name: str) -> str:
        with self._ledger.lock:
            self._ledger.operations[self._instance].append(name)
        return name

    def ask(self) -> str:
        number = self._random.randrange(WORDS)
        word, unshared = f"word {number}", number > 8
        if number % 2:
            return self._made(queue(self._at, word, do_not_cache=unshared, Pool="large"))
        return self._made(queue(self._at, word, do_not_cache=unshared))

    def ask_once_more(self) -> None:
        name = self._any_operation()
        job = self._at.get_operation_job_name(name)
        assert job is not None, f"{name} is lost"
        try:
            self._made(self._at.create_operation(job))
        except Cancelled:
            with self._ledger.lock:
                assert name in self._ledger.cancelled, f"nobody cancelled {name}"
        shared = self._at.create_operation_for_existing_job(
            action_digest=action("word 3"), priority=-1, request_metadata=None, client_identity=None
        )
        if shared is not None:
            self._made(shared)

    def cancel(self) -> None:
        name = self._any_operation()
        with self._ledger.lock:
            self._ledger.cancelled.add(name)
        self._at.cancel_operation(name)

    def look(self) -> None:
        name = self._any_operation()
        with self._ledger.lock:
            before = self._ledger.answers.get(name)
        operation = self._at.load_operation(name)
        assert operation.name == (f"{self._instance}/{name}" if self._instance else name)
        if not operation.done:
            assert before is None, f"{name} was done, and is not any more"
            return
        answer = response_of(operation)
        with self._ledger.lock:
            first = self._ledger.answers.setdefault(name, answer)
        assert answer == first, f"{name} has two answers"

    # --- as a bot

    def connect_again(self) -> None:
        self._session = self._at.add_bot_entry(bot_session_id=self._bot_id, bot_session_status=OK)
        self._lease = None

    def work(self) -> None:
        lease = self._lease
        if lease is None:
            hash_ = self._random.choice(HASHES)
            assign = self._at.assign_n_leases_by_priority
            assert assign(capability_hash=hash_, bot_names=[self._session]) in ([], [self._session])
        elif lease.state == LeaseState.PENDING:
            lease = active(lease)
        elif lease.state == LeaseState.ACTIVE and self._random.random() < 0.2:
            lease = completed(lease)
            lease.ClearField("result")
            lease.status.code = code_pb2.UNAVAILABLE
        elif lease.state == LeaseState.ACTIVE:
            with self._ledger.lock:
                number = next(self._ledger.numbers)
                self._ledger.exit_codes[lease.id].append(number)
            lease = completed(lease, number)
        told = self._at.synchronize_bot_lease(self._session, self._bot_id, OK, lease)
        assert self._at.refresh_bot_expiry_time(self._session, self._bot_id).tzinfo is not None
        if told is not None:
            assert len(self._at.get_metadata_for_leases([told])) == 1
        self._lease = told

    # --- as an administrator

    def list_operations(self) -> None:
        filters = OperationFilter.parse_filters(self._random.choice(FILTERS))
        seen: list[str] = []
        token: str | None = None
        while token != "" and len(seen) < 200:
            page, token = self._at.list_operations(filters, page_size=50, page_token=token)
            seen += [operation.name for operation in page]
        assert all(name.rpartition("/")[0] == self._instance for name in seen)

    def look_around(self) -> None:
        workers, total = self._at.list_workers("bot", 1, 0)
        assert len(workers) == total == THREADS // 2, "each has one session, also while it connects again"
        counts = self._at.count_bots_by_status()
        assert counts == {**dict.fromkeys(BotStatus, 0), BotStatus.OK: THREADS // 2}
        metrics = self._at.get_metrics()
        assert metrics is not None
        assert all(number >= 0 for number in metrics["jobs"].values())


def finish(at: Scheduler) -> None:
    """Take what is left, until nothing is."""
    session = at.add_bot_entry(bot_session_id="the last", bot_session_status=OK)
    for hash_ in HASHES:
        while at.assign_n_leases_by_age(capability_hash=hash_, bot_names=[session]):
            lease = at.synchronize_bot_lease(session, "the last", OK, None)
            assert lease is not None
            assert at.synchronize_bot_lease(session, "the last", OK, completed(lease)) is None
    at.close_bot_sessions(session)


def test_everything_at_once_from_sixteen_threads(start: Start, provider: SqlProvider) -> None:
    replicas = [start(metrics_publish_interval=timedelta(0)) for _ in range(2)]
    ledger = Ledger()
    people = [Person(number, replicas[number // 2 % 2], ledger) for number in range(THREADS)]
    all_connected = threading.Barrier(THREADS)

    def run(person: Person) -> None:
        try:
            person.live(all_connected)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            ledger.failures.append(error)
            all_connected.abort()

    threads = [threading.Thread(target=run, args=(person,), daemon=True) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert not ledger.failures
    assert not any(thread.is_alive() for thread in threads), "a call has not come back"
    check_invariants(provider)

    for person in people:
        person.leave()
    for instance in INSTANCES:
        with instance_context(instance):
            finish(replicas[0])
            check_operations(replicas[1], instance, ledger)
    check_invariants(provider)


def check_operations(at: Scheduler, instance: str, ledger: Ledger) -> None:
    """All are done; each has the one answer of its job, which is what the bot said that completed it."""
    names = ledger.operations[instance]
    listed, token = at.list_operations(OperationFilter.parse_filters("stage=COMPLETED"))
    assert sorted(operation.name.rpartition("/")[2] for operation in listed) == sorted(names)
    assert token == ""
    assert at.list_operations() == ([], "")
    answers: dict[str, set[bytes]] = defaultdict(set)
    codes: dict[int, int] = defaultdict(int)
    for name in names:
        operation = at.load_operation(name)
        assert metadata_of(operation).stage == re_pb2.ExecutionStage.COMPLETED
        answer = response_of(operation)
        assert ledger.answers.get(name, answer) == answer, f"the answer of {name} has changed"
        codes[answer.status.code] += 1
        if answer.status.code == code_pb2.CANCELLED:
            assert name in ledger.cancelled
            continue
        job = at.get_operation_job_name(name)
        assert job is not None
        answers[job].add(answer.SerializeToString(deterministic=True))
        if answer.status.code == code_pb2.OK:
            reported = ledger.exit_codes[job] or [0]  # the last bot's
            assert [answer.result.exit_code] == reported, "a job was completed by one bot, once"
    assert all(len(different) == 1 for different in answers.values())
    assert codes[code_pb2.OK] and codes[code_pb2.CANCELLED], "nothing was tried"
    assert set(codes) <= {code_pb2.OK, code_pb2.CANCELLED, code_pb2.UNAVAILABLE}
