"""What came of runs: figures, a table of them, and the same wait at what price."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from buildgrid_operator.simulator.bounds import Bounds, bounds_of
from buildgrid_operator.simulator.policies import KINDS, NamedPolicy, with_setting
from buildgrid_operator.simulator.trace import Trace
from buildgrid_operator.simulator.world import FleetModel, Result, World

HEADER = (
    "policy",
    "wait p50",
    "p95",
    "p99",
    "> target",
    "pod-hours",
    "idle",
    "x bound",
    "turns",
    "killed",
    "most",
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run. Waits in seconds."""

    policy: str
    wait_p50: float
    wait_p95: float
    wait_p99: float
    over_target: float
    """share of jobs that waited longer than the target"""
    pod_seconds: float
    idle_seconds: float
    """slot-seconds of pods that did no work that counts: starting, idle, work that was killed"""
    of_bound: float
    """pod-seconds, as a multiple of those of perfect foresight"""
    turns: int
    interrupted: int
    """jobs that the policy killed"""
    lost: int
    most: int
    """pods at once"""

    def as_json(self) -> dict[str, float | int | str]:
        """By the names above."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Setting:
    """What all policies of a comparison have in common."""

    trace: Trace
    fleet: FleetModel
    target_wait: float = 30.0
    seed: int = 1

    @property
    def bounds(self) -> Bounds:
        """Of the trace."""
        return bounds_of(self.trace, self.fleet.start_median, self.fleet.slots)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share does not exceed; of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))]


def run(setting: Setting, policy: NamedPolicy) -> tuple[Figures, Result]:
    """One run of a policy on a trace."""
    result = World(setting.trace, [setting.fleet], policy.controller(setting.fleet), setting.seed).run()
    waits = sorted(result.waits)
    return (
        Figures(
            str(policy),
            quantile(waits, 0.5),
            quantile(waits, 0.95),
            quantile(waits, 0.99),
            sum(wait > setting.target_wait for wait in waits) / len(waits),
            result.pod_seconds,
            result.pod_seconds * setting.fleet.slots - setting.trace.work,
            result.pod_seconds / setting.bounds.packed,
            result.turns,
            result.interrupted,
            result.lost,
            max(size for _, size in result.sizes),
        ),
        result,
    )


def curve(setting: Setting, policy: NamedPolicy) -> list[Figures]:
    """Over the values of the setting that trades waits for pods."""
    name, values = KINDS[policy.kind].sweep
    return [run(setting, with_setting(policy, name, value))[0] for value in values]


def cheapest(candidates: Iterable[Figures], wait_p95: float) -> Figures | None:
    """Of those that hold a wait, the one with the fewest pod-seconds; None: none holds it."""
    holding = [each for each in candidates if each.wait_p95 <= wait_p95]
    return min(holding, key=lambda each: each.pod_seconds, default=None)


def table(rows: Iterable[Figures]) -> str:
    """For people."""
    cells = [HEADER, *(_row(each) for each in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )


def _row(each: Figures) -> tuple[str, ...]:
    return (
        each.policy,
        f"{each.wait_p50:.1f}",
        f"{each.wait_p95:.1f}",
        f"{each.wait_p99:.1f}",
        f"{each.over_target:.1%}",
        f"{each.pod_seconds / 3600:.1f}",
        f"{each.idle_seconds / 3600:.1f}",
        f"{each.of_bound:.2f}",
        str(each.turns),
        str(each.interrupted),
        str(each.most),
    )
