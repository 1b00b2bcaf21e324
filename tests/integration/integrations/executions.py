"""An action, what executing it took, and where that shows."""

from datetime import UTC, datetime, timedelta

from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_protos.build.buildbox.execution_stats_pb2 import ExecutionStatistics
from buildgrid_scheduler.core.clock import to_timestamp
from buildgrid_scheduler.core.metering import IdentityKey
from buildgrid_scheduler.integrations import Integrations
from buildgrid_scheduler.storage.memory import MemoryStorage
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

WITHIN = 20.0
NOW = datetime(2030, 1, 1, tzinfo=UTC)
JO: IdentityKey = ("main/team", "build", "bazel", "jo")
ACTION = re_pb2.Action(command_digest=digest_of(b"command"), input_root_digest=digest_of(b"root"))
ACTION_DIGEST = digest_of(ACTION.SerializeToString())


def executed(storage: MemoryStorage) -> re_pb2.ExecutedActionMetadata:
    """It waited for 4 s, and used 3 s of CPU time, which a blob in the CAS says."""
    rusage = ExecutionStatistics.ProcessResourceUsage(utime=Duration(seconds=3))
    packed = Any()
    packed.Pack(ExecutionStatistics(command_rusage=rusage))
    blob = packed.SerializeToString()
    storage.write_many([(digest_of(blob), blob)])
    metadata = re_pb2.ExecutedActionMetadata(
        queued_timestamp=to_timestamp(NOW),
        worker_start_timestamp=to_timestamp(NOW + timedelta(seconds=4)),
    )
    metadata.auxiliary_metadata.add().Pack(digest_of(blob))
    return metadata


def queued_seconds(integrations: Integrations) -> float | None:
    """How long executions with the label linux have waited in all; none where there was none."""
    registry = CollectorRegistry()
    registry.register(integrations.histograms)
    labels = {"property_label": "linux", "step": "queued"}
    return registry.get_sample_value("buildgrid_execution_seconds_sum", labels)
