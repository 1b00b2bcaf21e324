"""Usage is reported in the units of the metering service."""

from buildgrid_protos.build.buildbox.execution_stats_pb2 import ExecutionStatistics
from buildgrid_scheduler.metering.usage import identity_of, one_execution, usage_of
from google.protobuf.duration_pb2 import Duration


def test_cpu_time_is_in_milliseconds_and_the_rest_as_the_bot_counted() -> None:
    rusage = ExecutionStatistics.ProcessResourceUsage(
        utime=Duration(seconds=2, nanos=345_999_999),
        stime=Duration(nanos=67_000_000),
        maxrss=1000,
        inblock=11,
        oublock=12,
    )
    usage = usage_of(ExecutionStatistics(command_rusage=rusage))
    assert usage.model_dump(exclude_defaults=True) == {
        "computing": {"utime": 2345, "stime": 67, "maxrss": 1000, "inblock": 11, "oublock": 12}
    }


def test_an_operation_is_one_execution() -> None:
    assert one_execution().model_dump(exclude_defaults=True) == {"rpc": {"execute": 1}}


def test_an_identity_has_four_parts() -> None:
    identity = identity_of(("main", "build", "bazel", "jo"))
    assert identity.model_dump() == {
        "instance": "main",
        "workflow": "build",
        "actor": "bazel",
        "subject": "jo",
    }
