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
    assert not {"alembic", "prometheus_client"} & set(imported_by("check-config", "/no/such/file"))


def test_execute_needs_a_client_and_nothing_of_a_server() -> None:
    for arguments in (("execute", "--help"), ("execute", "--endpoint", "nowhere", "--", "true")):
        assert set(imported_by(*arguments)) <= {"grpc", "google.protobuf"}


@pytest.mark.parametrize("command", ["jobs", "bots", "cancel", "drain"])
def test_looking_at_a_farm_needs_no_metrics(command: str) -> None:
    names = ["x"] if command in ("cancel", "drain") else []
    imported = imported_by(command, *names, "--database-url", "postgresql://127.0.0.1:1/x")
    assert "sqlalchemy" in imported
    assert "prometheus_client" not in imported


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (BrokenPipeError, 141)])
def test_an_end_from_outside_is_told_as_a_shell_tells_it(error: type[BaseException], code: int) -> None:
    program = (
        "import sys\n"
        "from buildgrid_scheduler.cli import jobs, main\n"
        "def run(options): raise globals()['__builtins__'].__dict__[sys.argv[1]]\n"
        "jobs.run = run\n"
        "sys.exit(main.main(['jobs']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, error.__name__],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (code, "")


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
