"""Guards on the statements of timers: however much there is, a step reads little of it, and by an index."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.engine.abandoned import Look, cancel_abandoned, note_followed
from buildgrid_scheduler.engine.expiring import end_overlong, end_unserved
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.engine.pruning import prune, prune_metadata
from buildgrid_scheduler.store.hot_connection import Statements
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.statements import HOT_SETTINGS

from tests.integration.store.postgres import TestPostgres
from tests.integration.timers.jobs import Transaction

ROWS = 15_000
LARGE = ("jobs", "operations", "queue", "leases", "in_flight", "request_metadata")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR, YEARS = timedelta(hours=1), timedelta(days=3650)
POLICY = CompletionPolicy()
AT_ONCE = 10

# Of three jobs in a row one is done, one waits and one executes.
FILL = f"""
INSERT INTO jobs (name, instance_name, action_digest, action, do_not_cache, priority, requirement_hash,
                  platform_requirements, property_label, command, n_tries, queued_at, completed_at)
SELECT 'job-' || n, 'i' || n % 5, md5(n::text) || '/1', 'action', false, 0, 'hash' || n % 20, '{{}}',
       'label', 'command', 1, timestamptz '2029-01-01' + n * interval '1 second',
       CASE WHEN n % 3 = 0 THEN timestamptz '2029-01-02' + n * interval '1 second' END
FROM generate_series(1, {3 * ROWS}) AS n;
INSERT INTO request_metadata (hash, tool_name, tool_version, action_id, invocation_id,
  correlated_invocations_id, action_mnemonic, target_id, configuration_id, created_at)
SELECT md5(name), '', '', '', '', '', '', '', '', '2020-01-01' FROM jobs;
INSERT INTO operations (name, instance_name, job_name, created_at, watched_at, request_metadata_hash)
SELECT 'operation-' || name, instance_name, name, queued_at, queued_at, md5(name) FROM jobs;
INSERT INTO in_flight (instance_name, action_digest, job_name)
SELECT instance_name, action_digest, name FROM jobs;
INSERT INTO queue (job_name, instance_name, requirement_hash, property_label, priority, queued_at)
SELECT name, instance_name, requirement_hash, property_label, priority, queued_at FROM jobs
WHERE substr(name, 5)::int % 3 = 1;
INSERT INTO leases (job_name, instance_name, session_name, state, requirement_hash, property_label, priority,
                    queued_at, told_at, started_at)
SELECT name, instance_name, 'bot', 2, requirement_hash, property_label, priority, queued_at, queued_at,
       queued_at FROM jobs WHERE substr(name, 5)::int % 3 = 2;
"""  # noqa: S608 - constants

# What is run, what comes of it, and how many pages of the database all its statements may touch. What
# executes is read as a whole: it is no more than the farm has slots.
STEPS: dict[str, tuple[Transaction[Any], Any, int]] = {
    "overlong": (end_overlong(HOUR, at_once=AT_ONCE, policy=POLICY), AT_ONCE, 500),
    "none overlong": (end_overlong(YEARS, at_once=AT_ONCE, policy=POLICY), 0, 800),
    "unserved": (end_unserved(HOUR, at_once=AT_ONCE, policy=POLICY), AT_ONCE, 600),
    "none unserved": (end_unserved(YEARS, at_once=AT_ONCE, policy=POLICY), 0, 300),
    "followed": (note_followed([f"operation-job-{n}" for n in range(1, AT_ONCE)]), None, 400),
    "abandoned": (cancel_abandoned(HOUR, page=100, at_once=AT_ONCE), Look(AT_ONCE, "job-10007"), 1000),
    "none abandoned": (cancel_abandoned(YEARS, page=100, at_once=AT_ONCE), Look(0, "job-10129"), 100),
    "pruned": (prune(HOUR, at_once=AT_ONCE), AT_ONCE, 900),
    "none pruned": (prune(YEARS, at_once=AT_ONCE), 0, 100),
    "metadata": (prune_metadata(HOUR, after="", page=AT_ONCE), None, 200),
}


class Explained(Statements):
    """Statements whose plans are kept."""

    __slots__ = ("plans",)

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        super().__init__(connection)
        self.plans: list[dict[str, Any]] = []

    def execute(self, statement: str, parameters: Any = None) -> Any:
        """As Statements; the statement is run twice, and once rolled back."""
        connection = self._connection
        connection.execute("SAVEPOINT before")
        row = connection.execute(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters
        ).fetchone()
        connection.execute("ROLLBACK TO before")
        assert row is not None
        self.plans.append(row[0][0]["Plan"])
        return super().execute(statement, parameters)


@pytest.fixture(scope="module")
def connection(postgres: TestPostgres) -> Iterator[psycopg.Connection[Any]]:
    """To a database with many rows, set as the engine's connections are."""
    url = postgres.create()
    provider = SqlProvider(url)
    with provider.connect(autocommit=True, prepare_threshold=None) as connection:
        connection.execute(FILL.encode())
        connection.execute("ANALYZE")
        for setting in HOT_SETTINGS:
            connection.execute(setting)
        yield connection
    provider.close()
    postgres.drop(url)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_reads_a_bounded_part_of_the_tables_through_their_indexes(
    connection: psycopg.Connection[Any], name: str
) -> None:
    step, expected, pages = STEPS[name]
    run: Callable[..., Any] = step
    db = Explained(connection)
    connection.execute("BEGIN")
    try:
        outcome = run(db, NOW, Effects())
    finally:
        connection.execute("ROLLBACK")
    if expected is not None:
        assert outcome == expected
    scans = [node for plan in db.plans for node in nodes(plan) if node.get("Relation Name") in LARGE]
    assert scans
    assert not [node for node in scans if node["Node Type"] == "Seq Scan"]
    touched = sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in db.plans)
    assert touched < pages, f"{touched} pages"
