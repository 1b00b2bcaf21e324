"""A farm of two replicas that random histories happen to: what its clients and bots do, and may expect."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import count

from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.completed_job import CompletedJob
from buildgrid_scheduler.core.errors import DataLoss, InvalidArgument
from buildgrid_scheduler.core.history import EventKind
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.engine.history import JobHistories
from buildgrid_scheduler.engine.items import Enqueue, Synchronized
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import BotEntry, JobEntry, LeaseEntry, OperationEntry, QueueEntry
from sqlalchemy import and_, any_, exists, literal, or_, select, update

from tests.integration.engine.believing_bot import Bot
from tests.integration.engine.faults import FaultsOnDemand
from tests.integration.engine.replica import (
    CANCELLED,
    COMPLETED,
    PENDING,
    Replica,
    Report,
    forget_everything,
    result,
    synchronize,
)

LIMITS = AttemptLimits(max_job_attempts=3, max_infra_attempts=6)


class Farm:
    """See the module."""

    provider: SqlProvider
    replicas: tuple[Replica, Replica]
    faults: FaultsOnDemand
    told: list[CompletedJob]
    """the ends that either replica has told of, in all histories so far"""

    def __init__(self) -> None:
        super().__init__()
        forget_everything(self.provider)
        self.told.clear()
        self.marks: set[tuple[str, str]] = set()
        """(instance, bot_id) of the bots that are drained"""
        self.numbers = count()
        self.answers: dict[str, re_pb2.ExecuteResponse] = {}
        self.wanted: set[str] = set()
        """operations that nobody cancelled"""

    def at(self, which: bool) -> Replica:
        return self.replicas[which]

    def asked(self, which: bool, item: Enqueue) -> Enqueue:
        self.at(which).submit(item)
        enqueued = result(item)
        self.wanted.add(enqueued.operation_name)
        return item

    def follow(self, operation: str) -> None:
        """Somebody is seen to follow the operation now, and not again."""
        query = update(OperationEntry).where(OperationEntry.name == operation)
        with self.provider.session() as session:
            session.execute(query.values(watched_at=self.replicas[0].clock()))

    def unfollowed_for(self, timeout: timedelta) -> set[str]:
        """The operations that may be cancelled for it."""
        query = select(OperationEntry.name).where(
            OperationEntry.watched_at < self.replicas[0].clock() - timeout
        )
        with self.provider.session() as session:
            return set(session.execute(query).scalars())

    def cancelled(self) -> set[str]:
        """All operations that are."""
        with self.provider.session() as session:
            return set(session.execute(select(OperationEntry.name).where(OperationEntry.cancelled)).scalars())

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
        assert len({t.job_name for t in answer.leases}) == len(answer.leases), "of one lease it is told once"
        if status is not BotStatus.OK:
            assert {t.job_name for t in answer.leases if t.state is PENDING} <= before, "it is not well"
        return answer

    def say(
        self,
        bot: Bot,
        which: bool,
        *,
        heard: bool = True,
        offered: bool = True,
        status: BotStatus = BotStatus.OK,
    ) -> None:
        """The bot says what it believes, and hears the answer if that arrives."""
        bot.last_message = dict(bot.leases)
        answer = self.call(bot, self.at(which), bot.last_message, status, offered)
        if heard and answer is not None:
            bot.hear(answer)

    def leased(self, bot: Bot) -> set[str]:
        with self.provider.session() as session:
            query = select(LeaseEntry.job_name).where(LeaseEntry.session_name == bot.session)
            return set(session.execute(query).scalars())

    def avoiding(self, bot: Bot) -> set[str]:
        """The jobs that are not for bots of this class, or not for this one, now.

        A bot whose session was closed before it opened another one is not known any more.
        """
        with self.provider.session() as session:
            now = self.replicas[0].clock()
            looks_out = exists().where(BotEntry.name == bot.session, BotEntry.avoided_until > now)
            query = select(QueueEntry.job_name).where(
                QueueEntry.instance_name == bot.instance,
                or_(
                    QueueEntry.avoid_class == bot.capacity_class,
                    and_(literal(bot.bot_id) == any_(QueueEntry.avoid_bots), looks_out),
                ),
                QueueEntry.avoid_until > now,
            )
            return set(session.execute(query).scalars())

    def was_given_what_it_may(self, bot: Bot, before: set[str], kept_from_it: set[str]) -> None:
        given = self.leased(bot) - before
        assert not given or (bot.instance, bot.bot_id) not in self.marks, "it is drained"
        assert not given & kept_from_it, "a job went to the class, or the bot, that it avoids"

    def a_bot_works_for_a_while(self, bot: Bot, which: bool) -> None:
        for _ in range(2):
            self.say(bot, which)
            bot.start_all()

    def jobs(self) -> Sequence[JobEntry]:
        """All that there are."""
        with self.provider.session() as session:
            return session.execute(select(JobEntry)).scalars().all()

    def every_end_was_told_once(self) -> None:
        told = {job.name: job for job in self.told}
        assert len(told) == len(self.told), "an end was told twice"
        for job in self.jobs():
            assert job.response is not None
            if re_pb2.ExecuteResponse.FromString(job.response).cached_result:
                assert job.name not in told, "it was born complete"
            else:
                assert job.name in told, "an end was told to nobody"
                end = told.pop(job.name)
                assert (end.response, end.status_code) == (job.response, job.status_code)
                assert (end.completed_at, end.cancelled) == (job.completed_at, job.cancelled)
        assert not told, "an end was told that did not come"

    def every_job_tells_its_history(self) -> None:
        histories = JobHistories(self.provider)
        for job in self.jobs():
            events = histories.load(job.instance_name, job.name).events
            kinds = [event.kind for event in events]
            assert kinds[0] is EventKind.QUEUED
            assert kinds[-1] in (EventKind.CANCELLED, EventKind.COMPLETED, EventKind.TIMED_OUT)
            assert kinds.count(EventKind.RETRIED) == job.n_tries - 1 + job.n_infra_tries
            assert [event.at for event in events] == sorted(event.at for event in events)
