"""Waiting jobs that a new property set would leave without a bot, by the scheduler's own matching."""

from collections.abc import Iterable, Mapping
from typing import Any

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform
from buildgrid_scheduler.config.property_set import (
    DynamicPropertySetConfig,
    PropertySetConfig,
    StaticPropertySetConfig,
)
from buildgrid_scheduler.core.errors import SchedulerError
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.properties import DynamicPropertySet, PropertyLabel, PropertySet, StaticPropertySet
from pydantic import TypeAdapter

from buildgrid_operator.cluster.fleet import Requirement
from buildgrid_operator.status.scheduler_conditions import Orphans

_SECTION: TypeAdapter[DynamicPropertySetConfig | StaticPropertySetConfig] = TypeAdapter(PropertySetConfig)


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


def orphans_of(
    requirements: Iterable[Requirement], property_set: PropertySet, generation: int
) -> Orphans | None:
    """Those that wait and that the property set does not accept as they are; None: there are none.

    Accepted means: a job that asks for just what these were found to require would require the same.
    Otherwise bots, which are matched by the new property set, would not offer it.
    """
    counts: dict[str, int] = {}
    for requirement in requirements:
        if requirement.queued and not _accepts(property_set, requirement):
            words = shown(requirement.properties)
            counts[words] = counts.get(words, 0) + requirement.queued
    if not counts:
        return None
    by_count = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return Orphans(generation, sum(counts.values()), tuple(by_count))


def shown(properties: Mapping[str, Iterable[str]]) -> str:
    """`{ISA=x86-64, OSFamily=linux}`"""
    return "{" + ", ".join(f"{key}={value}" for key, those in properties.items() for value in those) + "}"


def _accepts(property_set: PropertySet, requirement: Requirement) -> bool:
    platform = Platform()
    for key, values in requirement.properties.items():
        for value in values:
            platform.properties.add(name=key, value=value)
    try:
        _, required = property_set.execution_properties(platform)
    except SchedulerError:
        return False
    wanted = {key: list(values) for key, values in requirement.properties.items()}
    return requirement_hash(required) == requirement_hash(wanted)
