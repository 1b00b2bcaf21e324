"""Guards on the hot statements: with 50,000 rows in every table each goes through an index, and not far.

The plans are generic ones, made under the settings of the connections that run these statements.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.store.postgres import TestPostgres

ROWS = 50_000
NOW = datetime(2030, 1, 1, tzinfo=UTC)
LARGE = ("jobs", "queue", "leases", "operations", "in_flight", "action_results")

FILL = f"""
INSERT INTO jobs (name, instance_name, action_digest, action, do_not_cache, priority, requirement_hash,
                  platform_requirements, property_label, command, n_tries, queued_at)
SELECT 'job-' || n, 'i' || n % 3, md5(n::text) || '/1', 'action', false, n % 7, 'hash' || n % 20, '{{}}',
       'label' || n % 5, 'command', 1, timestamptz '2029-01-01' + n * interval '1 second'
FROM generate_series(1, {2 * ROWS}) AS n;
INSERT INTO operations (name, instance_name, job_name, created_at)
SELECT 'operation-' || substr(name, 5), instance_name, name, queued_at FROM jobs;
INSERT INTO in_flight (instance_name, action_digest, job_name)
SELECT instance_name, action_digest, name FROM jobs;
INSERT INTO queue (job_name, instance_name, requirement_hash, property_label, priority, queued_at)
SELECT name, instance_name, requirement_hash, property_label, priority, queued_at FROM jobs
WHERE substr(name, 5)::int <= {ROWS};
INSERT INTO leases (job_name, instance_name, session_name, state, requirement_hash, property_label, priority,
                    queued_at)
SELECT name, instance_name, 'bot-' || substr(name, 5)::int % 10000, 1, requirement_hash, property_label,
       priority, queued_at FROM jobs WHERE substr(name, 5)::int > {ROWS};
INSERT INTO action_results (instance_name, action_digest, result, stored_at)
SELECT instance_name, action_digest, 'result', queued_at FROM jobs;
INSERT INTO client_identities (instance, workflow, actor, subject)
  SELECT 'i1', 'w', 'a', n::text FROM generate_series(1, 1000) n;
INSERT INTO bots (name, instance_name, bot_id, status, connected_at, expires_at)
SELECT 'bot-' || n, 'i' || n % 3, 'id-' || n, 1, now(), timestamptz '2031-01-01'
FROM generate_series(0, 9999) AS n;
"""  # noqa: S608 - constants

CLAIM = {
    "hashes": ["hash1", "hash4"],
    "instance": "i1",
    "exclude": ["job-1"],
    "n": 5,
    "told_at": NOW,
    "slots": ["bot-1", "bot-2", "bot-3", "bot-4", "bot-5"],
}
FOR_CLASS = {**CLAIM, "class": "spot", "now": NOW}
FOR_BOT = {**FOR_CLASS, "bot": "id-1"}
WAITING, LEASED = ["job-10", "job-20"], [f"job-{ROWS + 10}", f"job-{ROWS + 20}"]
FLIGHT = (["i1", "i2"], ["a/1", "b/1"], WAITING)
STATEMENTS: dict[str, tuple[str, Any]] = {
    "enqueue": (
        sql.ENQUEUE,
        {
            "now": NOW,
            "job_name": ["new-1", "new-2"],
            "instance": ["i1", "i2"],
            "digest": ["c/1", "d/1"],
            "shareable": [True, True],
            "action": [b"1", b"2"],
            "do_not_cache": [False, False],
            "priority": [0, 0],
            "hash": ["hash1", "hash2"],
            "platform": ["{}", "{}"],
            "label": ["label1", "label2"],
            "command": ["c", "d"],
            "response": [None, None],
            "status": [None, None],
            "look_up": [True, False],
            "op_name": ["o-1", "o-2"],
            "op_leader": ["new-1", "new-2"],
            "op_metadata": [None, None],
            "op_identity": [None, None],
            "op_watched": [True, False],
        },
    ),
    "operations there": (sql.JOBS_OF_OPERATIONS, (["operation-1", "operation-2"],)),
    "forget flight": (sql.FORGET_FLIGHT, FLIGHT),
    "leave flight": (sql.LEAVE_FLIGHT, FLIGHT),
    "shared now": (sql.SHARED_NOW, FLIGHT[:2]),
    "cached now": (sql.CACHED_NOW, FLIGHT[:2]),
    "count waiting": (sql.COUNT_WAITING, ("i1", "label1", 100)),
    "claim by priority": (sql.CLAIM_BY_PRIORITY, CLAIM),
    "claim by age": (sql.CLAIM_BY_AGE, CLAIM),
    "claim by priority for a class": (sql.CLAIM_BY_PRIORITY_FOR_CLASS, FOR_CLASS),
    "claim by age for a class": (sql.CLAIM_BY_AGE_FOR_CLASS, FOR_CLASS),
    "claim by priority for a bot": (sql.CLAIM_BY_PRIORITY_FOR_BOT, FOR_BOT),
    "claim by age for a bot": (sql.CLAIM_BY_AGE_FOR_BOT, FOR_BOT),
    "tell later": (sql.TELL_LATER, (LEASED,)),
    "disrupted sessions": (sql.DISRUPTED_SESSIONS, (["bot-1", "bot-2"],)),
    "note stopped": (sql.NOTE_STOPPED, (LEASED, ["w"] * 2, [NOW] * 2, [NOW] * 2, [NOW] * 2)),
    "lock sessions": (sql.LOCK_SESSIONS, (["bot-1", "bot-2"],)),
    "lock leases": (sql.LOCK_LEASES, (["bot-1", "bot-2"],)),
    "lease actions": (sql.LEASE_ACTIONS, (LEASED,)),
    "complete jobs": (
        sql.COMPLETE_JOBS,
        (NOW, LEASED, [b"r"] * 2, [0] * 2, ["w"] * 2, [NOW] * 2, [NOW] * 2, [NOW] * 2),
    ),
    "requeue": (
        sql.REQUEUE,
        (
            *(LEASED, [2, 2], [0, 0], ["hash1", "alone:hash2"], ["{}", None]),
            *(["spot", None], [None, "id-1"], [NOW, NOW], [NOW, NOW], [NOW, NOW]),
        ),
    ),
    "delete leases": (sql.DELETE_LEASES, (LEASED,)),
    "set leases": (sql.SET_LEASES, (NOW, LEASED, [2, 2], [NOW] * 2, [None, None])),
    "refresh sessions": (
        sql.REFRESH_SESSIONS,
        ([NOW] * 2, ["bot-1", "bot-2"], [1, 1], ["", ""], ["call-1", "call-2"], [0, 3], [NOW, None]),
    ),
    "raise priority": (sql.RAISE_PRIORITY, (["i1", "i2"], ["a/1", "b/1"], ["job-1", "job-2"], [-1, -1])),
    "load operations": (sql.LOAD_OPERATIONS, (["operation-1", "operation-2"],)),
    "store results": (sql.STORE_RESULTS, (NOW, ["i1", "i2"], ["a/1", "b/1"], [b"1", b"2"])),
}


@pytest.fixture(scope="module")
def connection(postgres: TestPostgres) -> Iterator[psycopg.Connection[Any]]:
    """To a database with many rows, set as the engine's connections are."""
    url = postgres.create()
    provider = SqlProvider(url)
    with provider.connect(autocommit=True, prepare_threshold=None) as connection:
        connection.execute(FILL)
        connection.execute("ANALYZE")
        for setting in sql.HOT_SETTINGS:
            connection.execute(setting)
        yield connection
    provider.close()
    postgres.drop(url)


def explain(connection: psycopg.Connection[Any], statement: str, values: Any, how: str) -> dict[str, Any]:
    """The generic plan of a statement."""
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        name = match[1] or f"at {len(names)}"
        if name not in names:
            names.append(name)
        number = names.index(name)
        value = values[name] if isinstance(values, dict) else values[number]
        return f"${number + 1}" + ("::timestamptz" if isinstance(value, datetime) else "")

    prepared = re.sub(r"%(?:\((\w+)\)s|s)", numbered, statement)
    arguments = [values[name] for name in names] if isinstance(values, dict) else list(values)
    connection.execute("DEALLOCATE ALL")
    cursor = psycopg.ClientCursor(connection)
    cursor.execute(f"PREPARE hot AS {prepared}")
    given = f"({', '.join(['%s'] * len(arguments))})" if arguments else ""
    cursor.execute(f"EXPLAIN (FORMAT JSON, {how}) EXECUTE hot{given}", arguments)
    row = cursor.fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_hot_statement_reads_no_large_table_but_through_a_condition_on_an_index(
    connection: psycopg.Connection[Any], name: str
) -> None:
    plan = explain(connection, *STATEMENTS[name], "COSTS")
    touched = 0
    for node in nodes(plan):
        if node.get("Relation Name") in LARGE and node["Node Type"] not in ("ModifyTable", "Tid Scan"):
            touched += 1
            assert node["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Heap Scan"), node
        if node["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Index Scan"):
            assert "Index Cond" in node, node
    assert touched or "sessions" in name or "store" in name


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_hot_statement_touches_a_handful_of_pages(connection: psycopg.Connection[Any], name: str) -> None:
    connection.execute("BEGIN")
    try:
        plan = explain(connection, *STATEMENTS[name], "ANALYZE, BUFFERS")
    finally:
        connection.execute("ROLLBACK")
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 400


def test_the_look_for_waiting_work_probes_once_per_kind_however_deep_the_queue(
    connection: psycopg.Connection[Any],
) -> None:
    plan = explain(connection, sql.WAITING_HASHES, (), "ANALYZE, BUFFERS")
    assert not [
        node for node in nodes(plan) if node.get("Relation Name") in LARGE and node["Node Type"] == "Seq Scan"
    ]
    # 60 kinds: 3 instances by 20 hashes.
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 60 * 12
