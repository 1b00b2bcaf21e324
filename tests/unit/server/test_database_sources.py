"""Where the database is: URLs, files that change, and what a refusal means."""

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from buildgrid_scheduler.config import ConfigError
from buildgrid_scheduler.config.model import DatabaseConfig
from buildgrid_scheduler.server.database_errors import fatal_reason, outage
from buildgrid_scheduler.server.database_url import notify_source, read_source, url_source
from pydantic import ValidationError

URL = "postgresql://user@db/farm"


def test_the_configuration_comes_before_the_environment() -> None:
    environment = {"DATABASE_URL": "postgresql://elsewhere/x"}
    told = url_source(DatabaseConfig(url=URL), environment)
    assert told is not None and told() == URL
    told = url_source(DatabaseConfig(), environment)
    assert told is not None and told() == "postgresql://elsewhere/x"
    assert url_source(DatabaseConfig(), {}) is None
    assert url_source(DatabaseConfig(), {"DATABASE_URL": ""}) is None


def test_a_file_with_the_url_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(f"{URL}\n")
    told = url_source(DatabaseConfig(url_file=file), {})
    assert told is not None and told() == URL
    file.write_text("postgresql://other/farm")
    assert told() == "postgresql://other/farm"


def test_a_file_with_the_password_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("old/one\n")
    config = DatabaseConfig(url="postgresql://user:wrong@db/farm", read_url=URL, password_file=file)
    told, read = url_source(config, {}), read_source(config)
    assert told is not None and told() == "postgresql://user:old%2Fone@db/farm"
    file.write_text("new")
    assert told() == "postgresql://user:new@db/farm"
    assert read is not None and read() == "postgresql://user:new@db/farm"
    assert notify_source(config) is None


@pytest.mark.parametrize(("field", "source"), [("read_url", read_source), ("notify_url", notify_source)])
def test_other_urls_may_be_in_files_as_well(
    tmp_path: Path, field: str, source: Callable[[DatabaseConfig], Callable[[], str] | None]
) -> None:
    file, password = tmp_path / "url", tmp_path / "password"
    config = DatabaseConfig.model_validate({"url": URL, f"{field}_file": file, "password_file": password})
    with pytest.raises(ConfigError, match=rf"database\.{field}_file: .*url cannot be read"):
        source(config)
    file.write_text("postgresql://user@other/farm\n")
    password.write_text("one")
    told = source(config)
    assert told is not None and told() == "postgresql://user:one@other/farm"
    file.write_text("postgresql://user@third/farm")
    assert told() == "postgresql://user:one@third/farm"


FORM = r"is not postgresql://USER\[:PASSWORD\]@HOST\[:PORT\]/DATABASE"
NO_URLS = [
    "foo",
    "postgres:/x",
    "postgresql:/x",
    "mysql://db/x",
    "postgresql://db:port/x",
    "postgresql://db:70000/x",
]


@pytest.mark.parametrize("given", NO_URLS)
def test_what_is_no_url_is_told_with_the_form_of_one(tmp_path: Path, given: str) -> None:
    with pytest.raises(ConfigError, match=f"DATABASE_URL {FORM}") as caught:
        url_source(DatabaseConfig(), {"DATABASE_URL": given})
    assert given not in str(caught.value).split()  # there may be a password in it
    with pytest.raises(ValidationError, match=FORM):
        DatabaseConfig(url=given)
    file = tmp_path / "url"
    file.write_text(given)
    with pytest.raises(ConfigError, match=rf"database\.url_file: what is in .*url {FORM}"):
        url_source(DatabaseConfig(url_file=file), {})


@pytest.mark.parametrize(
    "given",
    [
        "postgres://db/x",
        "postgresql://",
        "postgresql://u:p#/w@db:5432/x?sslmode=require",
        "postgresql://[::1]:5432/x",
        "postgresql://u@/x?host=%2Ftmp&port=5432",
    ],
)
def test_any_url_of_postgresql_is_taken(given: str) -> None:
    told = url_source(DatabaseConfig(), {"DATABASE_URL": given})
    assert told is not None and told() == given
    assert DatabaseConfig(url=given).url == given


def test_a_file_that_holds_no_url_any_more_is_an_outage(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(URL)
    told = url_source(DatabaseConfig(url_file=file), {})
    file.write_text("foo")
    assert told is not None
    with pytest.raises(psycopg.OperationalError, match=FORM):
        told()


@pytest.mark.parametrize("field", ["url", "read_url", "notify_url"])
def test_a_url_is_given_once(field: str) -> None:
    with pytest.raises(ValidationError, match=f"excludes {field}"):
        DatabaseConfig.model_validate({field: URL, f"{field}_file": "/secrets/url"})


@pytest.mark.parametrize("field", ["url_file", "password_file"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, field: str) -> None:
    file = tmp_path / "secret"
    config = DatabaseConfig.model_validate({field: file, **({} if field == "url_file" else {"url": URL})})
    with pytest.raises(ConfigError, match=rf"database\.{field}: .*secret cannot be read: No such file"):
        url_source(config, {})
    file.write_text(" \n")
    with pytest.raises(ConfigError, match="is empty"):
        url_source(config, {})


def test_a_file_that_goes_away_later_is_an_outage(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text(URL)
    told = url_source(DatabaseConfig(url_file=file), {})
    file.unlink()
    assert told is not None
    with pytest.raises(psycopg.OperationalError, match="cannot be read"):
        told()


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (
            'connection failed: FATAL:  database "x" does not exist',
            'no database "x" on that server; create it',
        ),
        ('FATAL:  role "u" does not exist', 'no user "u"; create it'),
        ('FATAL:  password authentication failed for user "u"', "correct it in the URL or the file"),
        ("fe_sendauth: no password supplied", "database.password_file"),
        ('FATAL:  no pg_hba.conf entry for host "1.2.3.4"', "pg_hba.conf"),
        ('FATAL:  permission denied for database "x"', "GRANT CONNECT"),
    ],
)
def test_a_refusal_names_the_remedy(said: str, remedy: str) -> None:
    assert remedy in (fatal_reason(psycopg.OperationalError(said)) or "")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "port 1 failed: Connection refused\n\tIs the server running on that host and accepting it?\n",
            "port 1 failed: Connection refused; start PostgreSQL there, or correct host and port in the URL",
        ),
        (
            "failed to resolve host 'db': Name or service not known",
            "failed to resolve host 'db': Name or service not known; correct the host in the URL, or the "
            "name service",
        ),
        ("FATAL:  the database system is starting up", "FATAL: the database system is starting up"),
    ],
)
def test_an_outage_is_told_in_one_line_with_one_remedy(said: str, told: str) -> None:
    assert outage(psycopg.OperationalError(said)) == told


@pytest.mark.parametrize(
    "said",
    [
        'connection to server at "127.0.0.1", port 1 failed: Connection refused',
        "failed to resolve host 'db': Name or service not known",
        "FATAL:  the database system is starting up",
        "FATAL:  sorry, too many clients already",
        "timeout expired",
    ],
)
def test_an_outage_is_waited_for(said: str) -> None:
    assert fatal_reason(psycopg.OperationalError(said)) is None


def test_a_right_that_is_missing_is_fatal() -> None:
    error = psycopg.errors.InsufficientPrivilege("permission denied for schema public")
    assert "let the user own the database" in (fatal_reason(error) or "")
