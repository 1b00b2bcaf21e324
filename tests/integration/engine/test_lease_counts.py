"""How many leases a session was given so far: whoever gives one counts it, and nobody twice."""

import pytest
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.faults import (
    ERRANDS,
    WRITER,
    first_commit_unheard,
    first_transaction_rolled_back,
)
from tests.integration.engine.replica import (
    ACTIVE,
    LONGEST_PAUSE,
    Replica,
    Report,
    failure,
    result,
    success,
)


def given(provider: SqlProvider) -> dict[str, int]:
    """By bot_id."""
    with provider.connect() as connection:
        return dict(connection.execute("SELECT bot_id, lease_count FROM bots").fetchall())


def test_each_lease_counts_when_it_is_given_and_no_report_of_it(
    replica: Replica, provider: SqlProvider
) -> None:
    session = replica.open(capacity=3)
    assert given(provider) == {"bot": 0}
    for word in ("first", "second"):
        replica.enqueue(word)
    first, second = (tell.job_name for tell in replica.sync(session).leases)
    assert given(provider) == {"bot": 2}
    replica.sync(session, reports={first: Report(ACTIVE), second: Report(ACTIVE)})
    replica.enqueue("third")
    replica.sync(session, reports={first: success(), second: Report(ACTIVE)})
    assert given(provider) == {"bot": 3}
    replica.sync(session, reports={second: success()})
    assert given(provider) == {"bot": 3}


def test_a_job_that_a_bot_gets_again_counts_again(replica: Replica, provider: SqlProvider) -> None:
    session = replica.open()
    job = replica.enqueue("action").job_name
    assert replica.take(session) == job
    replica.sync(session, reports={job: failure()})
    replica.clock.advance(LONGEST_PAUSE)
    assert replica.take(session) == job
    assert given(provider) == {"bot": 2}


def test_a_bot_that_is_woken_with_a_job_is_counted_for(replica: Replica, provider: SqlProvider) -> None:
    item = replica.submitted_sync(replica.open(), hold=True)
    replica.settle()
    replica.enqueue("action")
    assert len(result(item).leases) == 1
    assert given(provider) == {"bot": 1}


def test_each_of_several_bots_counts_its_own(replica: Replica, provider: SqlProvider) -> None:
    waiting = [replica.submitted_sync(replica.open(bot), bot, hold=True) for bot in ("a", "b")]
    replica.open("c")
    replica.settle()
    for word in ("first", "second"):
        replica.enqueue(word)
    for item in waiting:
        result(item)
    assert given(provider) == {"a": 1, "b": 1, "c": 0}


def test_a_suspect_that_waits_for_its_bot_counts_once(replica: Replica, provider: SqlProvider) -> None:
    replica.enqueue("greedy")
    victim = replica.open("victim", capacity=2)
    (tell,) = replica.sync(victim, "victim").leases
    replica.sync(victim, "victim", reports={tell.job_name: Report(ACTIVE)})
    session = replica.open(capacity=2)
    other = replica.enqueue("other").job_name
    replica.sync(session, reports={})
    replica.close(victim)
    replica.look()
    replica.sync(session, reports={other: Report(ACTIVE)})  # the suspect is its next, and it is not told
    assert given(provider) == {"bot": 2}
    assert len(replica.sync(session, reports={other: success()}).leases) == 1
    assert given(provider) == {"bot": 2}


def test_a_lease_that_is_given_by_name_counts(replica: Replica, provider: SqlProvider) -> None:
    session = replica.open()
    replica.enqueue("action")
    assert replica.call(assign_waiting("", requirement_hash({}), [session], by_age=False)) == [session]
    assert given(provider) == {"bot": 1}
    assert len(replica.sync(session).leases) == 1
    assert given(provider) == {"bot": 1}


def test_a_new_session_begins_anew(replica: Replica, provider: SqlProvider) -> None:
    replica.enqueue("action")
    replica.take(replica.open())
    replica.open()
    assert given(provider) == {"bot": 0}


@pytest.mark.parametrize("thread", [WRITER, ERRANDS])
@pytest.mark.parametrize("committed", [True, False])
def test_what_was_given_in_vain_or_unheard_is_not_counted_twice(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, thread: str, committed: bool
) -> None:
    session = replica.open()
    replica.enqueue("action")
    fails = first_commit_unheard if committed else first_transaction_rolled_back
    with fails(monkeypatch, thread):
        if thread is WRITER:
            assert len(replica.sync(session).leases) == 1
        else:
            replica.call(assign_waiting("", requirement_hash({}), [session], by_age=False))
    assert given(provider) == {"bot": 1}
