"""A changed configuration is taken up while the server runs; a broken one changes nothing."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    GetCapabilitiesRequest,
    ServerCapabilities,
)
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import CapabilitiesStub
from buildgrid_scheduler.config import Config, ConfigError
from buildgrid_scheduler.config.source import ConfigSource
from buildgrid_scheduler.server.reload import Reloader
from prometheus_client import CollectorRegistry

from tests.farm.bots import Bot, completed
from tests.farm.clients import Client, Execution
from tests.farm.waiting import eventually
from tests.integration.server.conftest import OpenChannel, StartServer
from tests.integration.server.server_process import Server

if TYPE_CHECKING:
    from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
        CapabilitiesAsyncStub,
    )


async def refusal(execution: Execution) -> grpc.StatusCode | None:
    """How an Execute was refused; None if it was not."""
    try:
        await execution.next()
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


async def taken_up(server: Server, text: str) -> None:
    """Wait for a line of the log."""
    await eventually(lambda: text in server.log, 20, server.describe)


async def test_limits_properties_and_logging_change_on_a_running_server(
    start_server: StartServer, channels: OpenChannel
) -> None:
    server = start_server(reload={"interval": "200ms"})
    client = Client(channels(server))
    assert await refusal(client.execute(await client.add_action("a", platform={"GPU": "a100"}))) is (
        grpc.StatusCode.FAILED_PRECONDITION
    )
    server.write(
        scheduler={"max_queue_size": 1, "max_execution_timeout": "1h"},
        property_set={"match_property_keys": ["OSFamily", "GPU"], "label_key": "GPU"},
        logging={"format": "json"},
    )
    await taken_up(server, "configuration taken up, changed: logging, property_set, scheduler.max_execution_")
    await client.queue(await client.add_action("a", platform={"GPU": "a100"}))
    assert await refusal(client.execute(await client.add_action("b", platform={"GPU": "a100"}))) is (
        grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    # The bot is matched by the new property set, too.
    bot = Bot(channels(server), "", "bot", properties={"GPU": "a100"})
    await bot.take_lease()
    assert server.log.splitlines()[-1].startswith('{"time": "')


async def test_a_broken_file_keeps_the_last_good_one(
    start_server: StartServer, channels: OpenChannel
) -> None:
    server = start_server(reload={"interval": "200ms"}, scheduler={"max_queue_size": 1})
    client = Client(channels(server))
    good = server.value("buildgrid_config_last_reload_success_timestamp_seconds")
    server.write(scheduler={"max_queue_sise": 5})
    await taken_up(server, "scheduler.max_queue_sise: unknown field; did you mean max_queue_size?")
    assert server.value("buildgrid_config_last_reload_successful") == 0
    assert server.readiness()[0] == 200
    await client.queue(await client.add_action("a"))
    assert await refusal(client.execute(await client.add_action("b"))) is grpc.StatusCode.RESOURCE_EXHAUSTED
    server.write(scheduler={"max_queue_size": 2})
    await taken_up(server, "configuration taken up, changed: scheduler.max_queue_size")
    assert server.value("buildgrid_config_last_reload_successful") == 1
    assert server.value("buildgrid_config_last_reload_success_timestamp_seconds") != good
    await client.queue(await client.add_action("b"))


async def test_sighup_takes_the_file_up_at_once_and_names_what_needs_a_restart(
    start_server: StartServer,
) -> None:
    server = start_server(reload={"interval": None})
    before = next(iter(server.families()["buildgrid_config_info"].samples)).labels["hash"]
    server.write(scheduler={"max_queue_size": 5}, instances=["a"])
    server.signal(signal.SIGHUP)
    await taken_up(server, "configuration taken up, changed: scheduler.max_queue_size")
    await taken_up(server, "these changes take effect at the next start: instances")
    assert server.value("buildgrid_config_restart_needed") == 1
    (info,) = server.families()["buildgrid_config_info"].samples
    assert info.labels["hash"] != before
    server.signal(signal.SIGHUP)
    await eventually(lambda: server.log.count("take effect at the next start") == 2, 20, server.describe)


async def test_a_farm_that_accepts_no_new_jobs_finishes_those_that_it_has(
    start_server: StartServer, channels: OpenChannel
) -> None:
    server = start_server(reload={"interval": None})
    client, bot = Client(channels(server)), Bot(channels(server), "", "bot")
    cached, waiting, new = await client.add_actions("job", 3)
    await client.store(cached, ActionResult(stdout_raw=b"from the cache"))
    first = await client.queue(waiting)
    before = await capabilities_of(channels(server))

    server.write(scheduler={"accept_new_jobs": False})
    server.signal(signal.SIGHUP)
    await taken_up(server, "configuration taken up, changed: scheduler.accept_new_jobs")
    with pytest.raises(grpc.aio.AioRpcError, match=r"is being shut down.*accept_new_jobs") as refused:
        await client.execute(new).next()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await refusal(client.execute(waiting, skip_cache_lookup=True)) is None
    assert (await client.execute(cached).response()).cached_result
    second, third = await client.queue(waiting), client.wait(first.name)
    lease = await bot.take_lease()
    await bot.update(completed(lease))
    for execution in (first, second, third):
        assert (await execution.response()).status.code == 0
    assert await client.unfinished() == []
    assert await refusal(client.execute(new)) is grpc.StatusCode.UNAVAILABLE
    assert server.readiness()[0] == 200
    assert await capabilities_of(channels(server)) == before
    assert before.execution_capabilities.exec_enabled

    server.write(scheduler={"accept_new_jobs": True})
    server.signal(signal.SIGHUP)
    await eventually(lambda: server.log.count("changed: scheduler.accept_new_jobs") == 2, 20, server.describe)
    await client.queue(new)


async def test_a_server_may_start_without_accepting_new_jobs(
    start_server: StartServer, channels: OpenChannel
) -> None:
    client = Client(channels(start_server(scheduler={"accept_new_jobs": False})))
    assert await refusal(client.execute(await client.add_action("a"))) is grpc.StatusCode.UNAVAILABLE


async def capabilities_of(channel: grpc.aio.Channel) -> ServerCapabilities:
    """What the server says it offers."""
    stub: CapabilitiesAsyncStub = CapabilitiesStub(channel)
    return await stub.GetCapabilities(GetCapabilitiesRequest(), timeout=20)


# --- the decisions, without a server


class Applied:
    """What a Reloader puts in force."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.configs: list[Config] = []
        self.refuse: str | None = None
        self.registry = CollectorRegistry()
        source = ConfigSource(file)
        self.reloader = Reloader(source, source.load(), source.digest(), self.apply, self.registry)

    def apply(self, config: Config) -> None:
        if self.refuse is not None:
            raise ConfigError(self.refuse)
        self.configs.append(config)

    @property
    def successful(self) -> float | None:
        return self.registry.get_sample_value("buildgrid_config_last_reload_successful")


@pytest.fixture
def applied(tmp_path: Path) -> Applied:
    file = tmp_path / "server.yaml"
    file.write_text("scheduler: {max_job_attempts: 2}")
    return Applied(file)


async def test_a_file_that_has_not_changed_is_not_read(applied: Applied) -> None:
    await applied.reloader.look(requested=False)
    os.utime(applied.file, (1, 1))
    await applied.reloader.look(requested=False)
    assert applied.configs == []


async def test_a_configmap_that_is_exchanged_by_a_link_is_noticed(tmp_path: Path) -> None:
    """Kubernetes writes a new folder, and moves a link to it: nothing in the old one changes."""
    for number in (1, 2):
        (tmp_path / f"v{number}").mkdir()
        (tmp_path / f"v{number}" / "server.yaml").write_text(f"scheduler: {{max_job_attempts: {number}}}")
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "server.yaml").symlink_to("..data/server.yaml")
    applied = Applied(tmp_path / "server.yaml")
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    await applied.reloader.look(requested=False)
    assert [config.scheduler.max_job_attempts for config in applied.configs] == [2]


async def test_a_file_that_is_gone_or_broken_is_complained_of_once(
    applied: Applied, caplog: pytest.LogCaptureFixture
) -> None:
    applied.file.unlink()
    await applied.reloader.look(requested=False)
    await applied.reloader.look(requested=False)
    assert [record.message for record in caplog.records] == [
        f"configuration not taken up: {applied.file}: cannot be read: No such file or directory"
    ]
    assert applied.successful == 0
    applied.file.write_text("scheduler: {max_job_attempts: 2}")  # as it was
    await applied.reloader.look(requested=False)
    assert applied.successful == 1
    assert applied.configs == []


async def test_what_cannot_be_put_in_force_is_as_if_it_had_not_been_written(
    applied: Applied, caplog: pytest.LogCaptureFixture
) -> None:
    before = applied.reloader.config
    applied.refuse = "auth.jwt.0: the file is empty"
    applied.file.write_text("scheduler: {max_job_attempts: 3}")
    await applied.reloader.look(requested=False)
    assert applied.reloader.config == before
    assert applied.successful == 0
    assert "auth.jwt.0: the file is empty" in caplog.text


async def test_what_needs_a_restart_is_not_put_in_force(applied: Applied) -> None:
    applied.file.write_text("listen: 127.0.0.1:1\nscheduler: {max_job_attempts: 3}")
    await applied.reloader.look(requested=False)
    (config,) = applied.configs
    assert config.scheduler.max_job_attempts == 3
    assert config.listen == Config().listen
    assert applied.registry.get_sample_value("buildgrid_config_restart_needed") == 1
