"""From a BotFleet to its pods, and what exists beside them. Pure: the same inputs give the same objects."""

from buildgrid_operator.desired.bots.bundle import KINDS, fleet_objects
from buildgrid_operator.desired.bots.checks import check, notices
from buildgrid_operator.desired.bots.inputs import FleetInputs, instance_of, resolve_bot_image
from buildgrid_operator.desired.bots.pod import bot_pod, grace_period
from buildgrid_operator.desired.bots.properties import offered, sandbox_level
from buildgrid_operator.desired.bots.rollout import bot_template_hash

__all__ = [
    "KINDS",
    "FleetInputs",
    "bot_pod",
    "bot_template_hash",
    "check",
    "fleet_objects",
    "grace_period",
    "instance_of",
    "notices",
    "offered",
    "resolve_bot_image",
    "sandbox_level",
]
