from buildgrid_operator.api.schema import object_schema
from buildgrid_operator.api.status import Condition, Endpoints, PropertySetStatus, SchedulerStatus

from tests.unit.operator.api.structural import mismatches

_READY = Condition(
    type="Ready",
    status="False",
    reason="InvalidSpec",
    message="spec.replicas: must be 1 or more",
    last_transition_time="2026-01-01T00:00:00Z",
    observed_generation=3,
)


def test_a_status_is_written_as_the_crd_has_it() -> None:
    status = SchedulerStatus(
        observed_generation=3,
        conditions=(_READY,),
        replicas=2,
        ready_replicas=1,
        endpoints=Endpoints(cas="grpc://main-storage.builds:50051"),
    )
    written = status.to_dict()
    assert written["readyReplicas"] == 1
    assert written["endpoints"] == {"cas": "grpc://main-storage.builds:50051"}
    assert written["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert mismatches(written, object_schema(SchedulerStatus)) == []


def test_a_status_is_read_as_it_was_written() -> None:
    status = PropertySetStatus(
        observed_generation=1, conditions=(_READY,), kind="Static", schedulers=("main",)
    )
    assert PropertySetStatus.model_validate(status.to_dict()) == status
