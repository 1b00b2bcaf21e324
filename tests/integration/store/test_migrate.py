"""Bringing a database to the schema, and that the schema is what the models say."""

import threading

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from buildgrid_scheduler.core.errors import FailedPrecondition, Unavailable
from buildgrid_scheduler.store.migrate import migrate
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.revisions import (
    IncompatibleDatabaseError,
    database_revision,
    head_revision,
    runs_on,
)
from buildgrid_scheduler.store.schema import Base
from sqlalchemy import make_url, text


@pytest.fixture
def empty(empty_database: str) -> object:
    provider = SqlProvider(empty_database)
    yield provider
    provider.close()


def test_an_empty_database_is_migrated_once(empty: SqlProvider) -> None:
    assert database_revision(empty) is None
    assert migrate(empty)
    assert database_revision(empty) == head_revision()
    assert not migrate(empty)
    assert database_revision(empty) == head_revision()


def test_a_program_is_told_of_a_database_that_is_away_or_refuses(empty_database: str) -> None:
    away = SqlProvider("postgresql://u:secret@127.0.0.1:1/x")
    with pytest.raises(
        Unavailable, match=r"postgresql://u:\*\*\*@127.0.0.1:1/x cannot be migrated: .*refused"
    ):
        migrate(away)
    away.close()
    url = make_url(empty_database).update_query_dict({"options": "-c default_transaction_read_only=on"})
    refuses = SqlProvider(url.render_as_string(hide_password=False))
    with pytest.raises(FailedPrecondition, match=r"cannot be migrated: .*read-only transaction"):
        migrate(refuses)
    refuses.close()
    with pytest.raises(ValueError, match="it is not postgresql://USER@HOST/DATABASE"):
        SqlProvider("foo")


def test_replicas_that_start_at_once_migrate_once(empty: SqlProvider) -> None:
    did: list[bool] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            did.append(migrate(empty))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(did) == [False, False, False, True]


def newer(provider: SqlProvider, *, oldest: str) -> None:
    """As if a later version had migrated, and noted whose code still runs."""
    with provider.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'r9999'"))
        session.execute(text("UPDATE schema_compatibility SET oldest_revision = :oldest"), {"oldest": oldest})


def test_a_database_of_a_newer_version_within_the_window_is_used_as_it_is(provider: SqlProvider) -> None:
    newer(provider, oldest=head_revision())
    assert not migrate(provider)
    assert runs_on(provider)
    assert database_revision(provider) == "r9999"


def test_a_database_of_a_newer_version_outside_of_the_window_is_refused_and_left_alone(
    provider: SqlProvider,
) -> None:
    newer(provider, oldest="r9998")
    for _ in range(2):  # the second time: the lock was let go of
        with pytest.raises(IncompatibleDatabaseError, match=r"r9999.*needs the code of r9998"):
            migrate(provider)
    with pytest.raises(IncompatibleDatabaseError, match=r"r9999"):
        runs_on(provider)
    assert database_revision(provider) == "r9999"


def test_a_revision_that_notes_no_window_is_refused(provider: SqlProvider) -> None:
    newer(provider, oldest="r0001")
    with provider.session() as session:
        session.execute(text("DROP TABLE schema_compatibility"))
    with pytest.raises(IncompatibleDatabaseError, match=r"r9999.*newer one"):
        migrate(provider)


def test_a_database_that_has_to_be_migrated_first_is_told_from_one_that_can_be_used(
    empty: SqlProvider,
) -> None:
    assert not runs_on(empty)
    migrate(empty)
    assert runs_on(empty)
    with empty.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'r0001'"))
    assert not runs_on(empty)


def test_the_migrated_schema_is_that_of_the_models(provider: SqlProvider) -> None:
    with provider.session() as session:
        context = MigrationContext.configure(
            session.connection(), opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_the_storage_parameters_are_those_of_the_models(provider: SqlProvider) -> None:
    expected = {
        table.name: {f"{k}={v}" for k, v in table.dialect_options["postgresql"]["with"].items()}
        for table in Base.metadata.sorted_tables
        if table.dialect_options["postgresql"]["with"]
    }
    assert {"jobs", "queue", "leases", "bots", "in_flight"} <= set(expected)
    with provider.session() as session:
        rows = session.execute(text("SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL"))
        found = {name: set(options) for name, options in rows if name in Base.metadata.tables}
    assert found == expected


def test_the_hot_tables_have_no_foreign_keys(provider: SqlProvider) -> None:
    """Each would cost an index probe and a row lock per write."""
    with provider.session() as session:
        assert session.execute(text("SELECT conname FROM pg_constraint WHERE contype = 'f'")).all() == []
