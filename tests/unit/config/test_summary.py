"""What a configuration amounts to, for people."""

from pathlib import Path

import pytest
from buildgrid_scheduler.config import Config
from buildgrid_scheduler.config.summary import notes, summary

from tests.unit.config.files import load

STORAGE_ONLY = "services: {execution: false, bots: false, action_cache: false}"


def test_the_defaults() -> None:
    told = summary(Config())
    assert told["services"] == "execution, bots, cas, action_cache, reflection on 127.0.0.1:50051"
    assert "embedded PostgreSQL in buildgrid-data/postgres" in told["database"]
    assert told["storage"] == "disk, buildgrid-data/cas, up to 20Gi"
    assert told["identity"] == "none, everybody may do everything; no TLS"


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("", True),
        (STORAGE_ONLY, False),
        ("services: {execution: false, bots: false}", True),
        (
            "services: {execution: false, bots: false}\n"
            "action_cache: {type: remote, endpoint: 'grpc://cache:50051'}",
            False,
        ),
        ("services: {execution: false, cas: false, action_cache: false}", True),
    ],
)
def test_a_server_that_only_stores_may_do_without_a_database(tmp_path: Path, text: str, needs: bool) -> None:
    config = load(tmp_path, text)
    assert config.needs_database is needs
    assert (summary(config)["database"] == "none is needed") is not needs


def test_secrets_are_not_told(tmp_path: Path) -> None:
    config = load(tmp_path, "database: {url: 'postgresql://user:open-sesame@db/x'}")
    assert "open-sesame" not in str(summary(config))


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("listen: '[::]:50051'", "whoever reaches [::]:50051 may run actions"),
        ("storage: {type: memory}", "blobs are lost with the process"),
        ("", "work of low priority may wait for ever"),
        (
            "auth: {jwt: [{audiences: [a], jwks: {file: k}}], "
            "policy: [{identities: [{subject: a}], rights: [execute]}]}",
            "tokens travel unencrypted",
        ),
    ],
)
def test_what_may_not_be_meant_is_noted(tmp_path: Path, text: str, note: str) -> None:
    assert any(note in told for told in notes(load(tmp_path, text)))


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("engine", "buildgrid_scheduler.engine"),
        ("engine.event", "buildgrid_scheduler.engine.events"),
        ("buildgrid_scheduler.store.migrat", "buildgrid_scheduler.store.migrate"),
        ("zzz", None),
    ],
)
def test_a_logger_that_there_is_not_is_noted(tmp_path: Path, name: str, nearest: str | None) -> None:
    found = [
        note for note in notes(load(tmp_path, f"logging: {{loggers: {{{name}: debug}}}}")) if name in note
    ]
    hint = f"; did you mean {nearest}?" if nearest else ""
    assert found == [f"logging.loggers: nothing logs as {name}{hint}"]


@pytest.mark.parametrize(
    "name",
    [
        "buildgrid_scheduler",
        "buildgrid_scheduler.engine",
        "buildgrid_scheduler.engine.events",
        "grpc._cython",
        "__main__",
    ],
)
def test_a_logger_that_there_is_is_not_noted(tmp_path: Path, name: str) -> None:
    text = f"logging: {{loggers: {{{name}: debug}}}}\nscheduler: {{priority_assignment_percentage: 90}}"
    assert notes(load(tmp_path, text)) == []


def test_a_careful_configuration_has_no_notes(tmp_path: Path) -> None:
    assert notes(load(tmp_path, "scheduler: {priority_assignment_percentage: 90}")) == []
