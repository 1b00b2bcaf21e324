"""Where the database is, and that its password is nobody's business."""

import pytest
from buildgrid_scheduler.store.provider import SqlProvider


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


@pytest.mark.parametrize("url", ["sqlite:///farm.db", "mysql://db/farm"])
def test_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="only postgresql:// is supported"):
        SqlProvider(url)
