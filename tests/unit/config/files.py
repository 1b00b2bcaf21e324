"""Configurations in files, and what is said of those that cannot be used."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from buildgrid_scheduler.config import Config, ConfigError, load_config
from buildgrid_scheduler.config.problems import Problem


def load(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> Config:
    """The configuration in a file with this text."""
    path = tmp_path / "server.yaml"
    path.write_text(text)
    return load_config(path, environment=environment or {})


def refused(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> ConfigError:
    """The error of a file with this text."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text, environment)
    assert str(tmp_path / "server.yaml") in str(caught.value)
    return caught.value


def problem(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> Problem:
    """The only problem of a file with this text."""
    error = refused(tmp_path, text, environment)
    assert len(error.problems) == 1, str(error)
    return error.problems[0]
