"""Where the database is, as configured: a URL, a file with one, or the environment."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from buildgrid_scheduler.config import ConfigError
from buildgrid_scheduler.config.model import URL_VARIABLE, DatabaseConfig
from buildgrid_scheduler.config.values import postgres_url


def url_source(
    config: DatabaseConfig, environment: Mapping[str, str] = os.environ
) -> Callable[[], str] | None:
    """A function that tells the URL, reading files anew each time; None: an embedded database is meant.

    Raises ConfigError for a file that cannot be read now, and for what is no URL. Later that is an outage of
    the database, as far as callers of the function can tell: psycopg.OperationalError.
    """
    if config.url is not None or config.url_file is not None:
        return _other_source(config.url, config.url_file, "database.url_file", config)
    if not (given := environment.get(URL_VARIABLE)):
        return None
    url = checked_url(given, URL_VARIABLE)
    return _with_password(lambda: url, config)


def checked_url(url: str, name: str) -> str:
    """The URL of a database, given as `name`. Raises ConfigError for what is none."""
    try:
        return postgres_url(url)
    except ValueError as error:
        raise ConfigError(f"{name} {error}") from error


def read_source(config: DatabaseConfig) -> Callable[[], str] | None:
    """As `url_source`, for where lists are read; None: where everything is."""
    return _other_source(config.read_url, config.read_url_file, "database.read_url_file", config)


def notify_source(config: DatabaseConfig) -> Callable[[], str] | None:
    """As `url_source`, for where LISTEN works; None: where everything is."""
    return _other_source(config.notify_url, config.notify_url_file, "database.notify_url_file", config)


def _other_source(
    url: str | None, file: Path | None, field: str, config: DatabaseConfig
) -> Callable[[], str] | None:
    if file is not None:
        checked_url(_read(file, field), f"{field}: what is in {file}")
        return _with_password(lambda: _reread_url(file), config)
    return None if url is None else _with_password(lambda: url, config)


def _with_password(url: Callable[[], str], config: DatabaseConfig) -> Callable[[], str]:
    if config.password_file is None:
        return url
    _read(config.password_file, "database.password_file")

    def told() -> str:
        password = _reread(config.password_file)
        return make_url(url()).set(password=password).render_as_string(hide_password=False)

    return told


def _reread_url(file: Path) -> str:
    try:
        return postgres_url(_reread(file))
    except ValueError as error:
        raise psycopg.OperationalError(f"what is in {file} {error}") from error


def _reread(file: Path | None) -> str:
    try:
        return "" if file is None else file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise psycopg.OperationalError(f"{file} cannot be read: {error}") from error


def _read(file: Path, field: str) -> str:
    try:
        content = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{field}: {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{field}: {file} is not text in UTF-8") from error
    if not content:
        raise ConfigError(f"{field}: {file} is empty")
    return content
