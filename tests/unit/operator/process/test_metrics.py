"""What is counted, as Prometheus reads it."""

import pytest
from buildgrid_operator.api.status import Condition
from buildgrid_operator.cluster.client import Call
from buildgrid_operator.cluster.errors import Conflict
from buildgrid_operator.cluster.kinds import SCHEDULER, ObjectRef
from buildgrid_operator.process.metrics import Metrics
from buildgrid_operator.reconcile.key_states import Figures
from prometheus_client import generate_latest

REF = ObjectRef(SCHEDULER, "farm", "main")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"buildgrid_operator_{name}", labels)


def condition(name: str, status: str) -> Condition:
    return Condition.model_validate(
        {
            "type": name,
            "status": status,
            "reason": "X",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    )


def test_passes_are_counted_by_kind_result_and_error(metrics: Metrics) -> None:
    metrics.passed(REF, 0.2, None)
    metrics.passed(REF, 0.3, Conflict("x"))
    metrics.passed(REF, 0.3, KeyError("x"))
    assert value(metrics, "reconcile_total", kind="Scheduler", result="success") == 1
    assert value(metrics, "reconcile_total", kind="Scheduler", result="error") == 2
    assert value(metrics, "reconcile_errors_total", kind="Scheduler", error="Conflict") == 1
    assert value(metrics, "reconcile_errors_total", kind="Scheduler", error="Unexpected") == 1
    assert value(metrics, "reconcile_duration_seconds_sum", kind="Scheduler") == pytest.approx(0.8)


def test_calls_are_counted_by_verb_kind_and_code(metrics: Metrics) -> None:
    metrics.called(Call("apply", "Deployment", 200, 0.1))
    metrics.called(Call("apply", "Deployment", 0, 5.0))
    assert value(metrics, "api_calls_total", verb="apply", kind="Deployment", code="200") == 1
    assert value(metrics, "api_calls_total", verb="apply", kind="Deployment", code="0") == 1
    assert value(metrics, "api_call_duration_seconds_count", verb="apply") == 2


def test_a_condition_has_one_status(metrics: Metrics) -> None:
    for status, other in (("False", "True"), ("True", "False")):
        metrics.show_conditions(REF, [condition("Ready", status)])
        labels = {"kind": "Scheduler", "namespace": "farm", "name": "main", "type": "Ready"}
        assert value(metrics, "condition", **labels, status=status) == 1
        assert value(metrics, "condition", **labels, status=other) == 0


def test_objects_and_conditions_that_are_gone_leave_nothing(metrics: Metrics) -> None:
    metrics.show_conditions(REF, [condition("Ready", "True"), condition("Stalled", "False")])
    metrics.show_conditions(REF, [condition("Ready", "True")])
    assert b'type="Stalled"' not in generate_latest(metrics.registry)
    metrics.forget(REF)
    assert b"buildgrid_operator_condition{" not in generate_latest(metrics.registry)
    metrics.forget(REF)


def test_the_queue_is_asked_when_it_is_scraped(metrics: Metrics) -> None:
    retries = [4]
    metrics.watch_queues({"objects": (lambda: Figures(3, 2, 1, 200, 7.5), lambda: retries[0])})
    assert value(metrics, "queue_depth", queue="objects") == 3
    assert value(metrics, "queue_running", queue="objects") == 2
    assert value(metrics, "queue_failing", queue="objects") == 1
    assert value(metrics, "queue_objects", queue="objects") == 200
    assert value(metrics, "queue_oldest_age_seconds", queue="objects") == 7.5
    retries[0] = 5
    assert value(metrics, "queue_retries_total", queue="objects") == 5


def test_who_leads_is_shown(metrics: Metrics) -> None:
    leads = [False]
    metrics.watch_leadership(lambda: leads[0])
    assert value(metrics, "leader") == 0
    leads[0] = True
    assert value(metrics, "leader") == 1
