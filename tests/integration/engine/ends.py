"""All the ways in which a job comes to its end, each brought to the point from which one step ends it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.abandoned import cancel_abandoned
from buildgrid_scheduler.engine.expiring import end_overlong, end_unserved
from buildgrid_scheduler.engine.items import Enqueued
from buildgrid_scheduler.engine.unstarted import take_back_unstarted
from google.rpc import code_pb2

from tests.integration.engine.replica import (
    ACTIVE,
    KEEPALIVE,
    Replica,
    Report,
    failure,
    result,
    success,
)

LIMIT = timedelta(seconds=100)
Step = Callable[[], object]


@dataclass(frozen=True)
class Way:
    """How a job ends, on a replica that tries each job once."""

    prepare: Callable[[Replica, Enqueued], Step]
    """returns the step; the job waits, and nothing else"""
    code: int
    """the status that is answered"""
    cancelled: bool = False
    """since nobody wants it any more"""
    has_result: bool = False


def _taken(replica: Replica, *, capacity: int = 1, started: bool = True) -> str:
    session = replica.open(capacity=capacity)
    job = replica.take(session)
    if started:
        replica.sync(session, reports={job: Report(ACTIVE)})
    return session


def reported(report: Report) -> Callable[[Replica, Enqueued], Step]:
    """By the bot."""

    def prepare(replica: Replica, enqueued: Enqueued) -> Step:
        session = _taken(replica)
        return lambda: replica.sync(session, reports={enqueued.job_name: report}, offer=None)

    return prepare


def lost(
    step: Callable[[Replica, str], object], *, capacity: int = 1, started: bool = True
) -> Callable[[Replica, Enqueued], Step]:
    """With the session that had it, or out of it."""

    def prepare(replica: Replica, enqueued: Enqueued) -> Step:
        session = _taken(replica, capacity=capacity, started=started)
        return lambda: step(replica, session)

    return prepare


def _overlong(replica: Replica, enqueued: Enqueued) -> Step:
    _taken(replica)
    replica.clock.advance(2 * LIMIT)
    return lambda: replica.call(end_overlong(LIMIT, at_once=10, policy=replica.engine.policy))


def _unserved(replica: Replica, enqueued: Enqueued) -> Step:
    replica.clock.advance(2 * LIMIT)
    return lambda: replica.call(end_unserved(LIMIT, at_once=10, policy=replica.engine.policy))


def _unstarted(replica: Replica, enqueued: Enqueued) -> Step:
    _taken(replica, started=False)
    replica.clock.advance(2 * LIMIT)
    take_back = take_back_unstarted(LIMIT, at_once=10, policy=replica.engine.policy, store_results=True)
    return lambda: replica.call(take_back)


def _cancelled(replica: Replica, enqueued: Enqueued) -> Step:
    return lambda: replica.cancel(enqueued.operation_name)


def _cancelled_while_it_runs(replica: Replica, enqueued: Enqueued) -> Step:
    _taken(replica)
    return lambda: replica.cancel(enqueued.operation_name)


def _abandoned(replica: Replica, enqueued: Enqueued) -> Step:
    with replica.provider.connect(autocommit=True) as connection:
        connection.execute("UPDATE operations SET watched_at = %s", (replica.clock(),))
    replica.clock.advance(2 * LIMIT)
    return lambda: replica.call(cancel_abandoned(LIMIT, page=10, at_once=10))


def _reap(replica: Replica, session: str) -> None:
    replica.clock.advance(2 * KEEPALIVE)
    replica.reap()


def _say(replica: Replica, session: str, status: BotStatus = BotStatus.OK) -> None:
    result(replica.submitted_sync(session, status=status, offer=None), quiet=True)


def _leave(replica: Replica, session: str) -> None:
    _say(replica, session, BotStatus.BOT_TERMINATING)


WAYS = {
    "its bot succeeds": Way(reported(success()), code_pb2.OK, has_result=True),
    "its command fails": Way(reported(success(exit_code=1)), code_pb2.OK, has_result=True),
    "its bot fails for good": Way(reported(failure(code_pb2.FAILED_PRECONDITION)), 9),
    "its bot fails at the last attempt": Way(reported(failure()), code_pb2.UNAVAILABLE),
    "it executes for too long": Way(_overlong, code_pb2.DEADLINE_EXCEEDED),
    "no bot takes it": Way(_unserved, code_pb2.UNAVAILABLE),
    "no bot starts it": Way(_unstarted, code_pb2.UNAVAILABLE),
    "its session is closed": Way(lost(lambda r, s: r.close(s)), code_pb2.UNAVAILABLE),
    "its session expires": Way(lost(_reap), code_pb2.UNAVAILABLE),
    "its bot opens another session": Way(lost(lambda r, s: r.open()), code_pb2.UNAVAILABLE),
    "its bot forgets it": Way(lost(_say), code_pb2.UNAVAILABLE),
    "its bot forgets it, with several slots": Way(lost(_say, capacity=3), code_pb2.UNAVAILABLE),
    "its bot is drained away": Way(lost(_leave, started=False), code_pb2.UNAVAILABLE),
    "its client cancels it": Way(_cancelled, code_pb2.CANCELLED, cancelled=True),
    "its client cancels it while it runs": Way(_cancelled_while_it_runs, code_pb2.CANCELLED, cancelled=True),
    "its client abandons it": Way(_abandoned, code_pb2.CANCELLED, cancelled=True),
}


def brought_to_its_end(replica: Replica, enqueued: Enqueued, way: Way) -> Step:
    """The step that ends the job, which is checked to be unfinished until then."""
    step = way.prepare(replica, enqueued)
    assert replica.stage(enqueued.operation_name) is not Stage.COMPLETED
    return step
