"""What came of runs: figures, a table of them, and the same wait at what price."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from buildgrid_operator.simulator.bounds import Bounds, bounds_of
from buildgrid_operator.simulator.policies import KINDS, NamedPolicy, with_setting
from buildgrid_operator.simulator.trace import Trace
from buildgrid_operator.simulator.world import FleetModel, Result, World


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
    cost: float
    """pod-seconds, each times the cost of its fleet"""
    idle_seconds: float
    """slot-seconds of pods that did no work that counts: starting, idle, work that was killed"""
    of_bound: float
    """cost, as a multiple of that of perfect foresight"""
    turns: int
    interrupted: int
    """jobs that the policy killed"""
    lost: int
    """jobs that were killed with their node"""
    most: int
    """pods at once"""

    def as_json(self) -> dict[str, float | int | str]:
        """By the names above."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Setting:
    """What all policies of a comparison have in common."""

    trace: Trace
    fleets: Sequence[FleetModel]
    """those that are to be filled first, first"""
    target_wait: float = 30.0
    seed: int = 1

    @property
    def bounds(self) -> Bounds:
        """Of the trace."""
        return bounds_of(self.trace, self.fleets)

    @property
    def slots(self) -> int:
        """Of a pod; of several fleets, of the greatest."""
        return max(fleet.slots for fleet in self.fleets)

    @property
    def one_price(self) -> bool:
        """Whether cost and pod-seconds are the same."""
        return all(fleet.cost == 1 for fleet in self.fleets)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so large a share does not exceed; of sorted values."""
    return values[min(len(values) - 1, int(share * len(values)))]


def run(setting: Setting, policy: NamedPolicy) -> tuple[Figures, Result]:
    """One run of a policy on a trace. Raises ValueError when the policy leaves jobs undone for ever."""
    try:
        result = World(setting.trace, setting.fleets, policy.controller(setting.fleets), setting.seed).run()
    except ValueError as error:
        raise ValueError(f"{policy}: {error}") from error
    waits = sorted(result.waits)
    return (
        Figures(
            str(policy),
            quantile(waits, 0.5),
            quantile(waits, 0.95),
            quantile(waits, 0.99),
            sum(wait > setting.target_wait for wait in waits) / len(waits),
            result.pod_seconds,
            result.cost,
            result.slot_seconds - setting.trace.work,
            result.cost / setting.bounds.packed,
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
    """Of those that hold a wait, the cheapest; None: none holds it."""
    holding = [each for each in candidates if each.wait_p95 <= wait_p95]
    return min(holding, key=lambda each: each.cost, default=None)


def table(rows: Iterable[Figures]) -> str:
    """For people. Without costs where they are the pod-hours, and lost jobs where there are none."""
    rows = list(rows)
    dull = set()
    if all(each.cost == each.pod_seconds for each in rows):
        dull.add("cost")
    if not any(each.lost for each in rows):
        dull.add("lost")
    shown = {name: tell for name, tell in _COLUMNS.items() if name not in dull}
    return aligned([tuple(shown), *(tuple(tell(each) for tell in shown.values()) for each in rows)])


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Columns of a width, the first to the left, the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )


_COLUMNS: dict[str, Callable[[Figures], str]] = {
    "policy": lambda each: each.policy,
    "wait p50": lambda each: f"{each.wait_p50:.1f}",
    "p95": lambda each: f"{each.wait_p95:.1f}",
    "p99": lambda each: f"{each.wait_p99:.1f}",
    "> target": lambda each: f"{each.over_target:.1%}",
    "pod-hours": lambda each: f"{each.pod_seconds / 3600:.1f}",
    "cost": lambda each: f"{each.cost / 3600:.1f}",
    "idle": lambda each: f"{each.idle_seconds / 3600:.1f}",
    "x bound": lambda each: f"{each.of_bound:.2f}",
    "turns": lambda each: str(each.turns),
    "killed": lambda each: str(each.interrupted),
    "lost": lambda each: str(each.lost),
    "most": lambda each: str(each.most),
}
