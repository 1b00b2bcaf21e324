"""How long the steps of an execution took, as far as its timestamps tell."""

from datetime import UTC, datetime, timedelta

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecutedActionMetadata
from buildgrid_scheduler.core.clock import to_timestamp
from buildgrid_scheduler.stats.durations import Step, durations
from buildgrid_scheduler.stats.histograms import ExecutionHistograms
from prometheus_client import CollectorRegistry

BEGIN = datetime(2030, 1, 1, tzinfo=UTC)


def executed(**seconds: float) -> ExecutedActionMetadata:
    """Metadata with these timestamps, in seconds."""
    metadata = ExecutedActionMetadata()
    for name, value in seconds.items():
        getattr(metadata, f"{name}_timestamp").CopyFrom(to_timestamp(BEGIN + timedelta(seconds=value)))
    return metadata


FULL = executed(
    queued=0,
    worker_start=2,
    input_fetch_start=3,
    input_fetch_completed=5,
    execution_start=6,
    execution_completed=16,
    output_upload_start=17,
    output_upload_completed=20,
    worker_completed=22,
)


def seconds(metadata: ExecutedActionMetadata) -> dict[Step, float]:
    return {step: duration.total_seconds() for step, duration in durations(metadata).items()}


def test_each_step_has_its_duration() -> None:
    assert seconds(FULL) == {
        Step.QUEUED: 2,
        Step.TOTAL: 22,
        Step.WORKER: 20,
        Step.FETCH: 2,
        Step.EXECUTION: 10,
        Step.UPLOAD: 3,
    }


def test_a_step_without_both_timestamps_is_left_out() -> None:
    assert seconds(executed(queued=0, worker_start=1, execution_start=2)) == {Step.QUEUED: 1}
    assert seconds(ExecutedActionMetadata()) == {}


def test_clocks_that_disagree_make_no_negative_time() -> None:
    assert seconds(executed(queued=10, worker_start=9)) == {Step.QUEUED: 0}


def sample(registry: CollectorRegistry, name: str, label: str, step: str) -> float | None:
    return registry.get_sample_value(
        f"buildgrid_execution_seconds_{name}", {"property_label": label, "step": step}
    )


def test_executions_are_counted_by_label_and_step() -> None:
    registry = CollectorRegistry()
    histograms = ExecutionHistograms(registry)
    histograms.observe(FULL, "linux")
    histograms.observe(FULL, "linux")
    histograms.observe(executed(queued=0, worker_start=1), "mac")
    assert sample(registry, "count", "linux", "execution") == 2
    assert sample(registry, "sum", "linux", "execution") == 20
    assert sample(registry, "sum", "mac", "queued") == 1
    assert sample(registry, "count", "mac", "execution") is None


def test_labels_beyond_the_first_ones_are_counted_together() -> None:
    registry = CollectorRegistry()
    histograms = ExecutionHistograms(registry, most_labels=2)
    for label in ("a", "b", "c", "d", "a"):
        histograms.observe(FULL, label)
    counted = {label: sample(registry, "count", label, "total") for label in ("a", "b", "c", "d", "other")}
    assert counted == {"a": 2, "b": 1, "c": None, "d": None, "other": 2}


def test_two_schedulers_of_a_process_do_not_get_into_each_others_way() -> None:
    first, second = ExecutionHistograms(), ExecutionHistograms()
    first.observe(FULL, "linux")
    registry = CollectorRegistry()
    registry.register(second)
    assert sample(registry, "count", "linux", "total") is None
