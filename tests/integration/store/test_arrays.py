"""Arrays that are encoded here arrive as they are meant, and what their type cannot hold is refused."""

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from buildgrid_scheduler.store.arrays import ENCODERS, with_arrays
from buildgrid_scheduler.store.provider import SqlProvider

CASES: list[tuple[str, list[Any]]] = [
    ("text", ["", "a", "ünï \U0001f600", '{"quoted", NULL}', None]),
    ("bytea", [b"", b"\0\xff", None, b"x" * 100_000]),
    ("bool", [True, False, None]),
    ("int2", [-(2**15), 2**15 - 1, None]),
    ("int4", [-(2**31), 2**31 - 1, None]),
    ("int8", [-(2**63), 2**63 - 1, None]),
    (
        "timestamptz",
        [datetime(1969, 7, 20, 20, 17, 40, 1, UTC), datetime(2026, 11, 25, tzinfo=UTC), None],
    ),
]


@pytest.fixture
def connection(provider: SqlProvider) -> "psycopg.Connection[Any]":
    return provider.connect(autocommit=True)


def arrive(connection: "psycopg.Connection[Any]", kind: str, values: list[Any]) -> list[Any]:
    statement = f"SELECT x FROM unnest(%s::{kind}[]) WITH ORDINALITY AS t(x, n) ORDER BY n"  # noqa: S608
    with connection.cursor(binary=True) as cursor:
        rows = cursor.execute(statement.encode(), with_arrays(statement, (values,))).fetchall()
    return [value for (value,) in rows]


def test_every_type_is_tried() -> None:
    assert {kind for kind, _ in CASES} == set(ENCODERS)


@pytest.mark.parametrize(("kind", "values"), CASES, ids=[kind for kind, _ in CASES])
def test_values_arrive_as_they_are(
    connection: "psycopg.Connection[Any]", kind: str, values: list[Any]
) -> None:
    with connection:
        assert arrive(connection, kind, values) == values
        assert arrive(connection, kind, [None]) == [None]
        assert arrive(connection, kind, []) == []


def test_a_statement_says_by_name_and_place_which_lists_are_encoded() -> None:
    named = with_arrays("SELECT %(a)s::text[], %(n)s, %(a)s::text[]", {"a": ["x"], "n": 1})
    assert named == {"a": ENCODERS["text"](["x"]), "n": 1}
    untyped: list[str] = ["x"]
    placed = with_arrays("SELECT %s, %s::int4[], %s::jsonb[]", (untyped, [1], untyped))
    assert placed == [untyped, ENCODERS["int4"]([1]), untyped]


@pytest.mark.parametrize(("kind", "value"), [("text", "a\0b"), ("int4", 2**31), ("int2", -(2**15) - 1)])
def test_what_a_type_cannot_hold_is_an_error_of_the_data(kind: str, value: object) -> None:
    with pytest.raises(psycopg.DataError):
        ENCODERS[kind]([value])
