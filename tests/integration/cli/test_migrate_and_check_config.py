"""`migrate` and `check-config`."""

import json
from pathlib import Path

import pytest
from buildgrid_scheduler.cli.main import main
from buildgrid_scheduler.store.revisions import head_revision

from tests.farm.database import Databases, drop_database, rows


def test_migrate_says_what_it_did(databases: Databases, capsys: pytest.CaptureFixture[str]) -> None:
    url, head = databases.create(), head_revision()
    assert main(["migrate", "--database-url", url]) == 0
    assert capsys.readouterr().out == f"the database is at revision {head}\n"
    assert main(["migrate", "--database-url", url]) == 0
    assert capsys.readouterr().out == f"the database is at revision {head} already\n"
    rows(url, "UPDATE alembic_version SET version_num = 'r9999' RETURNING 1")
    assert main(["migrate", "--database-url", url]) == 0
    assert f"revision r9999, of a newer version; this one ({head}) runs on it" in capsys.readouterr().out
    rows(url, "UPDATE schema_compatibility SET oldest_revision = 'r9998' RETURNING 1")
    assert main(["migrate", "--database-url", url]) == 2
    assert "use a scheduler of the version that migrated it, or a newer one" in capsys.readouterr().err
    drop_database(url)


def test_migrate_needs_a_database(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert main(["migrate"]) == 2
    assert (
        "no database; give --database-url, database.url in --config, or DATABASE_URL"
        in capsys.readouterr().err
    )
    assert main(["migrate", "--database-url", "postgresql://127.0.0.1:1/x"]) == 1


def test_check_config_says_what_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("listen: '[::]:50051'\nservices: {execution: false, bots: false, action_cache: false}\n")
    assert main(["check-config", str(file)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{file}: OK\n")
    assert "services    cas, reflection on [::]:50051" in out
    assert "database    none is needed" in out
    assert "note: whoever reaches [::]:50051 may run actions" in out
    assert main(["check-config", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is True
    assert told["summary"]["database"] == "none is needed"


def test_check_config_tells_all_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("lissten: 1\nscheduler:\n  max_job_attempts: 0\n")
    assert main(["check-config", str(file)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{file}:1: lissten: unknown field; did you mean listen?",
        f"{file}:3: scheduler.max_job_attempts: must be at least 1 (is 0)",
    ]
    assert main(["check-config", str(file), "--json"]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert [(p["line"], p["field"], p["nearest"]) for p in told["problems"]] == [
        (1, "lissten", "listen"),
        (3, "scheduler.max_job_attempts", None),
    ]
