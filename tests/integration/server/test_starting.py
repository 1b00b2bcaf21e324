"""What a server needs to start, and what it says when it cannot."""

import argparse
import asyncio
import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import GetCapabilitiesRequest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import CapabilitiesStub
from buildgrid_scheduler.cli import serve
from buildgrid_scheduler.cli.main import main
from buildgrid_scheduler.config import Config, load_config
from buildgrid_scheduler.core.errors import FailedPrecondition
from buildgrid_scheduler.server.database import Database
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.revisions import IncompatibleDatabaseError
from sqlalchemy import make_url, text

from tests.farm.clients import Client, action_blobs
from tests.farm.database import rows
from tests.farm.ports import ReservedPort
from tests.farm.waiting import eventually
from tests.integration.server.conftest import OpenChannel, StartServer
from tests.integration.server.server_process import Server

NO_DATABASE = {"execution": False, "bots": False, "action_cache": False}


def refused(server: Server) -> str:
    """The log of a server that does not start."""
    server.launch()
    assert server.exit_code() == 2, server.describe()
    return server.log


async def use(**database: object) -> None:
    """Make a database ready, as a server does when it starts."""
    found = Database(Config.model_validate({"database": database}), lambda _: None)
    try:
        assert await found.start(asyncio.Event())
        assert found.problem() is None
    finally:
        found.stop()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"database": "nowhere"}, 'there is no database "nowhere" on that server; create it'),
        ({"username": "nobody"}, 'there is no user "nobody"; create it'),
    ],
    ids=["database", "user"],
)
async def test_a_database_that_answers_and_refuses_is_fatal(
    database: str, change: dict[str, Any], words: str
) -> None:
    url = make_url(database).set(**change).render_as_string(hide_password=False)
    with pytest.raises(FailedPrecondition, match=words):
        await use(url=url)


async def test_a_database_that_does_not_answer_is_waited_for(make_server: Callable[..., Server]) -> None:
    with ReservedPort() as nobody:
        server = make_server(f"postgresql://{nobody.address}/x")
        server.launch()
        await eventually(lambda: server.log.count("next try in") >= 2, 30, server.describe)
        assert "\\n" not in server.log
        assert "; start PostgreSQL there, or correct host and port in the URL\n" in server.log
        assert server.readiness()[0] == 503


async def test_a_database_of_another_version_is_used_if_this_one_runs_on_it(database: str) -> None:
    await use(url=database)
    rows(database, "UPDATE alembic_version SET version_num = 'r9999' RETURNING 1")
    for migrates in (True, False):
        await use(url=database, migrate=migrates)
    rows(database, "UPDATE schema_compatibility SET oldest_revision = 'r9998' RETURNING 1")
    for migrates in (True, False):
        with pytest.raises(IncompatibleDatabaseError, match="needs the code of r9998 or newer"):
            await use(url=database, migrate=migrates)


async def test_the_url_may_be_in_a_file_that_changes(database: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{database}\n")
    await use(url_file=secret)
    provider = SqlProvider(lambda: secret.read_text().strip())
    with provider.session() as session:
        assert session.execute(text("SELECT current_database()")).scalar() == make_url(database).database
    secret.write_text(make_url(database).set(database="postgres").render_as_string(hide_password=False))
    with provider.connect() as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("postgres",)
    provider.close()


@pytest.mark.parametrize("field", ["listen", "monitoring"])
def test_a_port_that_is_taken_is_named(make_server: Callable[..., Server], database: str, field: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = make_server(database)
        server.write(**{field: address if field == "listen" else {"listen": address}})
        assert f"{address} cannot be bound" in refused(server)


def test_a_port_that_is_taken_is_told_before_a_database_is_made(make_server: Callable[..., Server]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        server = make_server(None)
        server.write(listen=address)
        assert f"listen: {address} cannot be bound: it is in use" in refused(server)
        assert not Path(server.configuration["data"], "postgres").exists()


def test_a_bad_configuration_is_told_with_line_and_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("listen: 127.0.0.1:0\nscheduler:\n  max_queue_sise: 3\n")
    assert main(["serve", "--config", str(file)]) == 2
    assert (
        f"serve: {file}:3: scheduler.max_queue_sise: unknown field; did you mean max_queue_size?"
        in capsys.readouterr().err
    )
    assert main(["serve", "--listen", "here"]) == 2
    assert "command line: listen: 'here' is not HOST:PORT" in capsys.readouterr().err


def test_a_variable_that_holds_no_url_is_told_before_anything_starts(
    make_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "foo")
    assert "serve: DATABASE_URL is not postgresql://USER" in refused(make_server(None))


async def test_a_storage_needs_no_database(
    make_server: Callable[..., Server], channels: OpenChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nowhere")
    server = make_server(None, services=NO_DATABASE)
    server.start()
    channel = channels(server)
    client = Client(channel)
    (digest, _, _) = await client.upload(*action_blobs("a"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.execute(digest).next()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    told = await CapabilitiesStub(channel).GetCapabilities(GetCapabilitiesRequest(), timeout=10)
    assert told.HasField("cache_capabilities")
    assert not told.HasField("execution_capabilities")
    assert server.value("buildgrid_jobs", stage="queued") is None
    assert not (server.config_file.parent / "data" / "postgres").exists()


async def test_one_server_schedules_and_another_one_stores(
    start_server: StartServer,
    make_server: Callable[..., Server],
    channels: OpenChannel,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stores = make_server(None, services=NO_DATABASE)
    stores.start()
    schedules = start_server(
        services={"cas": False}, storage={"type": "remote", "endpoint": f"grpc://{stores.endpoint}"}
    )
    digest = await Client(channels(stores)).add_action("a")
    await Client(channels(schedules)).queue(digest)
    execute = ["execute", "--endpoint", f"grpc://{schedules.endpoint}", "--wait", "0.5"]
    assert await asyncio.to_thread(main, [*execute, "--", "true"]) == 125
    assert "has no CAS: it is a scheduler in front of a storage of its own" in capsys.readouterr().err
    execute += ["--cas-endpoint", f"grpc://{stores.endpoint}"]
    assert await asyncio.to_thread(main, [*execute, "--", "true"]) == 125
    assert "no bot has taken it" in capsys.readouterr().err


async def test_a_server_is_not_ready_while_its_storage_is_away(make_server: Callable[..., Server]) -> None:
    stores = make_server(None, services=NO_DATABASE)
    stores.start()
    front = make_server(
        None,
        services=NO_DATABASE,
        storage={"type": "remote", "endpoint": f"grpc://{stores.endpoint}", "outage_tolerance": "1s"},
    )
    front.start()
    stores.kill()
    await eventually(lambda: front.readiness()[0] == 503, 40, front.describe)
    assert "storage" in front.readiness()[1]
    assert front.liveness()[0] == 200
    stores.start()
    await eventually(lambda: front.readiness()[0] == 200, 40, front.describe)


def test_flags_take_the_place_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("monitoring: {listen: '127.0.0.1:1', fleet_interval: 3s}\nlogging: {format: json}")
    parser = argparse.ArgumentParser()
    serve.add_parser(parser.add_subparsers())
    flags = ["--listen", "[::]:7", "--monitoring-listen", "none", "--log-level", "error", "--data", "/d"]
    config = load_config(file, serve.overrides(parser.parse_args(["serve", *flags])))
    assert (config.listen, config.data, config.monitoring.listen) == ("[::]:7", Path("/d"), None)
    assert (config.logging.format, config.logging.level) == ("json", "error")
    assert config.monitoring.fleet_interval == timedelta(seconds=3)
    assert serve.overrides(parser.parse_args(["serve"])) == {}
