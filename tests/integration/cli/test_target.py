"""Commands find the database that the servers use, and start nothing."""

import subprocess
from pathlib import Path

import psycopg
import pytest
from buildgrid_scheduler.cli.main import main
from buildgrid_scheduler.store.embedded import running_url

from tests.farm.database import Databases, MortalPostgres, drop_database, new_folder
from tests.farm.waiting import eventually_sync
from tests.integration.server.server_process import PROGRAM


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)


def test_without_a_server_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs"]) == 2
    assert "no server runs in buildgrid-data; name its folder with --data" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_not_a_scheduler_s_is_refused(
    databases: Databases, capsys: pytest.CaptureFixture[str]
) -> None:
    url = databases.create()
    assert main(["bots", "--database-url", url]) == 2
    assert "is not a scheduler's database, or one of an older version" in capsys.readouterr().err
    drop_database(url)


def test_a_database_that_is_away_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "--database-url", "postgresql://127.0.0.1:1/x"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("buildgrid-scheduler jobs: the database cannot be used: ")
    assert line.endswith("; start PostgreSQL there, or correct host and port in the URL")


@pytest.mark.parametrize("command", ["jobs", "migrate"])
@pytest.mark.parametrize("url", ["foo", "postgres:/x", "mysql://x"])
def test_what_is_no_url_of_postgresql_is_told_at_once(
    command: str, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    form = "is not postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE"
    assert main([command, "--database-url", url]) == 2
    assert capsys.readouterr().err == f"buildgrid-scheduler {command}: --database-url {form}\n"
    monkeypatch.setenv("DATABASE_URL", url)
    assert main([command]) == 2
    assert capsys.readouterr().err == f"buildgrid-scheduler {command}: DATABASE_URL {form}\n"


def test_the_instance_is_the_only_one_of_the_configuration(
    database: str, replica: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(f"database: {{url: '{database}'}}\ninstances: [team/0]")
    two.write_text(f"database: {{url: '{database}'}}\ninstances: [team/0, team/1]")
    assert main(["jobs", "--config", str(one), "--json"]) == 0
    capsys.readouterr()
    assert main(["jobs", "--config", str(two)]) == 2
    assert "name an instance with --instance: 'team/0', 'team/1'" in capsys.readouterr().err


def test_an_embedded_database_is_joined_without_becoming_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = new_folder()
    log = (tmp_path / "log").open("w")
    server = subprocess.Popen(
        [
            str(PROGRAM),
            "serve",
            "--data",
            str(folder),
            "--listen",
            "127.0.0.1:0",
            "--monitoring-listen",
            "none",
        ],
        stderr=log,
    )
    try:
        eventually_sync(
            lambda: "serving on" in (tmp_path / "log").read_text(), 60, lambda: (tmp_path / "log").read_text()
        )
        assert main(["jobs", "--data", str(folder), "--json"]) == 0
        assert capsys.readouterr().out == "[]\n"
        url = running_url(folder / "postgres")
        assert url is not None
        psycopg.connect(url).close()
    finally:
        server.terminate()
        assert server.wait(30) == 0
        log.close()
    # The server was the last that used it.
    assert running_url(folder / "postgres") is None
    assert main(["jobs", "--data", str(folder)]) == 2


def test_a_server_that_was_killed_is_not_taken_for_one_that_runs() -> None:
    postgres = MortalPostgres()
    folder = Path(str(postgres.url).partition("host=")[2].replace("%2F", "/"))
    assert running_url(folder) is not None
    postgres.crash()
    assert running_url(folder) is None
    postgres.close()
