"""Which bots may take which jobs, by the scheduler's own matching."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession
from buildgrid_scheduler.config.property_set import (
    DynamicPropertySetConfig,
    PropertySetConfig,
    StaticPropertySetConfig,
)
from buildgrid_scheduler.core.errors import SchedulerError
from buildgrid_scheduler.core.requirements import Offer, satisfies
from buildgrid_scheduler.properties import DynamicPropertySet, PropertyLabel, PropertySet, StaticPropertySet
from buildgrid_scheduler.properties.matching import Matching
from pydantic import TypeAdapter

from buildgrid_operator.api.bot_fleet import BotFleetSpec
from buildgrid_operator.cluster.fleet_state import Requirement
from buildgrid_operator.desired.bots.properties import offered

_SECTION: TypeAdapter[DynamicPropertySetConfig | StaticPropertySetConfig] = TypeAdapter(PropertySetConfig)
Pairs = Sequence[tuple[str, str]]
"""(key, value), as a bot offers them"""


def property_set_of(section: Mapping[str, Any] | None) -> PropertySet:
    """The property set that a section of a configuration stands for; None is the built-in one."""
    config = _SECTION.validate_python({"kind": "dynamic", **(section or {})})
    if isinstance(config, DynamicPropertySetConfig):
        return DynamicPropertySet(
            unique_property_keys=set(config.unique_property_keys),
            match_property_keys=set(config.match_property_keys),
            wildcard_property_keys=set(config.wildcard_property_keys),
            label_key=config.label_key,
        )
    return StaticPropertySet(
        property_labels=[
            PropertyLabel(label.label, {(each.key, each.value) for each in label.properties})
            for label in config.labels
        ],
        wildcard_property_keys=set(config.wildcard_property_keys),
    )


def offer_of(spec: BotFleetSpec) -> tuple[tuple[str, str], ...]:
    """What a bot of the fleet offers, OSFamily and ISA included."""
    return offered(spec)


class Serving:
    """Which bots may take which jobs, under one property set."""

    def __init__(self, property_set: PropertySet) -> None:
        self._matching = Matching(property_set)
        self._offers: dict[tuple[tuple[str, str], ...], Offer | None] = {}

    def serves(self, offer: Pairs, requirement: Requirement) -> bool:
        """Whether a bot that offers these may take a job that requires this, if both are of one instance."""
        found = self._offer(offer)
        return found is not None and satisfies(found, self._matching.requires(_lists(requirement)))

    def refusal(self, offer: Pairs) -> str | None:
        """Why the property set does not let a bot with this offer work; None: it does."""
        try:
            self._matching.offer(_session(offer))
        except SchedulerError as error:
            return str(error)
        return None

    def missing(self, offers: Iterable[Pairs], requirement: Requirement) -> str:
        """Why none of the fleets with these offers may take such a job: the property that no fleet offers."""
        known = [found for found in map(self._offer, offers) if found is not None]
        if not known:
            return f"no fleet has bots for the instance {requirement.instance!r}"
        wanted = sorted(self._matching.requires(_lists(requirement)))
        nobody = [each for each in wanted if not any(each in offer for offer in known)]
        if nobody:
            return f"no fleet offers {_shown(nobody)}"
        return f"no fleet offers all of {_shown(wanted)}"

    def _offer(self, offer: Pairs) -> Offer | None:
        key = tuple(offer)
        if key not in self._offers:
            try:
                self._offers[key] = self._matching.offer(_session(key))
            except SchedulerError:
                self._offers[key] = None
        return self._offers[key]


def _session(offer: Pairs) -> BotSession:
    """A bot session as a bot with this offer would open it."""
    session = BotSession()
    device = session.worker.devices.add()
    for key, value in offer:
        device.properties.add(key=key, value=value)
    return session


def _lists(requirement: Requirement) -> dict[str, list[str]]:
    return {key: list(values) for key, values in requirement.properties.items()}


def _shown(wanted: Iterable[tuple[str, str]]) -> str:
    return " and ".join(f"{key}={value}" for key, value in wanted)
