"""Others at their best, beside the cheapest of our settings whose jobs wait no longer."""

from buildgrid_operator.simulator.equal_wait import compare, pair_table, worst
from buildgrid_operator.simulator.report import Setting
from buildgrid_operator.simulator.trace import Job, trace_of
from buildgrid_operator.simulator.world import FleetModel

JOBS = [Job(burst * 1200.0 + number, "linux", 20.0) for burst in range(1, 4) for number in range(10)]
SETTING = Setting(trace_of("bursts", JOBS), [FleetModel("fleet", 20, frozenset({"linux"}))])


def test_ours_never_waits_longer_than_what_it_is_held_against() -> None:
    pairs = compare(SETTING, ["buildgrid", "arc", "fixed"], 600.0)
    assert {pair.kind for pair in pairs} == {"arc", "fixed"}
    for pair in pairs:
        assert pair.ours is not None and pair.ours.wait_p95 <= pair.peer.wait_p95 <= 600
    arc = [pair.peer for pair in pairs if pair.kind == "arc"]
    # What another setting beats in both is left out; so who waits less pays more.
    assert [each.cost for each in arc] == sorted((each.cost for each in arc), reverse=True)


def test_the_worst_of_each_policy_is_told() -> None:
    pairs = compare(SETTING, ["arc", "fixed"], 600.0)
    found = {pair.kind: pair for pair in worst(pairs)}
    for pair in pairs:
        assert pair.price is not None and pair.price <= (found[pair.kind].price or 0)
    assert len(pair_table(worst(pairs)).splitlines()) == 3


def test_longer_waits_than_anyone_wants_are_left_out() -> None:
    short = compare(SETTING, ["fixed"], 1.0)
    assert short and all(pair.peer.wait_p95 <= 1 for pair in short)
