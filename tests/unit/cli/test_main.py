"""The program: quick where nothing is to be done, and clear about what there is."""

import subprocess
import sys

import pytest
from buildgrid_scheduler.cli.main import COMMANDS, main

HEAVY = (
    "grpc",
    "sqlalchemy",
    "psycopg",
    "pydantic",
    "yaml",
    "alembic",
    "google.protobuf",
    "prometheus_client",
)


def imported_by(*arguments: str) -> list[str]:
    """Which of the heavy packages a run of the program imports."""
    program = (
        "import sys\n"
        "from buildgrid_scheduler.cli.main import main\n"
        f"try: main({list(arguments)!r})\n"
        "except SystemExit: pass\n"
        f"print('imported', *[name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("--version",), *((name, "--help") for name in COMMANDS if name != "execute")],
    ids=" ".join,
)
def test_help_does_not_wait_for_libraries(arguments: tuple[str, ...]) -> None:
    assert imported_by(*arguments) == []


def test_check_config_needs_no_server() -> None:
    assert "alembic" not in imported_by("check-config", "/no/such/file")


def test_every_command_says_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    told = " ".join(capsys.readouterr().out.split())
    for name, purpose in COMMANDS.items():
        assert f"{name} {purpose}" in told


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"usage: buildgrid-scheduler {name}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["sevre"], ["serve", "--what"]])
def test_what_there_is_not_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: buildgrid-scheduler" in capsys.readouterr().err


def test_the_core_of_grpc_keeps_its_lines_to_itself() -> None:
    program = "import os; import buildgrid_scheduler.cli.main; print(os.environ['GRPC_VERBOSITY'])"
    for given, found in (({}, "NONE"), ({"GRPC_VERBOSITY": "debug"}, "debug")):
        done = subprocess.run(
            [sys.executable, "-c", program], env=given, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.strip() == found
