"""What the services around a scheduler hear of a job's end, by the way in which it ended."""

from collections.abc import Callable

import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler import Scheduler, instance_context
from buildgrid_scheduler.assets import AssetClient
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.items import Enqueued
from buildgrid_scheduler.integrations import Integrations
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.ends import WAYS, Way, brought_to_its_end, reported
from tests.integration.engine.faults import every_first_try_fails, stopped_after_commit
from tests.integration.engine.replica import (
    COMPLETED,
    Replica,
    Report,
    enqueue,
    result,
    success,
    synchronize,
)
from tests.integration.facade.calls import PROPERTIES
from tests.integration.integrations.executions import (
    ACTION,
    ACTION_DIGEST,
    WITHIN,
    executed,
    queued_seconds,
)
from tests.integration.integrations.grpc_servers import AssetServer, LogStreamServer
from tests.integration.integrations.metering_server import MeteringServer
from tests.integration.integrations.test_metering import own

# The client package of metering calls a method of pydantic that is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated:DeprecationWarning")


@pytest.fixture
def replica(start_replica: StartReplica) -> Replica:
    """It tries each job once."""
    return start_replica(limits=AttemptLimits(max_job_attempts=1, max_infra_attempts=1))


@pytest.fixture
def integrations(build: Callable[[], Integrations], replica: Replica, storage: MemoryStorage) -> Integrations:
    """All services, of a CAS that has the action."""
    storage.write_many([(ACTION_DIGEST, ACTION.SerializeToString())])
    integrations = build()
    replica.engine.completions.listen(integrations.jobs_completed)
    return integrations


def asked_by_jo(replica: Replica, provider: SqlProvider) -> Enqueued:
    item = enqueue("compile", label="linux")
    item.job.action_digest = digest_key(ACTION_DIGEST)
    replica.submit(item)
    enqueued: Enqueued = result(item)
    own(provider, enqueued.operation_name, "jo")
    return enqueued


def failures(integrations: Integrations) -> int:
    counts = [outbox.counts() for outbox in integrations.outboxes]
    return sum(c.failed + c.dropped for c in counts)


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_what_is_kept_of_a_job_that_ends_so(
    replica: Replica,
    provider: SqlProvider,
    integrations: Integrations,
    asset_server: AssetServer,
    metering_server: MeteringServer,
    log_stream_server: LogStreamServer,
    way: Way,
) -> None:
    enqueued = asked_by_jo(replica, provider)
    brought_to_its_end(replica, enqueued, way)()
    replica.settle()
    assert replica.stage(enqueued.operation_name) is Stage.COMPLETED
    integrations.stop(WITHIN)
    kept = [push.blob_digest for push in asset_server.pushed]
    if way.cancelled:
        assert kept == [], "nobody asks for it any more"
    else:
        assert kept.count(ACTION_DIGEST) == 1, "for who looks into it"
        assert len(kept) == 1 + way.has_result
    assert queued_seconds(integrations) is None, "no timestamps, no durations"
    assert metering_server.usages == [], "no statistics, no usage"
    assert log_stream_server.parents == [], "whoever writes a stream ends it"
    assert failures(integrations) == 0


@pytest.mark.parametrize("unheard", [False, True], ids=["heard", "commit unheard"])
def test_what_was_executed_is_kept_measured_and_charged_once(
    replica: Replica,
    provider: SqlProvider,
    storage: MemoryStorage,
    integrations: Integrations,
    asset_server: AssetServer,
    metering_server: MeteringServer,
    monkeypatch: pytest.MonkeyPatch,
    unheard: bool,
) -> None:
    enqueued = asked_by_jo(replica, provider)
    outcome = re_pb2.ActionResult(stdout_digest=digest_of(b"out"), execution_metadata=executed(storage))
    report = Report(COMPLETED, result=outcome.SerializeToString())
    step = brought_to_its_end(replica, enqueued, Way(reported(report), 0, has_result=True))
    if unheard:
        with every_first_try_fails(monkeypatch, committed=True):
            step()
    else:
        step()
    replica.settle()
    integrations.stop(WITHIN)
    assert len(asset_server.pushed) == 2
    assert metering_server.usages == [
        ("main/team/build/bazel/jo", enqueued.operation_name, {"computing": {"utime": 3000}})
    ]
    assert queued_seconds(integrations) is not None
    assert failures(integrations) == 0


def test_what_is_completed_while_the_scheduler_stops_is_kept_too(
    provider: SqlProvider,
    storage: MemoryStorage,
    asset_server: AssetServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage.write_many([(ACTION_DIGEST, ACTION.SerializeToString())])
    scheduler = Scheduler(
        provider,
        storage,
        property_set=PROPERTIES,
        asset_client=AssetClient(asset_server.channel(), timeout=WITHIN),
        completed_action_retention_hours=1,
    )
    scheduler.start()
    with instance_context(""):
        item = enqueue("compile")
        item.job.action_digest = digest_key(ACTION_DIGEST)
        scheduler.engine.submit(item)
        job = result(item).job_name
        session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=1)
        report = synchronize(session)
        scheduler.engine.submit(report)
        assert [tell.job_name for tell in result(report).leases] == [job]
    with stopped_after_commit(monkeypatch) as gate:
        scheduler.engine.submit(synchronize(session, reports={job: success()}))
        gate.wait_until_reached()
        # Committed, and told as soon as the engine is to stop, or the integrations have.
        stop_engine, stop_integrations = scheduler.engine.stop, scheduler.integrations.stop

        def engine_stops() -> None:
            gate.open()
            stop_engine()

        def integrations_stop() -> None:
            stop_integrations()
            gate.open()

        monkeypatch.setattr(scheduler.engine, "stop", engine_stops)
        monkeypatch.setattr(scheduler.integrations, "stop", integrations_stop)
        scheduler.stop()
    assert [push.blob_digest for push in asset_server.pushed] == [ACTION_DIGEST]
