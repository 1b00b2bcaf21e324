"""The static property set: an ordered list of labels, each a fixed set of properties."""

from collections.abc import Set
from dataclasses import dataclass

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession

from buildgrid_scheduler.core.errors import FailedPrecondition
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.properties.property_set import MAX_COMBINATIONS, device_pairs


@dataclass(frozen=True)
class PropertyLabel:
    """A class of jobs, and all that a bot must offer to run them."""

    label: str
    properties: set[tuple[str, str]]
    """(key, value) pairs"""


class StaticPropertySet:
    """A job belongs to the first label that holds all its properties, and then requires all of that label's.

    A bot serves every label whose properties it offers, whatever else it offers. Properties with a wildcard
    key are accepted in jobs, and do not count. Jobs and bots that fit no label are refused.
    """

    def __init__(self, *, property_labels: list[PropertyLabel], wildcard_property_keys: set[str]) -> None:
        """Raises ValueError for no labels, for one that is there twice, and for one without a name."""
        if not property_labels:
            raise ValueError("property_labels: is empty, no job could run; name at least one label")
        names = [label.label for label in property_labels]
        if "" in names:
            raise ValueError("property_labels: a label has no name; it is shown in metrics and limits")
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"property_labels: {', '.join(sorted(twice))}: there twice; give each its own name"
            )
        self.property_labels = tuple(property_labels)
        self.wildcard_property_keys = frozenset(wildcard_property_keys)

    def execution_properties(self, platform: Platform) -> tuple[str, dict[str, list[str]]]:
        """See `PropertySet`."""
        asked = {(p.name, p.value) for p in platform.properties if p.name not in self.wildcard_property_keys}
        for label in self.property_labels:
            if asked <= label.properties:
                return label.label, _requirement(label)
        raise FailedPrecondition(
            f"no label has all of the platform properties {_shown(asked)}; known are {self._catalogue()}"
        )

    def worker_properties(self, bot_session: BotSession) -> list[dict[str, list[str]]]:
        """See `PropertySet`. The whole set of each label that the bot serves."""
        served = self._served(bot_session)
        if len(served) > MAX_COMBINATIONS:
            raise FailedPrecondition(f"the bot serves {len(served)} labels: more than {MAX_COMBINATIONS}")
        return [_requirement(label) for label in served]

    def offer(self, bot_session: BotSession) -> Offer:
        """The pairs that matching looks at: those of the labels that the bot serves."""
        return frozenset(pair for label in self._served(bot_session) for pair in label.properties)

    def _served(self, bot_session: BotSession) -> list[PropertyLabel]:
        offered = device_pairs(bot_session)
        served = [label for label in self.property_labels if label.properties <= offered]
        if not served:
            raise FailedPrecondition(
                f"the bot offers {_shown(offered)} and serves no label; known are {self._catalogue()}"
            )
        return served

    def _catalogue(self) -> str:
        return "; ".join(f"{label.label}: {_shown(label.properties)}" for label in self.property_labels[:20])


def _requirement(label: PropertyLabel) -> dict[str, list[str]]:
    requirement: dict[str, list[str]] = {}
    for key, value in sorted(label.properties):
        requirement.setdefault(key, []).append(value)
    return requirement


def _shown(pairs: Set[tuple[str, str]]) -> str:
    return ", ".join(f"{key}={value}" for key, value in sorted(pairs)) or "nothing"
