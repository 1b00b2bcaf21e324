"""Waiting jobs that a new property set would leave without a bot, by the scheduler's own matching."""

from collections.abc import Iterable, Mapping

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform
from buildgrid_scheduler.core.errors import SchedulerError
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.properties import PropertySet

from buildgrid_operator.cluster.fleet_state import Requirement
from buildgrid_operator.status.scheduler_conditions import Orphans


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
