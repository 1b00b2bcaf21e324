"""The folders that a server writes to: what cannot be used is told before anything is started in it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from buildgrid_scheduler.cli.main import main
from buildgrid_scheduler.config import ConfigError
from buildgrid_scheduler.config.load import ReadConfig, read_config
from buildgrid_scheduler.server.folders import folder_problems, make_folders

from tests.farm.database import new_folder

STORES = "services: {execution: false, bots: false, action_cache: false}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)


def read(text: str = "", **overrides: str) -> ReadConfig:
    Path("server.yaml").write_text(text)
    return read_config(Path("server.yaml"), overrides)


def problems(text: str = "", **overrides: str) -> dict[str, str]:
    return {".".join(map(str, at)): told for at, told in folder_problems(read(text, **overrides), {}).items()}


def test_a_file_in_place_of_a_folder_is_told_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    Path("server.yaml").write_text("data: file/below\nstorage: {path: file}\n")
    for command in (["check-config"], ["serve", "--config"]):
        assert main([*command, "server.yaml"]) == 2
        lines = [line.rpartition("server.yaml:")[2] for line in capsys.readouterr().err.splitlines()]
        assert lines == [
            "1: data: file is no folder; name a folder that this user may write: --data or data",
            "2: storage.path: file is no folder; name a folder that this user may write: storage.path",
        ]
    assert sorted(path.name for path in Path().iterdir()) == ["file", "server.yaml"]


def test_a_data_folder_of_the_command_line_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert main(["serve", "--data", "file"]) == 2
    assert "serve: command line: data: file is no folder; name" in capsys.readouterr().err


CLOSED = Path("/proc/self")
"""In which nobody makes anything, root included."""


def as_nobody(ask: Callable[[], list[str]]) -> list[str]:
    """The answer of a process that has no rights: root may do everything."""
    reads, writes = os.pipe()
    if not (child := os.fork()):
        if os.getuid() == 0:
            os.setuid(65534)
        os.write(writes, json.dumps(ask()).encode())
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads) as answer:
        told: list[str] = json.loads(answer.read())
    os.waitpid(child, 0)
    return told


def test_a_folder_that_cannot_be_made_is_told_by_serve(capsys: pytest.CaptureFixture[str]) -> None:
    found = read(f"{STORES}storage: {{path: {CLOSED / 'cas'}}}\n")
    with pytest.raises(ConfigError, match=r"server.yaml:2: storage.path: /proc/self/cas cannot be used: "):
        make_folders(found, {})
    assert main(["serve", "--data", str(CLOSED / "data")]) == 2
    told = capsys.readouterr().err
    assert "command line: data: /proc/self/data cannot be used: " in told
    assert "; name a folder that this user may write: --data or data" in told
    assert "Errno" not in told


def test_a_folder_of_another_user_is_told_without_writing() -> None:
    theirs = new_folder()
    theirs.chmod(0o555)
    found = read(f"storage: {{path: {theirs}}}\n", data=str(theirs))
    told = as_nobody(lambda: list(folder_problems(found, {}).values()))
    theirs.rmdir()
    remedy = f"{theirs} may not be written by this user; name a folder that this user may write: "
    assert told == [f"{remedy}--data or data", f"{remedy}storage.path"]


def test_a_folder_of_somebody_else_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("data", "blobs-here"):
        Path(name).mkdir()
        Path(name, "passwd").touch()
    found = problems("storage: {path: blobs-here}", data="data")
    assert found["data"].startswith(
        "data holds files of somebody else (passwd), and none of a server; name an"
    )
    assert found["storage.path"].endswith("or one that is not there yet: storage.path")
    assert main(["serve", "--data", "data"]) == 2
    assert "data: data holds files of somebody else" in capsys.readouterr().err
    assert [path.name for path in Path("data").iterdir()] == ["passwd"]


@pytest.mark.parametrize("ours", ["postgres", "cas"])
def test_what_a_server_left_is_its_own(ours: str) -> None:
    Path("data", ours).mkdir(parents=True)
    Path("data/notes").touch()
    assert problems(data="data") == {}


def test_a_new_disk_and_what_the_configuration_names_are_no_strangers() -> None:
    for name in ("data/lost+found", "data/.cache", "data/elsewhere"):
        Path(name).mkdir(parents=True)
    Path("data/tls.crt").touch()
    text = "tls: {certificate_file: data/tls.crt, key_file: data/tls.crt}\nstorage: {path: data/elsewhere}"
    assert problems(text, data="data") == {}
    assert problems(data="data") != {}


def test_a_folder_that_is_not_used_is_not_looked_at() -> None:
    Path("data").touch()
    assert problems(f"{STORES}storage: {{type: memory}}", data="data") == {}
    url = "database: {url: 'postgresql://db/x'}\n"
    assert problems(f"{url}storage: {{type: memory}}", data="data") == {}
    assert problems(f"{url}storage: {{type: remote, endpoint: 'grpc://cas:1'}}", data="data") != {}


def test_folders_of_other_storages_are_named_by_their_fields() -> None:
    Path("file").touch()
    text = (
        "database: {url: 'postgresql://db/x'}\n"
        "storage: {type: remote, endpoint: 'grpc://cas:1', spool_path: file, tier: {path: file}}"
    )
    assert sorted(problems(text)) == ["storage.spool_path", "storage.tier.path"]
