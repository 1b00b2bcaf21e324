"""Where the database is, and that its password is nobody's business."""

import pytest
from buildgrid_scheduler.store.provider import SqlProvider
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@db.example:5433/farm",
        "postgres://me:secret@db.example:5433/farm",
        "postgresql+psycopg://me:secret@db.example:5433/farm",
    ],
)
def test_the_usual_urls_are_understood_and_the_password_is_not_shown(url: str) -> None:
    provider = SqlProvider(url)
    assert provider.shown_url == "postgresql://me:***@db.example:5433/farm"
    assert "secret" not in repr(provider)
    assert provider.sqlalchemy_url.drivername == "postgresql+psycopg"
    assert provider.sqlalchemy_url.password == "secret"
    provider.close()


def test_a_password_of_any_characters_reaches_libpq() -> None:
    password = "a b+c?d@e/f%20&g=:#"
    provider = SqlProvider(
        URL.create("postgresql", "me", password, "db", 5433, "farm").render_as_string(False)
    )
    assert conninfo_to_dict(provider._dsn)["password"] == password
    provider.close()


@pytest.mark.parametrize("url", ["sqlite:///farm.db", "mysql://db/farm"])
def test_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="only postgresql:// is supported"):
        SqlProvider(url)
