"""What a command at work imports, down to its end: people wait for that each time."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Farm

PROGRAM = """
import json, sys
from buildgrid_scheduler.cli.main import main
code = main(sys.argv[1:])
print()
print(json.dumps([code, sorted(sys.modules)]))
"""
HEAVY = {
    "alembic",
    "buildgrid_scheduler.server.app",
    "buildgrid_scheduler.services",
    "buildgrid_scheduler.storage",
    "cryptography",
    "jwt",
    "obstore",
    "prometheus_client",
    "zstandard",
}
"""for serving, and for changing a schema"""


def modules_of(*arguments: str, code: int) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    ended, modules = json.loads(done.stdout.splitlines()[-1])
    assert ended == code, done.stderr
    return set(modules)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("jobs",), 0),
        (("jobs", "show", "unknown"), 1),
        (("bots",), 0),
        (("cancel", "unknown"), 1),
        (("drain",), 0),
        (("drain", "unknown"), 0),
        (("drain", "unknown", "--undo"), 0),
        (("export-history",), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
async def test_a_command_imports_what_it_needs_and_no_server(
    arguments: tuple[str, ...], code: int, farm: Farm, database: str
) -> None:
    await farm.client.queue(await farm.client.add_action("a"))
    found = await asyncio.to_thread(
        modules_of, *arguments, "--instance", farm.instance, "--database-url", database, code=code
    )
    assert {"sqlalchemy", "psycopg"} <= found
    assert not HEAVY & found


def test_check_config_needs_no_database(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("instances: ['']\n", encoding="utf-8")
    found = modules_of("check-config", str(file), code=0)
    assert "pydantic" in found
    assert not {"alembic", "sqlalchemy", "psycopg", "obstore", "prometheus_client"} & found
