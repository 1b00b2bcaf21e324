"""What a job costs in writes: updates are HOT, so that no index grows while jobs run."""

import time
from collections.abc import Callable

from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.replica import ACTIVE, Report, failure, success

JOBS = 300
Counts = dict[str, tuple[int, int]]


def update_counts(provider: SqlProvider) -> Counts:
    """By table: how many updates there were, and how many of them were HOT."""
    with provider.connect(autocommit=True) as connection:
        rows = connection.execute(
            "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = ANY(%s)",
            (["jobs", "leases", "bots"],),
        ).fetchall()
    return {name: (total, hot) for name, total, hot in rows}


def wait_for(look: Callable[[], Counts], enough: Callable[[Counts], bool]) -> Counts:
    """What is seen once it is enough, or after ten seconds."""
    deadline = time.monotonic() + 10
    while not enough(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return seen


def test_completions_retries_and_heartbeats_are_hot_updates(
    start_replica: StartReplica, provider: SqlProvider
) -> None:
    replica = start_replica()
    for n in range(JOBS):
        replica.enqueue(f"action {n}")
    session = replica.open()
    for n in range(JOBS):
        job = replica.take(session)
        replica.sync(session, reports={job: Report(ACTIVE)})
        replica.sync(session, reports={job: failure() if n % 5 == 0 else success()}, offer=None)
    replica.stop()  # with its connections go their counts to the statistics, a moment later
    updates = wait_for(lambda: update_counts(provider), lambda counts: counts["jobs"][0] >= JOBS)
    assert updates["jobs"][0] >= JOBS
    assert updates["leases"][0] >= JOBS
    assert updates["bots"][0] >= 3 * JOBS
    for name, (total, hot) in updates.items():
        assert hot >= 0.9 * total, f"{name}: {hot} of {total} updates were HOT"
