"""The simulated farm keeps its books right, and controllers do in it what they do outside."""

from datetime import timedelta

import pytest
from buildgrid_operator.planner.policy import Policy
from buildgrid_operator.simulator.bounds import bounds_of
from buildgrid_operator.simulator.controllers import PlannerController
from buildgrid_operator.simulator.families import FAMILIES
from buildgrid_operator.simulator.peers import (
    Fixed,
    HorizontalPodAutoscaler,
    Keda,
    Percentile,
    RunnerScaleSet,
)
from buildgrid_operator.simulator.trace import Job, Trace, trace_of
from buildgrid_operator.simulator.world import TAIL, Controller, FleetModel, Result, World


def trace(*jobs: tuple[float, float], requirement: str = "linux") -> Trace:
    return trace_of("test", (Job(arrival, requirement, duration) for arrival, duration in jobs))


def fleet(**changes: object) -> FleetModel:
    values: dict[str, object] = {
        "name": "linux",
        "max_bots": 10,
        "serves": frozenset({"linux"}),
        "start_median": 30.0,
        "start_sigma": 0.0,
    }
    return FleetModel(**(values | changes))  # type: ignore[arg-type]


def run(trace: Trace, controller: Controller, *fleets: FleetModel) -> Result:
    return World(trace, fleets or [fleet()], controller).run()


def ours(**changes: object) -> PlannerController:
    values: dict[str, object] = {"max_bots": 10, "idle_timeout": timedelta(seconds=60)}
    return PlannerController({"linux": Policy(**(values | changes))})  # type: ignore[arg-type]


def test_a_job_waits_for_the_start_of_its_bot_and_no_longer() -> None:
    result = run(trace((100, 50)), ours())
    assert result.waits == [30.0]
    # Started, worked, kept for the idle timeout; then gone.
    assert result.pod_seconds == pytest.approx(30 + 50 + 60, abs=2)
    assert result.sizes == [(0.0, 0), (100.0, 1), (pytest.approx(240.0, abs=2), 0)]


def test_jobs_share_a_bot_in_the_order_of_their_arrival() -> None:
    result = run(trace((0, 10), (1, 10), (2, 10)), Fixed(1))
    assert result.waits == [30.0, 39.0, 48.0]
    assert result.pod_seconds == 60 + TAIL


def test_slots_run_side_by_side() -> None:
    result = run(trace((0, 10), (0, 10), (0, 10)), Fixed(1), fleet(slots=2))
    assert result.waits == [30.0, 30.0, 40.0]


def test_nothing_is_given_to_a_bot_that_does_not_serve_it() -> None:
    gpu = fleet(name="gpu", serves=frozenset({"gpu"}), start_median=100.0)
    jobs = trace_of("two", [Job(0, "linux", 5), Job(0, "gpu", 5)])
    assert sorted(run(jobs, Fixed(1), fleet(), gpu).waits) == [30.0, 100.0]


def test_a_lost_bot_gives_its_jobs_back_and_they_are_done() -> None:
    result = run(trace((0, 500)), Fixed(1), fleet(lost_after=400.0))
    assert result.lost >= 1 and result.waits == [30.0] and result.end > 530 + TAIL


def test_starts_that_fail_are_found_out_and_tried_again() -> None:
    result = run(trace(*((0, 900) for _ in range(10))), ours(), fleet(start_failures=0.5))
    assert min(result.waits) == 30 and max(result.waits) >= 90


def test_the_planner_never_interrupts_and_an_autoscaler_that_picks_pods_does() -> None:
    jobs = trace(*((second, 900 if second % 40 == 0 else 5) for second in range(0, 4000, 4)))
    assert run(jobs, ours()).interrupted == 0
    assert run(jobs, HorizontalPodAutoscaler(stabilization=0.0)).interrupted > 0


def test_keda_needs_a_poll_and_a_second_step_from_zero() -> None:
    result = run(trace(*((40, 100) for _ in range(8))), Keda())
    sizes = dict(result.sizes)
    assert sizes[60.0] == 1 and sizes[75.0] == 5


def test_a_runner_takes_one_job_and_goes() -> None:
    result = run(trace((0, 10), (0, 10), (50, 10)), RunnerScaleSet())
    assert result.waits == [30.0, 30.0, 30.0] and result.pod_seconds == pytest.approx(120, abs=3)


def test_a_quantile_of_the_past_asks_for_what_was_needed() -> None:
    result = run(trace(*((number * 5.0, 20) for number in range(400))), Percentile())
    assert 3 <= max(size for _, size in result.sizes) <= 10 and result.interrupted == 0


def test_who_knows_the_future_keeps_a_pod_over_a_short_gap_and_ends_it_over_a_long_one() -> None:
    near, far = trace((0, 10), (20, 10)), trace((0, 10), (500, 10))
    assert bounds_of(near, [fleet()]).packed == 30 + 10 + 10 + 10
    assert bounds_of(far, [fleet()]).packed == 30 + 10 + 30 + 10


@pytest.mark.parametrize("name", FAMILIES)
def test_a_seed_makes_the_same_trace_again(name: str) -> None:
    assert FAMILIES[name](7) == FAMILIES[name](7) != FAMILIES[name](8)


def test_a_run_is_the_same_again() -> None:
    jobs = FAMILIES["two-labels"](3)
    both = fleet(serves=frozenset({"linux", "gpu"}), max_bots=50, start_sigma=0.3)
    first, second = (run(jobs, ours(max_bots=50), both) for _ in range(2))
    assert first == second and len(first.waits) == len(jobs.jobs)


def test_a_job_that_lost_a_spot_bot_goes_elsewhere_for_a_while() -> None:
    # Other spot bots stand ready when the job loses its own.
    steady = fleet(name="on-demand", capacity_class="on-demand")
    losses = {
        spot_class: run(
            trace((0, 400)),
            HorizontalPodAutoscaler(min_bots=3),
            fleet(name="spot", capacity_class=spot_class, lost_after=60.0),
            steady,
        ).lost
        for spot_class in ("spot", "")
    }
    assert losses["spot"] == 1 < losses[""]


def test_a_job_avoids_no_class_that_nothing_else_has() -> None:
    spot = fleet(name="spot", capacity_class="spot", lost_after=400.0)
    result = run(trace((0, 300), (0, 300), (0, 300)), PlannerController({"spot": Policy(max_bots=10)}), spot)
    assert result.lost and result.end < 10_000


def test_our_planner_buys_the_cheap_fleet_and_after_a_loss_the_other() -> None:
    spot = fleet(name="spot", capacity_class="spot", cost=0.3, lost_after=30.0)
    steady = fleet(name="on-demand", capacity_class="on-demand")
    policies = {
        "spot": Policy(capacity_class="spot", cost=0.3),
        "on-demand": Policy(capacity_class="on-demand"),
    }
    quiet = World(trace((0, 1)), [spot, steady], PlannerController(policies)).run()
    assert quiet.cost == pytest.approx(0.3 * quiet.pod_seconds)
    lossy = World(trace(*((0, 200) for _ in range(5))), [spot, steady], PlannerController(policies)).run()
    assert lossy.lost and lossy.cost > 0.3 * lossy.pod_seconds


def test_long_starts_and_failed_ones_make_jobs_wait_long_but_all_are_done() -> None:
    slow = fleet(start_median=120.0, start_sigma=0.7, start_failures=0.3)
    waits = run(trace(*((0, 10) for _ in range(10))), ours(), slow).waits
    assert min(waits) < 120 < max(waits)


def test_jobs_that_nothing_will_ever_do_end_the_run() -> None:
    with pytest.raises(ValueError, match="1 of 1 jobs were never done"):
        run(trace((0, 10)), Fixed(0))
    with pytest.raises(ValueError, match="2 of 2 jobs were never done"):
        run(trace((0, 10), (5, 10)), Fixed(1), fleet(serves=frozenset({"gpu"})))


def test_a_job_counts_for_the_first_fleet_that_serves_it() -> None:
    second = fleet(name="second")
    result = World(trace(*((0, 100) for _ in range(4))), [fleet(), second], RunnerScaleSet()).run()
    assert max(size for _, size in result.sizes) == 4


def test_the_bound_is_of_the_cheapest_fleet_and_of_each_kind_of_job() -> None:
    jobs = trace_of("two", [Job(0, "linux", 10), Job(0, "gpu", 10)])
    cheap, dear = fleet(name="spot", cost=0.5), fleet(name="on-demand")
    gpu = fleet(name="gpu", serves=frozenset({"gpu"}), cost=4.0, start_median=60.0)
    found = bounds_of(jobs, [cheap, dear, gpu])
    assert found.work == 10 * 0.5 + 10 * 4
    assert found.packed == (10 + 30) * 0.5 + (10 + 60) * 4
