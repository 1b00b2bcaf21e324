"""The state of a farm on the wire."""

from datetime import UTC, datetime, timedelta

from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import Requirement
from buildgrid_scheduler.core.requirement_figures import Estimate
from buildgrid_scheduler.fleet.requirements import RequirementCount
from buildgrid_scheduler.fleet.state import FarmSnapshot, FarmState
from buildgrid_scheduler.services.fleet_messages import at_moment_of, state_message

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KNOWN = Estimate(0.5, timedelta(seconds=90), timedelta(seconds=30))
COUNTED = RequirementCount(
    "main", "hash", {"b": ["2"], "a": ["1", "3"]}, "label", 4, 2, NOW, {"spot": 3, "old": 1}
)


def snapshot(
    estimate: Estimate | None = None, revision: int = 1, count: RequirementCount = COUNTED
) -> FarmSnapshot:
    estimates = {} if estimate is None else {("main", "hash"): estimate}
    return FarmSnapshot(
        NOW + timedelta(seconds=revision), revision, FarmState([], [count], [], []), estimates
    )


def estimates(requirement: Requirement) -> Estimate:
    return Estimate(
        requirement.arrival_rate,
        requirement.duration.ToTimedelta() if requirement.HasField("duration") else None,
        requirement.duration_spread.ToTimedelta() if requirement.HasField("duration_spread") else None,
    )


def test_a_requirement_is_told_with_all_that_is_known_of_it() -> None:
    (told,) = state_message(snapshot(KNOWN)).requirements
    assert (told.instance_name, told.requirement_hash, told.property_label) == ("main", "hash", "label")
    assert (told.queued, told.executing, told.oldest_queued_time.ToDatetime(UTC)) == (4, 2, NOW)
    assert [(p.key, p.value) for p in told.properties] == [("a", "1"), ("a", "3"), ("b", "2")]
    assert [(a.capacity_class, a.queued) for a in told.avoidances] == [("old", 1), ("spot", 3)]
    assert estimates(told) == KNOWN


def test_what_is_not_known_is_not_told() -> None:
    idle = RequirementCount("main", "hash", {}, "label", 0, 2, None)
    (told,) = state_message(snapshot(count=idle)).requirements
    assert not told.HasField("oldest_queued_time")
    assert estimates(told) == Estimate(0.0, None, None)


def test_what_drifts_is_told_as_it_is_though_the_state_has_not_changed() -> None:
    first = state_message(snapshot(KNOWN))
    drifted = Estimate(0.25, timedelta(seconds=60), timedelta(seconds=20))
    second = at_moment_of(snapshot(drifted, revision=2), first)
    assert (second.revision, second.time.ToDatetime(UTC)) == (2, NOW + timedelta(seconds=2))
    assert estimates(second.requirements[0]) == drifted
    assert estimates(at_moment_of(snapshot(revision=3), second).requirements[0]) == Estimate(0.0, None, None)
    assert estimates(first.requirements[0]) == KNOWN, "what somebody may still be told is left as it was"
