"""What the operator tells in `status`."""

from typing import Annotated, Literal

from pydantic import ConfigDict

from buildgrid_operator.api.model import ApiModel
from buildgrid_operator.api.shapes import Items, Range, Text, Time

UNSEEN = -1
"""`observedGeneration` of an object that no operator has looked at yet: `helm --wait` and Flux wait then."""
Count = Annotated[int, Range(0, 2**53)]
Generation = Annotated[int, Range(UNSEEN, 2**53)]
Timestamp = Annotated[str, Time()]
_Words = Annotated[str, Text(1024)]


class Status(ApiModel):
    """A part of a status, made by the names of its attributes: `SchedulerStatus(ready_replicas=2)`.

    Unknown fields, which a newer operator wrote, are left out when it is read.
    """

    model_config = ConfigDict(extra="ignore", validate_by_name=True, validate_by_alias=True)


class Condition(Status):
    """Something that is so or not, in the Kubernetes convention."""

    type: Annotated[str, Text(64, 1, r"^[A-Z][A-Za-z0-9]*$", "must be a word in CamelCase")]
    """what it is about, for example Ready"""
    status: Literal["True", "False", "Unknown"]
    """whether it is so"""
    reason: Annotated[str, Text(128, 1, r"^[A-Z][A-Za-z0-9]*$", "must be a word in CamelCase")]
    """why, in a word"""
    message: Annotated[str, Text(4096)]
    """why, and what to do next"""
    last_transition_time: Timestamp
    """since when status is what it is"""
    observed_generation: Generation = 0
    """metadata.generation that it is about"""


Conditions = Annotated[tuple[Condition, ...], Items(16, 0, "map", "type")]


class Endpoints(Status):
    """Addresses within the cluster, as grpc://HOST:PORT or grpcs://HOST:PORT."""

    scheduler: _Words | None = None
    """for clients: execution, action cache and CAS"""
    bots: _Words | None = None
    """for bots, which spread over the replicas by themselves"""
    cas: _Words | None = None
    """the CAS for bots, past the scheduler's replicas"""
    metrics: _Words | None = None
    """metrics and health, http://HOST:PORT"""


class PropertySetInForce(Status):
    """Which property set the replicas have."""

    name: _Words | None = None
    """name of the PropertySet; unset: the built-in one"""
    generation: Generation = 0
    """its metadata.generation"""
    kind: Literal["Dynamic", "Static"] | None = None
    """which kind it is"""


class SchedulerStatus(Status):
    """How far a Scheduler is."""

    observed_generation: Generation = UNSEEN
    """metadata.generation that the rest is about"""
    conditions: Conditions = ()
    """Ready, ConfigApplied, Degraded, Stalled"""
    replicas: Count = 0
    """pods that there are"""
    ready_replicas: Count = 0
    """pods that serve"""
    updated_replicas: Count = 0
    """pods of the newest template"""
    configured_replicas: Count = 0
    """replicas that have the newest configuration in force"""
    selector: _Words | None = None
    """label selector of the pods"""
    image: _Words | None = None
    """the scheduler's image: it changes only by an edit of the spec, or with upgradePolicy Automatic"""
    storage_image: _Words | None = None
    """the managed storage's image, likewise"""
    version: Annotated[str | None, Text(128)] = None
    """version that the replicas report"""
    config_hash: Annotated[str | None, Text(128)] = None
    """hash of the configuration that the replicas should have"""
    template_hash: Annotated[str | None, Text(128)] = None
    """hash of what rolls the pods"""
    property_set: PropertySetInForce | None = None
    """the property set in the configuration"""
    endpoints: Endpoints | None = None
    """where it is reached"""
    queued_jobs: Annotated[int | None, Range(0, 2**53)] = None
    """jobs that wait for a bot"""
    executing_jobs: Annotated[int | None, Range(0, 2**53)] = None
    """jobs that bots work at"""
    connected_bots: Annotated[int | None, Range(0, 2**53)] = None
    """bots with a session"""
    oldest_queued_time: Timestamp | None = None
    """since when the oldest waiting job waits"""


class PropertySetStatus(Status):
    """How far a PropertySet is."""

    observed_generation: Generation = UNSEEN
    """metadata.generation that the rest is about"""
    conditions: Conditions = ()
    """Ready, Stalled"""
    kind: Literal["Dynamic", "Static"] | None = None
    """which kind it is"""
    schedulers: Annotated[tuple[Annotated[str, Text(253, 1)], ...], Items(256, 0, "set")] = ()
    """names of the Schedulers that use it"""
    used_by: Count = 0
    """how many there are"""


class Decision(Status):
    """What the operator decided last about the number of bots."""

    time: Timestamp
    """when"""
    message: _Words
    """what, and why"""


class BotFleetStatus(Status):
    """How far a BotFleet is. Times instead of ages."""

    observed_generation: Generation = UNSEEN
    """metadata.generation that the rest is about"""
    conditions: Conditions = ()
    """Ready, ScalingActive, ScalingLimited, MetricsStale, Draining, CapacityBlocked, Paused, Stalled"""
    replicas: Count = 0
    """bot pods that have not ended, those that wait for a node included"""
    selector: _Words | None = None
    """label selector of the pods"""
    desired_bots: Count = 0
    """how many there should be"""
    ready_bots: Count = 0
    """pods with a session: idle, busy or draining"""
    starting_bots: Count = 0
    """pods that have no session yet"""
    idle_bots: Count = 0
    """without an action"""
    busy_bots: Count = 0
    """with an action"""
    draining_bots: Count = 0
    """finish what they have, and go"""
    updated_bots: Count = 0
    """pods of the newest template"""
    queued_jobs: Count = 0
    """waiting jobs that bots of this fleet could take"""
    executing_jobs: Count = 0
    """actions that run on its bots"""
    oldest_queued_time: Timestamp | None = None
    """since when the oldest of the waiting jobs waits"""
    created_bots: Count = 0
    """the greatest number that a pod's name had so far: later pods have greater ones"""
    start_seconds: Annotated[int | None, Range(0, 2**31)] = None
    """median time from making a pod until it took its first session"""
    instance: Annotated[str | None, Text(255)] = None
    """the Scheduler's instance that the bots work for: it stays, whatever comes first there later"""
    image: _Words | None = None
    """the bot's image"""
    template_hash: Annotated[str | None, Text(128)] = None
    """hash of what rolls the pods"""
    sandbox: Annotated[str | None, Text(64)] = None
    """how actions are kept apart from the node: the level in force"""
    last_decision: Decision | None = None
    """the latest change of the number of bots, and why"""
