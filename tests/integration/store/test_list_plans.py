"""Guards on lists: with 200,000 operations those that are asked for every day read little of them."""

import hashlib
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from buildgrid_scheduler.core.operation_filter import parse_filters
from buildgrid_scheduler.core.operation_order import DEFAULT_ORDER, split_order
from buildgrid_scheduler.store import operation_query as sql
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.store.postgres import TestPostgres
from tests.integration.store.test_plans import nodes

LARGE = ("jobs", "operations", "request_metadata")
PAGE = 101
DIGEST = hashlib.md5(b"1234", usedforsecurity=False).hexdigest() + "/1"
"""of job-1234"""
# 120,000 jobs over 12,000 s, of which the last 5,000 are leased or wait; 200,000 operations, in builds of 500
# that follow each other. Two belong together, and the last twenty. One client asks for most, 49 for the rest.
FILL = """
INSERT INTO jobs (name, instance_name, action_digest, action, do_not_cache, priority, requirement_hash,
                  platform_requirements, property_label, command, n_tries, queued_at, completed_at, response,
                  status_code)
SELECT 'job-' || n, CASE WHEN n % 10 = 0 THEN 'other' ELSE 'main' END, md5(n::text) || '/1', 'action', false,
       0, 'hash', '{"Pool": ["a"]}', 'unknown', 'command ' || n, 1,
       timestamptz '2029-01-01 00:00Z' + n / 10 * interval '1 second',
       CASE WHEN n <= 115000 THEN now() END, CASE WHEN n <= 115000 THEN 'response'::bytea END,
       CASE WHEN n <= 115000 THEN 0 END
FROM generate_series(1, 120000) AS n;
INSERT INTO client_identities (instance, workflow, actor, subject)
SELECT 'main', 'ci', 'actor-' || n % 5, 'subject-' || n FROM generate_series(1, 50) AS n;
INSERT INTO request_metadata (hash, tool_name, tool_version, action_id, invocation_id,
                              correlated_invocations_id, action_mnemonic, target_id, configuration_id)
SELECT md5('metadata' || n), 'bazel', '8', '', 'invocation-' || n / 500,
       CASE WHEN n > 190000 THEN 'nightly' ELSE 'pair-' || n / 1000 END, 'CppCompile', '//target:' || n, 'k8'
FROM generate_series(1, 200000) AS n;
INSERT INTO operations (name, instance_name, job_name, created_at, request_metadata_hash, client_identity_id)
SELECT 'operation-' || n, j.instance_name, j.name, j.queued_at, md5('metadata' || n),
       (SELECT min(id) FROM client_identities) + CASE WHEN n % 10 < 6 THEN 0 ELSE 1 + n % 49 END
FROM generate_series(1, 200000) AS n JOIN jobs j ON j.name = 'job-' || 1 + (n - 1) * 3 / 5;
INSERT INTO queue (job_name, instance_name, requirement_hash, property_label, priority, queued_at)
SELECT name, instance_name, requirement_hash, property_label, priority, queued_at FROM jobs
WHERE completed_at IS NULL AND queued_at > timestamptz '2029-01-01 03:16:40Z';
INSERT INTO leases (job_name, instance_name, session_name, state, told_at, requirement_hash, property_label,
                    priority, queued_at)
SELECT name, instance_name, 'bot', 2, now(), requirement_hash, property_label, priority, queued_at FROM jobs
WHERE completed_at IS NULL AND queued_at <= timestamptz '2029-01-01 03:16:40Z';
"""
QUICK = {
    # What the filters say, how many of a page of 101 there must be, how many pages of 8 KiB are read at most.
    "": (PAGE, 2000),
    "sort_order=queued_time(desc)": (PAGE, 2000),
    "stage=QUEUED": (PAGE, 2000),
    "stage=EXECUTING": (PAGE, 2000),
    "stage=EXECUTING&client_subject=subject-1": (PAGE, 6000),
    "stage!=COMPLETED&sort_order=queued_time(desc)": (PAGE, 2000),
    "stage=COMPLETED": (PAGE, 2000),
    "stage=COMPLETED&queued_time<2029-01-01T03:00:00Z&sort_order=queued_time(desc)": (PAGE, 2000),
    "name=operation-777": (1, 20),
    f"action_digest={DIGEST}": (2, 40),
    "invocation_id=invocation-20": (PAGE, 6000),
    "invocation_id=invocation-20&stage=COMPLETED&sort_order=completed_time(desc)": (PAGE, 6000),
    "invocation_id=none": (0, 20),
    "correlated_invocations_id=pair-90": (PAGE, 12000),
    "correlated_invocations_id=nightly": (PAGE, 120_000),
    "queued_time>=2029-01-01T03:00:00Z": (PAGE, 2000),
    "queued_time>=2029-01-01T02:00:00Z&queued_time<2029-01-01T02:00:05Z": (75, 2000),
    "queued_time<2029-01-01T02:00:00Z&sort_order=queued_time(desc)": (PAGE, 2000),
    "client_subject=subject-1&sort_order=queued_time(desc)": (PAGE, 2000),
    "client_workflow=ci&sort_order=queued_time(desc)": (PAGE, 2000),
    "client_actor=actor-1&sort_order=queued_time(desc)": (PAGE, 2000),
    "client_subject=subject-7&sort_order=queued_time(desc)": (PAGE, 20000),
    "client_subject=nobody": (0, 20),
    "tool_name=bazel&sort_order=queued_time(desc)": (PAGE, 2000),
    "platform=Pool:a&sort_order=queued_time(desc)": (PAGE, 2000),
}


@pytest.fixture(scope="module")
def connection(postgres: TestPostgres) -> Iterator[psycopg.Connection[Any]]:
    """To a database with many operations, set as lists set it."""
    url = postgres.create()
    provider = SqlProvider(url)
    with provider.connect(autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off")
        connection.execute(FILL)
        connection.execute("VACUUM ANALYZE")
        connection.autocommit = False  # what is set holds until the end of the transaction
        connection.execute(sql.SETTINGS, {"timeout": "0"})
        yield connection
    provider.close()
    postgres.drop(url)


def explain(connection: psycopg.Connection[Any], query: sql.Query) -> dict[str, Any]:
    """The plan for these very values, and what it took."""
    cursor = psycopg.ClientCursor(connection)
    row = cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query.text}", query.values).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def plan_of(
    connection: psycopg.Connection[Any], filters: str, after: tuple[Any, ...] | None = None
) -> dict[str, Any]:
    """The plan of a page, as `engine.listing` asks for it."""
    conditions, order = split_order(parse_filters(filters))
    by_identity, others = sql.split_conditions(conditions)
    identities, few = None, False
    if by_identity:
        query = sql.identity_query(by_identity, None)
        cursor = psycopg.ClientCursor(connection)
        identities = [number for (number,) in cursor.execute(query.text, query.values)]
        query = sql.few_query(identities)
        ((few,),) = cursor.execute(query.text, query.values).fetchall()
    return explain(
        connection,
        sql.page_query(
            "main",
            others,
            order,
            finished=bool(conditions),
            identities=identities,
            few=few,
            after=after,
            limit=PAGE,
        ),
    )


def pages_read(plan: dict[str, Any]) -> int:
    number: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return number


def scanned(plan: dict[str, Any]) -> list[str]:
    """Tables that were read from one end to the other."""
    return [
        node["Relation Name"]
        for node in nodes(plan)
        if node["Node Type"].endswith("Seq Scan") and node["Relation Name"] in LARGE
    ]


@pytest.mark.parametrize("filters", QUICK)
def test_a_quick_list_reads_no_large_table_from_end_to_end(
    connection: psycopg.Connection[Any], filters: str
) -> None:
    rows, bound = QUICK[filters]
    plan = plan_of(connection, filters)
    assert plan["Actual Rows"] == rows
    assert scanned(plan) == []
    assert pages_read(plan) <= bound


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize(("condition", "job"), [("", "job-117500"), ("stage>UNKNOWN", "job-60000")])
def test_a_page_far_behind_costs_no_more_than_the_first(
    connection: psycopg.Connection[Any], condition: str, job: str, direction: str
) -> None:
    filters = f"{condition}&sort_order=queued_time({direction})".lstrip("&")
    ((queued,),) = connection.execute("SELECT queued_at FROM jobs WHERE name = %s", [job]).fetchall()
    plan = plan_of(connection, filters, after=(queued, "operation-5"))
    assert plan["Actual Rows"] == PAGE
    assert scanned(plan) == []
    assert pages_read(plan) <= 2000


def test_the_guards_would_see_a_scan(connection: psycopg.Connection[Any]) -> None:
    plan = plan_of(connection, "target_id=//target:777")
    assert scanned(plan)
    plan = plan_of(connection, "start_time>2029-01-01T00:00:00Z")
    assert pages_read(plan) > 50_000


def test_no_index_is_on_a_column_that_changes(connection: psycopg.Connection[Any]) -> None:
    """So that completion, cancelling and watching are HOT updates."""
    rows = connection.execute(
        """
        SELECT DISTINCT i.indrelid::regclass::text, a.attname FROM pg_index i
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
        WHERE i.indrelid::regclass::text IN ('jobs', 'operations')
        """
    ).fetchall()
    assert set(rows) == {
        ("jobs", "name"),
        ("jobs", "instance_name"),
        ("jobs", "queued_at"),
        ("jobs", "action_digest"),
        ("operations", "name"),
        ("operations", "job_name"),
        ("operations", "request_metadata_hash"),
        ("operations", "client_identity_id"),
    }


def test_each_order_of_text_is_by_code_point_whatever_the_collation_of_the_database() -> None:
    query = sql.page_query("main", parse_filters("tool_name>a"), DEFAULT_ORDER, finished=True)
    assert 'o.name COLLATE "C" AS k1' in query.text
    assert 'm.tool_name COLLATE "C" > ' in query.text
