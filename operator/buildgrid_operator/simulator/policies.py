"""Policies by name and settings: `buildgrid:targetWait=30s,idleTimeout=1m`, `hpa:target=2`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from buildgrid_operator.api.durations import parse_duration
from buildgrid_operator.planner.policy import Policy
from buildgrid_operator.simulator.controllers import PlannerController
from buildgrid_operator.simulator.peers import (
    Fixed,
    HorizontalPodAutoscaler,
    Keda,
    Percentile,
    RunnerScaleSet,
)
from buildgrid_operator.simulator.world import Controller, FleetModel

OURS = "buildgrid"
Settings = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Kind:
    """A policy's settings with what they are unless given, and how it is made. Times in seconds."""

    words: str
    settings: Settings
    make: Callable[[Settings, Sequence[FleetModel]], Controller]
    sweep: tuple[str, tuple[float, ...]]
    """the setting that trades waits for pods, and values from dear to cheap"""
    also: tuple[str, tuple[float, ...]] | None = None
    """another setting that is worth tuning, and values"""


@dataclass(frozen=True, slots=True)
class NamedPolicy:
    """A kind with its settings."""

    kind: str
    settings: Settings

    def controller(self, fleets: Sequence[FleetModel]) -> Controller:
        """A new one: controllers remember. `fleets`: those that are to be filled first, first."""
        return KINDS[self.kind].make(self.settings, fleets)

    def __str__(self) -> str:
        usual = KINDS[self.kind].settings
        told = [f"{name}={_shown(value)}" for name, value in self.settings.items() if value != usual[name]]
        return self.kind + (":" + ",".join(told) if told else "")


def parse_policy(text: str) -> NamedPolicy:
    """Raises ValueError that names what is wrong and what there is."""
    kind, _, rest = text.partition(":")
    if kind not in KINDS:
        raise ValueError(f"{text!r}: there is no policy {kind!r}; there are {', '.join(KINDS)}")
    settings = dict(KINDS[kind].settings)
    for part in filter(None, rest.split(",")):
        name, equals, value = part.partition("=")
        if name not in settings or not equals:
            raise ValueError(
                f"{text!r}: {part!r} is not a setting of {kind}; those are {', '.join(settings)}"
            )
        settings[name] = _number(text, name, value)
    return NamedPolicy(kind, settings)


def with_setting(policy: NamedPolicy, name: str, value: float) -> NamedPolicy:
    """The same, but for one setting."""
    return NamedPolicy(policy.kind, {**policy.settings, name: value})


def _number(text: str, name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        try:
            number = parse_duration(value).total_seconds()
        except ValueError as error:
            raise ValueError(f"{text!r}: {name}: {value!r} is no number, and no duration as 1m30s") from error
    if not 0 <= number < 1e9:
        raise ValueError(f"{text!r}: {name}: {value} is out of range")
    return number


def _shown(value: float) -> str:
    return f"{value:g}"


def _ours(settings: Settings, fleets: Sequence[FleetModel]) -> Controller:
    served: set[str] = set()
    policies = {}
    for fleet in fleets:
        # What is held ready for nobody in particular is held where jobs go first.
        first = not fleet.serves <= served
        served |= fleet.serves
        most = min(fleet.max_bots, int(settings["maxBots"]) or fleet.max_bots)
        policies[fleet.name] = Policy(
            min_bots=min(most, int(settings["minBots"])) if first else 0,
            max_bots=most,
            warm_bots=int(settings["warmBots"]) if first else 0,
            slots_per_bot=fleet.slots,
            target_wait=timedelta(seconds=settings["targetWait"]),
            idle_timeout=timedelta(seconds=settings["idleTimeout"]),
            cost=fleet.cost,
            capacity_class=fleet.capacity_class,
        )
    return PlannerController(policies)


KINDS: dict[str, Kind] = {
    OURS: Kind(
        "this project's planner",
        {"targetWait": 30.0, "idleTimeout": 60.0, "warmBots": 0.0, "minBots": 0.0, "maxBots": 0.0},
        _ours,
        ("idleTimeout", (1200.0, 600.0, 300.0, 120.0, 60.0, 30.0, 15.0)),
        ("targetWait", (5.0, 30.0, 60.0, 120.0)),
    ),
    "hpa": Kind(
        "HorizontalPodAutoscaler on unfinished jobs per slot",
        {"target": 1.0, "minBots": 1.0, "stabilization": 300.0},
        lambda settings, _: HorizontalPodAutoscaler(
            settings["target"], int(settings["minBots"]), settings["stabilization"]
        ),
        ("target", (0.5, 0.7, 1.0, 1.5, 2.0, 4.0)),
        ("stabilization", (60.0, 300.0)),
    ),
    "keda": Kind(
        "KEDA's ScaledObject, polling",
        {"target": 1.0, "polling": 30.0, "cooldown": 300.0, "stabilization": 300.0},
        lambda settings, _: Keda(
            settings["target"], settings["polling"], settings["cooldown"], settings["stabilization"]
        ),
        ("target", (0.5, 0.7, 1.0, 1.5, 2.0, 4.0)),
        ("stabilization", (60.0, 300.0)),
    ),
    "arc": Kind(
        "actions-runner-controller: a runner for each job, and idle ones",
        {"idle": 0.0},
        lambda settings, _: RunnerScaleSet(int(settings["idle"])),
        ("idle", (40.0, 20.0, 10.0, 5.0, 2.0, 0.0)),
    ),
    "percentile": Kind(
        "a quantile of what was wanted in a window, as bb-autoscaler",
        {"quantile": 0.95, "window": 900.0},
        lambda settings, _: Percentile(settings["quantile"], settings["window"]),
        ("window", (3600.0, 1800.0, 900.0, 300.0, 120.0)),
    ),
    "fixed": Kind(
        "always so many",
        {"size": 20.0},
        lambda settings, _: Fixed(int(settings["size"])),
        ("size", (200.0, 150.0, 100.0, 75.0, 50.0, 30.0, 20.0, 10.0, 5.0)),
    ),
}
