"""Which property set is written: the new one, or the one before as long as it must stay in force. Pure."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from buildgrid_scheduler.config.problems import ConfigError

from buildgrid_operator.cluster.fleet import FleetError
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.desired.config import FILE_NAME, property_set_in
from buildgrid_operator.desired.names import CONFIG_HASH
from buildgrid_operator.fleets.matching import property_set_of
from buildgrid_operator.reconcile.orphans import orphans_of
from buildgrid_operator.status.scheduler_conditions import ALLOW_ORPHANS, Orphans

Section = Mapping[str, Any]
Ask = Callable[[], FleetState]
"""Raises FleetError."""


@dataclass(frozen=True, slots=True)
class InForce:
    """The property set of a configuration that the operator wrote. `section` None: the built-in one."""

    section: Section | None

    @property
    def as_held(self) -> Section:
        """For `Inputs.held_property_set`."""
        return self.section or {}


@dataclass(frozen=True, slots=True)
class Hold:
    """Why the one before stays: it would orphan jobs, or nobody can say whether it would."""

    orphans: Orphans | None = None
    unreachable: str | None = None


def in_force(config_map: Mapping[str, Any] | None) -> InForce | None:
    """Of the ConfigMap as it is; None if there is none, or if it is not as the operator wrote it."""
    text = ((config_map or {}).get("data") or {}).get(FILE_NAME)
    if config_map is None or not isinstance(text, str):
        return None
    told = (config_map["metadata"].get("annotations") or {}).get(CONFIG_HASH)
    if told != hashlib.sha256(text.encode()).hexdigest():
        return None
    try:
        return InForce(property_set_in(text))
    except ConfigError:
        return None


def is_allowed(annotations: Mapping[str, str], generation: int) -> bool:
    """Whether a person gave up the jobs that this edit orphans."""
    return annotations.get(ALLOW_ORPHANS, "").strip() == str(generation)


def hold_of(
    before: InForce | None,
    wanted: Section | None,
    *,
    generation: int,
    annotations: Mapping[str, str],
    served: bool,
    ask: Ask,
) -> Hold | None:
    """Whether the property set that is in force must stay, although `wanted` is another one.

    `generation` is that of what is edited. `served`: there were replicas, so that jobs may wait. The replicas
    are asked only where that decides.
    """
    if before is None or not served or before.section == wanted or is_allowed(annotations, generation):
        return None
    try:
        state = ask()
    except FleetError as error:
        words = f"{error}; the property set stays as it is until they tell that no job would be orphaned"
        return Hold(unreachable=words)
    orphans = orphans_of(state.requirements, property_set_of(wanted), generation)
    return None if orphans is None else Hold(orphans=orphans)
