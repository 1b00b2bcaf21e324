"""Fleets by name and settings: `spot:lostAfter=30m,cost=0.3,class=spot`, `gpu:serves=*gpu*`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from math import inf
from typing import Any

from buildgrid_operator.api.durations import parse_duration
from buildgrid_operator.simulator.trace import Trace
from buildgrid_operator.simulator.world import FleetModel

ANY = "*"
FLEETS_OF_FAMILIES: Mapping[str, Sequence[str]] = {
    "two-labels": ("linux:serves=linux", "gpu:serves=gpu,cost=4"),
    "spot-loss": ("spot:cost=0.3,lostAfter=20m,class=spot", "on-demand:class=on-demand"),
    "slow-images": ("fleet:startTime=2m,startSpread=0.7,startFailures=0.1",),
}
"""where a family is about its fleets"""


def fleets_of(texts: Iterable[str], base: FleetModel, trace: Trace) -> list[FleetModel]:
    """Those that are written, with what they do not say from `base`; the cheapest slots first, as the planner
    fills them.

    Raises ValueError that names what is wrong and what there is: also for jobs that no fleet serves.
    """
    fleets = [_parse(text, base, trace) for text in texts]
    names = [fleet.name for fleet in fleets]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"there are two fleets {twice!r}; give each a name of its own")
    for job in trace.jobs:
        if not any(job.requirement in fleet.serves for fleet in fleets):
            raise ValueError(f"no fleet serves jobs that require {job.requirement!r}; add them to its serves")
    return sorted(fleets, key=lambda fleet: fleet.cost / fleet.slots)


def _parse(text: str, base: FleetModel, trace: Trace) -> FleetModel:
    name, _, rest = text.partition(":")
    if not name:
        raise ValueError(f"{text!r}: a fleet needs a name, for example spot:cost=0.3")
    values: dict[str, Any] = {"name": name, "serves": _matching(ANY, trace)}
    for part in filter(None, rest.split(",")):
        setting, equals, value = part.partition("=")
        if setting == "serves" and equals:
            values["serves"] = _matching(value, trace)
        elif setting in _SETTINGS and equals:
            field, read = _SETTINGS[setting]
            try:
                values[field] = read(value)
            except ValueError as error:
                raise ValueError(f"{text!r}: {setting}: {error}") from None
        else:
            known = ", ".join(["serves", *_SETTINGS])
            raise ValueError(f"{text!r}: {part!r} is not a setting of a fleet; those are {known}")
    return replace(base, **values)


def _matching(patterns: str, trace: Trace) -> frozenset[str]:
    """Requirements in the trace that one of the patterns, parted by |, matches."""
    wanted = {job.requirement for job in trace.jobs}
    return frozenset(
        name for name in wanted if any(fnmatchcase(name, pattern) for pattern in patterns.split("|"))
    )


def whole(text: str) -> int:
    """A number of bots or slots. Raises ValueError."""
    number = int(text) if text.isdecimal() else 0
    if not 0 < number <= 100_000:
        raise ValueError(f"{text!r} is not a number from 1 to 100000")
    return number


def share(text: str) -> float:
    """Raises ValueError."""
    number = _number(text)
    if not 0 <= number < 1:
        raise ValueError(f"{text!r} is not a share from 0 to below 1")
    return number


def seconds(text: str) -> float:
    """Of a duration such as 1m30s. Raises ValueError."""
    found = parse_duration(text).total_seconds()
    if found <= 0:
        raise ValueError(f"{text!r} is not above 0")
    return found


def _spread(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 3:
        raise ValueError(f"{text!r} is not a number from 0 to 3")
    return number


def _cost(text: str) -> float:
    number = _number(text)
    if not 0 < number < 1e9:
        raise ValueError(f"{text!r} is not a number above 0")
    return number


def _number(text: str) -> float:
    """-1 for what is none, which no setting allows."""
    try:
        return float(text)
    except ValueError:
        return -1.0


def _lost_after(text: str) -> float:
    return inf if text == "never" else seconds(text)


_SETTINGS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    "maxBots": ("max_bots", whole),
    "slots": ("slots", whole),
    "startTime": ("start_median", seconds),
    "startSpread": ("start_sigma", _spread),
    "startFailures": ("start_failures", share),
    "lostAfter": ("lost_after", _lost_after),
    "cost": ("cost", _cost),
    "class": ("capacity_class", str),
}
