"""The objects that people write: typed models, from which the CRDs and the reference page are generated.

`Scheduler.parse(obj)`, `PropertySet.parse(obj)` and `BotFleet.parse(obj)` read an object of the API server,
or raise InvalidSpec with all that is wrong. `rollout_view(spec)` is what the hash of the pod template is made
of. Everything below `spec` is a frozen model: durations are timedeltas, sizes are bytes, defaults are filled
in, what is unset is None. A status is made by the names of its attributes and written with `to_dict()`. In
v1alpha1 fields are only added.
"""

from buildgrid_operator.api.bot_fleet import BotFleet, BotFleetSpec
from buildgrid_operator.api.effects import rollout_view
from buildgrid_operator.api.problems import InvalidSpec, Problem
from buildgrid_operator.api.property_set import PropertySet, PropertySetSpec
from buildgrid_operator.api.resource import update_problems
from buildgrid_operator.api.scheduler import Scheduler, SchedulerSpec
from buildgrid_operator.api.status import BotFleetStatus, Condition, PropertySetStatus, SchedulerStatus

__all__ = [
    "BotFleet",
    "BotFleetSpec",
    "BotFleetStatus",
    "Condition",
    "InvalidSpec",
    "Problem",
    "PropertySet",
    "PropertySetSpec",
    "PropertySetStatus",
    "Scheduler",
    "SchedulerSpec",
    "SchedulerStatus",
    "rollout_view",
    "update_problems",
]
