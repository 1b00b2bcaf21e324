"""Fleets are written by people: what is wrong in them is named."""

from math import inf

import pytest
from buildgrid_operator.simulator.families import FAMILIES
from buildgrid_operator.simulator.fleets import FLEETS_OF_FAMILIES, fleets_of
from buildgrid_operator.simulator.trace import Job, trace_of
from buildgrid_operator.simulator.world import FleetModel

BASE = FleetModel("fleet", 50, frozenset(), slots=2)
TRACE = trace_of("test", [Job(0, "ISA=x86-64&Pool=gpu", 1), Job(1, "ISA=x86-64", 1)])


def test_what_is_not_said_is_of_the_base_and_all_is_served() -> None:
    (fleet,) = fleets_of(["linux"], BASE, TRACE)
    assert (fleet.name, fleet.max_bots, fleet.slots, fleet.lost_after) == ("linux", 50, 2, inf)
    assert fleet.serves == {"ISA=x86-64&Pool=gpu", "ISA=x86-64"}


def test_all_settings_are_read() -> None:
    text = (
        "spot:serves=*gpu|ISA=x86-64,maxBots=7,slots=4,startTime=2m,startSpread=0.5,startFailures=0.1,"
        "lostAfter=30m,cost=0.3,class=spot"
    )
    (fleet,) = fleets_of([text], BASE, TRACE)
    assert fleet == FleetModel("spot", 7, frozenset({"ISA=x86-64&Pool=gpu", "ISA=x86-64"}), 4, 120.0, 0.5,
                               0.1, 1800.0, 0.3, "spot")  # fmt: skip


def test_the_cheapest_slots_come_first() -> None:
    texts = ["dear:cost=2,slots=1", "cheap:cost=1,slots=1", "large:cost=3,slots=8"]
    assert [fleet.name for fleet in fleets_of(texts, BASE, TRACE)] == ["large", "cheap", "dear"]


@pytest.mark.parametrize(
    "texts, message",
    [
        ([":cost=1"], "needs a name"),
        (["a", "a:cost=2"], "two fleets 'a'"),
        (["a:price=2"], "'price=2' is not a setting of a fleet; those are serves, maxBots"),
        (["a:cost"], "'cost' is not a setting"),
        (["a:cost=0"], "cost: '0' is not a number above 0"),
        (["a:cost=cheap"], "cost: 'cheap' is not a number"),
        (["a:slots=0"], "slots: '0' is not a number from 1"),
        (["a:startFailures=1"], "startFailures: '1' is not a share"),
        (["a:startSpread=-1"], "startSpread: '-1' is not a number from 0 to 3"),
        (["a:startTime=soon"], "startTime: "),
        (["a:lostAfter=0s"], "lostAfter: '0s' is not above 0"),
        (["gpu:serves=*gpu"], "no fleet serves jobs that require 'ISA=x86-64'"),
    ],
)
def test_a_bad_fleet_is_refused_by_name(texts: list[str], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        fleets_of(texts, BASE, TRACE)
    assert message in str(raised.value)


@pytest.mark.parametrize("family", FLEETS_OF_FAMILIES)
def test_the_fleets_of_a_family_serve_all_of_it(family: str) -> None:
    trace = FAMILIES[family](1)
    assert frozenset().union(
        *(each.serves for each in fleets_of(FLEETS_OF_FAMILIES[family], BASE, trace))
    ) == {job.requirement for job in trace.jobs}
