"""PostgreSQL that goes away without a word, with its machine, is not waited for."""

import socket
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from buildgrid_scheduler.store.provider import SqlProvider
from sqlalchemy import make_url, text
from sqlalchemy.exc import OperationalError

from tests.farm.lost_postgres import LostPostgres

SOON = {
    "connect_timeout": "2",
    "keepalives_idle": "1",
    "keepalives_interval": "1",
    "keepalives_count": "2",
    "tcp_user_timeout": "2000",
}
OPTIONS = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")


@pytest.fixture
def lost(database: str) -> Iterator[LostPostgres]:
    way = LostPostgres(database)
    way.start()
    yield way
    way.close()


def with_query(url: str, query: dict[str, str]) -> str:
    return make_url(url).update_query_dict(query).render_as_string(hide_password=False)


def options_of(descriptor: int) -> list[int]:
    """What the kernel does for a connection."""
    with socket.fromfd(descriptor, socket.AF_INET, socket.SOCK_STREAM) as same:
        assert same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        return [same.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in OPTIONS]


def test_settings_with_spaces_arrive_as_they_are_written(database: str) -> None:
    settings = "-c statement_timeout=12s -c work_mem=5MB"
    provider = SqlProvider(with_query(database, {"options": settings}))
    with provider.session() as session, provider.connect() as raw:
        for show, expected in (("statement_timeout", "12s"), ("work_mem", "5MB")):
            assert session.execute(text(f"SHOW {show}")).scalar() == expected
            assert raw.execute(f"SHOW {show}").fetchone() == (expected,)
    provider.close()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [10, 5, 3, 25_000]),
        ({"keepalives_idle": "77", "tcp_user_timeout": "9000"}, [77, 5, 3, 9_000]),
    ],
    ids=["as it comes", "as the URL says"],
)
def test_every_connection_looks_for_signs_of_life(
    query: dict[str, str], expected: list[int], lost: LostPostgres
) -> None:
    provider = SqlProvider(with_query(lost.url, query))
    with provider.session() as session, provider.connect() as raw:
        pooled: Any = session.connection().connection.dbapi_connection
        assert options_of(pooled.fileno()) == options_of(raw.fileno()) == expected
    provider.close()


def test_who_waits_for_an_answer_is_told_and_the_next_one_finds_the_new_server(lost: LostPostgres) -> None:
    provider = SqlProvider(with_query(lost.url, SOON))
    with pytest.raises(OperationalError), provider.session() as session:
        session.execute(text("SELECT 1"))
        lost.vanish()
        session.execute(text("SELECT 2"))
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        provider.connect()
    lost.come_back()
    with provider.session() as session:
        assert session.execute(text("SELECT 3")).scalar() == 3
    provider.close()


def test_who_listens_and_sends_nothing_is_told(lost: LostPostgres) -> None:
    provider = SqlProvider(with_query(lost.url, SOON))
    connection = provider.connect(autocommit=True)
    connection.execute("LISTEN news")
    lost.vanish()
    with pytest.raises(psycopg.OperationalError):
        list(connection.notifies(timeout=60))
    connection.close()
    provider.close()
