"""What autoscalers are answered: of whom, how many, and when nothing at all."""

from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_operator.keda.answers import (
    LATEST,
    METRIC,
    Decided,
    Refused,
    Target,
    Why,
    bots_of,
    check_metric,
    check_mode,
    is_active,
    target_of,
)
from buildgrid_operator.planner.plan import STALE_AFTER

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LINUX = Target("builds", "linux")
MOMENT = timedelta(milliseconds=1)


def test_a_trigger_names_the_fleet_and_means_the_namespace_of_its_object() -> None:
    assert target_of("builds", {"fleet": "linux", "scalerAddress": "x:1"}) == LINUX
    assert target_of("elsewhere", {"fleet": " linux ", "namespace": "builds"}) == LINUX


@pytest.mark.parametrize(
    ("namespace", "metadata", "field"),
    [("builds", {}, "fleet"), ("builds", {"fleet": " "}, "fleet"), ("", {"fleet": "linux"}, "namespace")],
)
def test_a_trigger_that_names_nobody_is_told_what_is_missing(
    namespace: str, metadata: dict[str, str], field: str
) -> None:
    with pytest.raises(Refused, match=f"metadata.{field} is missing") as refused:
        target_of(namespace, metadata)
    assert refused.value.why is Why.BAD_TRIGGER


def test_there_is_one_metric() -> None:
    check_metric(METRIC)
    with pytest.raises(Refused, match=METRIC):
        check_metric("jobs")


@pytest.mark.parametrize(("mode", "why"), [(None, Why.NO_FLEET), ("Auto", Why.NOT_EXTERNAL)])
def test_only_a_fleet_that_is_there_and_is_external_is_told_of(mode: str | None, why: Why) -> None:
    check_mode(LINUX, "External")
    with pytest.raises(Refused, match="builds/linux") as refused:
        check_mode(LINUX, mode)
    assert refused.value.why is why


def test_what_was_decided_is_told_as_long_as_it_is_true() -> None:
    decided = Decided(4, NOON)
    assert bots_of(LINUX, decided, NOON, NOON) == 4
    assert bots_of(LINUX, decided, NOON, NOON + STALE_AFTER) == 4
    assert bots_of(LINUX, decided, NOON + LATEST, NOON + LATEST) == 4


@pytest.mark.parametrize(
    ("decided", "heard", "now"),
    [
        (None, NOON, NOON),
        (Decided(None, NOON), NOON, NOON),
        (Decided(4, NOON), None, NOON),
        (Decided(4, NOON), NOON, NOON + STALE_AFTER + MOMENT),
        (Decided(4, NOON), NOON + LATEST, NOON + LATEST + MOMENT),
        (Decided(4, NOON), NOON, NOON - STALE_AFTER - MOMENT),
        (Decided(4, NOON), NOON - LATEST, NOON - LATEST - MOMENT),
    ],
    ids=[
        "not planned for",
        "planned for blindly",
        "never heard",
        "silent",
        "planned for long ago",
        "heard before the clock was set back",
        "planned for before the clock was set back",
    ],
)
def test_what_may_not_be_true_any_more_is_not_told(
    decided: Decided | None, heard: datetime | None, now: datetime
) -> None:
    with pytest.raises(Refused) as refused:
        bots_of(LINUX, decided, heard, now)
    assert refused.value.why is Why.NOT_KNOWN


def test_a_fleet_that_needs_a_bot_is_active() -> None:
    assert [is_active(bots) for bots in (0, 1, 7)] == [False, True, True]
