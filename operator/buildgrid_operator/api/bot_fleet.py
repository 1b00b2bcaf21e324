"""`BotFleet`: one pool of bot pods."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from buildgrid_operator.api.durations import Duration
from buildgrid_operator.api.model import ApiModel, Effect
from buildgrid_operator.api.property_set import Property
from buildgrid_operator.api.quantities import Quantity
from buildgrid_operator.api.resource import Column, Names, Resource, Scale
from buildgrid_operator.api.rules import Rule, Transition, immutable
from buildgrid_operator.api.scaling import MAX_BOTS, Scaling
from buildgrid_operator.api.shapes import Items, Range, Text
from buildgrid_operator.api.status import BotFleetStatus
from buildgrid_operator.api.types import (
    Annotations,
    DnsLabel,
    Image,
    InstanceName,
    LocalObjectReference,
    ObjectName,
    PodTemplate,
    ResourceRequirements,
)

NAME_PATTERN = r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"
"""Pods are named after it, with a number."""
RESERVED_WORKER_PROPERTIES = (
    "capacity-class", "cluster-uid", "fleet-uid", "root", "sandbox", "sandbox-level",
)  # fmt: skip
"""Keys that the operator, or the bot, gives a value of its own."""
_GIB = 1024**3


class SchedulerReference(ApiModel):
    """The Scheduler that the bots work for."""

    name: ObjectName
    """its name"""
    namespace: DnsLabel | None = None
    """its namespace; unset: the fleet's own. Another one must be allowed by the Scheduler
    (spec.allowedFleetNamespaces)"""


class BotProperty(Property):
    """A property of the bots, which are told it as a line KEY=VALUE."""

    key: Annotated[
        str,
        Text(128, 1, r"^[^=\x00-\x1f]+$", "must be one line without =; name the property otherwise"),
    ]
    """its name, for example OSFamily"""
    value: Annotated[str, Text(1024, 0, r"^[^\x00-\x1f]*$", "must be one line; remove the line breaks")]
    """its value, for example linux"""


class WorkerProperty(BotProperty):
    """A property that is not matched. Some are set for each bot anyway."""

    rules = (
        Rule(
            cel=f"!(self.key in {list(RESERVED_WORKER_PROPERTIES)})",
            message=f"must not be {', '.join(RESERVED_WORKER_PROPERTIES)}, which each bot has anyway; choose "
            "another key, or use spec.capacityClass and spec.sandbox",
            check=lambda each: each.key not in RESERVED_WORKER_PROPERTIES,
            field="key",
        ),
    )


def _no_pair_twice(name: str, listed: Callable[["BotFleetSpec"], tuple[Property, ...]]) -> Rule:
    """A key may come with several values, but not twice with the same."""

    def check(spec: "BotFleetSpec") -> bool:
        pairs = [(each.key, each.value) for each in listed(spec)]
        return len(pairs) == len(set(pairs))

    return Rule(
        cel=f"self.{name}.all(a, self.{name}.exists_one(b, b.key == a.key && b.value == a.value))",
        message="has a key twice with the same value; keep one",
        check=check,
        field=name,
    )


class Sandbox(ApiModel):
    """How actions are kept apart from the node, and from each other."""

    type: Literal["None", "UserNamespace", "RuntimeClass"] = "None"
    """None: as any container; actions in one pod can read each other. UserNamespace: root in the pod is
    nobody on the node (hostUsers: false). RuntimeClass: the pod runs under another runtime, for example
    gVisor. There is no fallback: a node that cannot do it does not run the pod"""
    runtime_class_name: ObjectName | None = None
    """for RuntimeClass: which one"""
    seccomp_profile: Annotated[
        str | None, Text(255, 1, r"^[^/\s][^\s]*$", "must be a path below the kubelet's folder of profiles")
    ] = None
    """a Localhost seccomp profile on the nodes, for sandboxes within the pod; unset: RuntimeDefault"""

    rules = (
        Rule(
            cel="(self.type == 'RuntimeClass') == has(self.runtimeClassName)",
            message="goes with type RuntimeClass, and only with it; set both, or neither",
            check=lambda sandbox: (
                (sandbox.type == "RuntimeClass") == (sandbox.runtime_class_name is not None)
            ),
            field="runtimeClassName",
        ),
        Rule(
            cel="!has(self.seccompProfile) || !self.seccompProfile.split('/').exists(part, part == '..')",
            message="must stay below the kubelet's folder of profiles; remove the ..",
            check=lambda sandbox: ".." not in (sandbox.seccomp_profile or "").split("/"),
            field="seccompProfile",
        ),
    )


class Rollout(ApiModel):
    """How a new template reaches the bots. Busy ones finish their actions first."""

    max_surge: Annotated[int, Range(0, MAX_BOTS)] = 1
    """bots beyond what is needed, meanwhile"""
    max_unavailable: Annotated[int, Range(0, MAX_BOTS)] = 0
    """bots fewer than what is needed, meanwhile"""

    rules = (
        Rule(
            cel="self.maxSurge > 0 || self.maxUnavailable > 0",
            message="must not be 0 where maxUnavailable is 0: nothing could be replaced; raise one of them",
            check=lambda rollout: rollout.max_surge > 0 or rollout.max_unavailable > 0,
            field="maxSurge",
        ),
    )


class Drain(ApiModel):
    """How long bots may finish what they have."""

    timeout: Annotated[timedelta | None, Duration("1m", "168h")] = None
    """after this a bot that drains is ended all the same, and what it runs is run elsewhere; unset: never"""


class Startup(ApiModel):
    """How long pods may take to come up."""

    timeout: Annotated[timedelta, Duration("30s", "24h")] = timedelta(minutes=10)
    """a pod that has a node and no session for so long is replaced; waiting for a node does not count"""


class BotServiceAccount(ApiModel):
    """The ServiceAccount of the bots, which the operator makes. Its token is for the scheduler alone."""

    annotations: Annotations = Field(default_factory=dict)
    """for the identity that a cloud gives to the pods"""


class BotFleetSpec(ApiModel):
    """Which bots there should be, and how many."""

    scheduler_ref: Annotated[SchedulerReference, Effect.ROLLOUT]
    """the Scheduler that they work for"""
    instance: Annotated[InstanceName | None, Effect.ROLLOUT] = None
    """which of its instances; unset: the first"""
    replicas: Annotated[int | None, Range(0, MAX_BOTS), Effect.APPLY] = None
    """so many bots, whatever waits, within minBots and maxBots: what `kubectl scale` sets. Unset: as the work
    needs; `kubectl patch bgf NAME --type=merge -p '{"spec":{"replicas":null}}'` unsets it"""
    scaling: Annotated[Scaling, Effect.APPLY] = Scaling()
    """how many bots there should be"""
    properties: Annotated[tuple[BotProperty, ...], Items(64), Effect.ROLLOUT] = ()
    """what bots offer, to be matched with what actions require; OSFamily is linux and ISA is x86-64 if they
    are not among them. Nodes are chosen by ISA"""
    worker_properties: Annotated[tuple[WorkerProperty, ...], Items(32), Effect.ROLLOUT] = ()
    """told to the scheduler, but not matched"""
    slots_per_bot: Annotated[int, Range(1, 1024), Effect.ROLLOUT] = 1
    """actions that a bot runs at the same time"""
    capacity_class: Annotated[
        str,
        Text(63, 0, r"^([a-zA-Z0-9]([-a-zA-Z0-9_.]*[a-zA-Z0-9])?)?$", "must be a label's value, or empty"),
        Effect.ROLLOUT,
    ] = ""
    """bots that tend to vanish together, for example spot: a job that was lost with one prefers another class
    for a while"""
    max_actions_per_bot: Annotated[int | None, Range(1, 1_000_000), Effect.APPLY] = None
    """a bot that has run so many is replaced, when it is idle; unset: never"""
    image: Annotated[Image | None, Effect.ROLLOUT] = None
    """the bot's image; unset: the operator's own version when the fleet is made"""
    action_image: Annotated[Image | None, Effect.ROLLOUT] = None
    """the environment of actions: any image, for example a toolchain without Python, into which the bot is
    brought; unset: the bot's own image"""
    image_pull_policy: Annotated[Literal["Always", "IfNotPresent", "Never"], Effect.ROLLOUT] = "IfNotPresent"
    """when nodes pull images"""
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...], Items(16, 0, "map", "name"), Effect.ROLLOUT
    ] = ()
    """Secrets with which nodes pull images"""
    resources: Annotated[ResourceRequirements, Effect.ROLLOUT] = ResourceRequirements()
    """what a bot asks for, and what it and its actions may use. The bot keeps its cache below 70 % of
    limits.ephemeral-storage"""
    cache_size: Annotated[int, Quantity("100Mi"), Effect.ROLLOUT] = 10 * _GIB
    """of inputs on a bot's disk, where no limits.ephemeral-storage bounds it"""
    sandbox: Annotated[Sandbox, Effect.ROLLOUT] = Sandbox()
    """how actions are kept apart"""
    priority_class_name: Annotated[ObjectName | None, Effect.ROLLOUT] = None
    """of the pods; one that is preempted has its actions run elsewhere, and counted"""
    termination_grace_period: Annotated[timedelta | None, Duration("30s", "168h"), Effect.ROLLOUT] = None
    """how long a pod that is ended by somebody else may finish its actions; unset: as long as the Scheduler
    lets an action run, and two minutes"""
    pod_template: Annotated[PodTemplate | None, Effect.ROLLOUT] = None
    """changes to the pods"""
    service_account: Annotated[BotServiceAccount, Effect.APPLY] = BotServiceAccount()
    """the ServiceAccount of the pods"""
    rollout: Annotated[Rollout, Effect.APPLY] = Rollout()
    """how a new template reaches the bots"""
    drain: Annotated[Drain, Effect.APPLY] = Drain()
    """how long bots may finish what they have"""
    startup: Annotated[Startup, Effect.APPLY] = Startup()
    """how long pods may take to come up"""

    rules = (
        Rule(
            cel="self.scaling.mode != 'External' || has(self.replicas)",
            message="must be set where scaling.mode is External: an autoscaler begins with what it finds; "
            "set it, for example to scaling.minBots, or use mode Auto",
            check=lambda spec: spec.scaling.mode != "External" or spec.replicas is not None,
            field="replicas",
            reason="FieldValueRequired",
        ),
        _no_pair_twice("properties", lambda spec: spec.properties),
        _no_pair_twice("workerProperties", lambda spec: spec.worker_properties),
    )
    transitions = (
        Transition(
            cel="self.schedulerRef == oldSelf.schedulerRef",
            message="cannot be changed: its bots have actions of that Scheduler; make a new BotFleet",
            check=lambda new, old: new.scheduler_ref == old.scheduler_ref,
            field="schedulerRef",
        ),
        immutable(
            "instance", "cannot be changed: its bots have actions of that instance; make a new BotFleet"
        ),
    )


@dataclass(frozen=True, slots=True)
class BotFleet(Resource[BotFleetSpec, BotFleetStatus]):
    """One pool of bot pods, which grows when actions wait and shrinks when bots idle."""

    names = Names("BotFleet", "botfleets", "bgf")
    description = (
        "A BotFleet is one pool of bot pods that work for a Scheduler. It grows when actions wait for bots, "
        "and shrinks when bots idle; no running action is ended for it."
    )
    spec_model = BotFleetSpec
    status_model = BotFleetStatus
    scale = Scale(".spec.replicas", ".status.replicas", ".status.selector")
    columns = (
        Column("Desired", ".status.desiredBots", "bots that there should be", "integer"),
        Column("Ready", ".status.readyBots", "bots with a session", "integer"),
        Column("Idle", ".status.idleBots", "bots without an action", "integer"),
        Column("Busy", ".status.busyBots", "bots with an action", "integer"),
        Column("Draining", ".status.drainingBots", "bots that finish what they have, and go", "integer"),
        Column("Queued", ".status.queuedJobs", "waiting jobs that its bots could take", "integer"),
        Column("Oldest", ".status.oldestQueuedTime", "how long the oldest of them waits", "date"),
        Column("Age", ".metadata.creationTimestamp", "time since it was made", "date"),
        Column("Scheduler", ".spec.schedulerRef.name", "whom the bots work for", wide=True),
        Column("Starting", ".status.startingBots", "pods without a session yet", "integer", wide=True),
        Column("Updated", ".status.updatedBots", "pods of the newest template", "integer", wide=True),
        Column("Max", ".spec.scaling.maxBots", "never more pods", "integer", wide=True),
        Column("Decision", ".status.lastDecision.message", "the latest change, and why", wide=True),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "what to do next", wide=True),
    )
    name_rule = Rule(
        cel=f"self.metadata.name.matches(r'{NAME_PATTERN}')",
        message=(
            "must have 40 characters or less: a letter first, then lower case letters, digits "
            "and -; pods are named after it"
        ),
        field="metadata.name",
        check=lambda name: re.fullmatch(NAME_PATTERN, name) is not None,
    )
