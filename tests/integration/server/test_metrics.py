"""What /metrics tells is what the catalogue says, and right."""

from collections.abc import Callable
from pathlib import Path

import grpc
from buildgrid_scheduler.server.metrics import page
from buildgrid_scheduler.server.metrics.catalogue import CATALOGUE

from tests.farm.bots import Bot, active, completed
from tests.farm.clients import Client
from tests.farm.waiting import eventually
from tests.integration.server.conftest import OpenChannel
from tests.integration.server.server_process import Server

DOCS = Path(__file__).parents[3] / "docs"


def test_the_page_is_up_to_date() -> None:
    assert (DOCS / "metrics.md").read_text() == page.page()


async def test_metrics_follow_jobs_bots_and_calls(
    make_server: Callable[..., Server], database: str, channels: OpenChannel
) -> None:
    server = make_server(database, scheduler={"max_queue_size": 3})
    server.write(monitoring={"listen": server.monitoring, "fleet_interval": "100ms"})
    server.start()
    client = Client(channels(server))
    gpu = [await client.add_action(f"gpu-{n}", platform={"Pool": "gpu"}) for n in range(4)]
    plain = await client.add_action("plain")
    first = await client.queue(plain)
    await client.queue(plain)  # shares the job
    for digest in gpu[:3]:
        await client.queue(digest)
    refused = client.execute(gpu[3])
    code = None
    try:
        await refused.next()
    except grpc.aio.AioRpcError as error:
        code = error.code()
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED

    def queued(number: float, label: str) -> bool:
        return server.value("buildgrid_queue_jobs", property_label=label) == number

    await eventually(lambda: queued(3, "gpu") and queued(1, "unknown"), 15, server.describe)
    assert server.value("buildgrid_jobs", stage="queued") == 4
    age = server.value("buildgrid_queue_oldest_seconds", property_label="gpu")
    assert age is not None and 0 < age < 60
    outcomes = {
        outcome: server.value("buildgrid_enqueued_total", outcome=outcome)
        for outcome in ("queued", "shared", "cached", "refused")
    }
    assert outcomes == {"queued": 4, "shared": 1, "cached": 0, "refused": 1}

    bot = Bot(channels(server), "", "bot", capacity=2)
    lease = await bot.take_lease()
    await bot.update(active(lease))
    await eventually(lambda: server.value("buildgrid_jobs", stage="executing") == 1, 15, server.describe)
    assert server.value("buildgrid_leases") == 1
    assert server.value("buildgrid_bots", status="ok") == 1
    assert server.value("buildgrid_bots", status="unhealthy") == 0
    assert server.value("buildgrid_bot_slots") == 2
    assert server.value("buildgrid_assignment_seconds_count", property_label="unknown") == 1
    await bot.update(completed(lease))
    await first.response()
    assert server.value("buildgrid_lease_ends_total", outcome="completed") == 1
    assert server.value("buildgrid_jobs_completed_total", code="OK") == 1
    again = client.execute(plain)
    assert (await again.response()).cached_result
    assert server.value("buildgrid_enqueued_total", outcome="cached") == 1

    service = "build.bazel.remote.execution.v2.Execution"
    assert server.value("buildgrid_rpcs_total", service=service, method="Execute", code="OK") == 3
    assert (
        server.value("buildgrid_rpcs_total", service=service, method="Execute", code="RESOURCE_EXHAUSTED")
        == 1
    )
    assert server.value("buildgrid_rpcs_running", service=service, method="Execute") == 3
    written = server.value("buildgrid_cas_bytes_total", direction="written")
    assert written is not None and written > 0
    stored = server.value("buildgrid_cas_stored_bytes")
    assert stored is not None and stored >= 4096
    assert server.value("buildgrid_cas_limit_bytes") == 20 * 1024**3
    for name in ("ENQUEUE", "commit", "LOCK_SESSIONS"):
        waited = server.value("buildgrid_statement_seconds_count", statement=name)
        assert waited is not None and waited > 0, name
    for thread in ("write", "errand"):
        batches = server.value("buildgrid_batch_items_count", thread=thread)
        assert batches is not None and batches > 0, thread

    # All that is told is in the catalogue, and the other way round.
    told = {f.name: f for f in server.families().values() if f.name.startswith("buildgrid_")}
    named = {spec.name.removesuffix("_total"): spec for spec in CATALOGUE}
    assert sorted(told) == sorted(named)
    for name, family in told.items():
        assert (family.type, family.documentation) == (named[name].kind, named[name].help)
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels <= set(named[name].labels), name
