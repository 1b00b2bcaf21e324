"""Whether a status is worth a write: what matters at once, figures seldom, nothing for nothing."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from buildgrid_operator.api.model import ApiModel

FIGURES_SPACING = timedelta(seconds=5)
SCHEDULER_FIGURES = frozenset(
    {
        "replicas",
        "readyReplicas",
        "updatedReplicas",
        "configuredReplicas",
        "queuedJobs",
        "executingJobs",
        "connectedBots",
        "oldestQueuedTime",
    }
)
PROPERTY_SET_FIGURES = frozenset({"schedulers", "usedBy"})
FLEET_FIGURES = frozenset(
    {
        "replicas",
        "desiredBots",
        "readyBots",
        "startingBots",
        "idleBots",
        "busyBots",
        "drainingBots",
        "updatedBots",
        "queuedJobs",
        "executingJobs",
        "oldestQueuedTime",
        "createdBots",
        "startSeconds",
        "lastDecision",
    }
)

S = TypeVar("S", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class Due:
    """`write`: now. `wait`: not yet, look again after that. Neither: there is nothing to write."""

    write: bool
    wait: timedelta | None = None


def due(
    before: S,
    after: S,
    *,
    figures: Collection[str],
    last_write: datetime | None,
    now: datetime,
    spacing: timedelta = FIGURES_SPACING,
) -> Due:
    """Whether to write `after` where `before` is what the API server has.

    `figures` are fields that may change all the time: with the messages of conditions, which name them, they
    are written at most once in `spacing`. `last_write` is when this object's status was written last, None
    when that is not known, as after a restart.
    """
    old, new = before.to_dict(), after.to_dict()
    if old == new:
        return Due(write=False)
    if _essence(old, figures) != _essence(new, figures):
        return Due(write=True)
    if last_write is None:
        return Due(write=True)
    left = last_write + spacing - now
    # A clock that was set back must not hold writes up.
    return Due(write=False, wait=min(left, spacing)) if left > timedelta(0) else Due(write=True)


def _essence(status: dict[str, Any], figures: Collection[str]) -> dict[str, Any]:
    """A status without what may wait."""
    kept = {name: value for name, value in status.items() if name not in figures}
    kept["conditions"] = [
        {name: value for name, value in condition.items() if name != "message"}
        for condition in status.get("conditions", ())
    ]
    return kept
