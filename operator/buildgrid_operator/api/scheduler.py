"""`Scheduler`: one deployment of the scheduler, with all that belongs to it."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from buildgrid_operator.api.auth import Auth, Tls
from buildgrid_operator.api.durations import Duration
from buildgrid_operator.api.integrations import Assets, LogStreams, Metering
from buildgrid_operator.api.jobs import Assignment, Bots, Jobs
from buildgrid_operator.api.model import ApiModel, Config, Effect, Unwritten
from buildgrid_operator.api.network import Grpc, GrpcRoute, Ingress, Monitoring, NetworkPolicy, Service
from buildgrid_operator.api.resource import Column, Names, Resource
from buildgrid_operator.api.rules import Rule, Transition
from buildgrid_operator.api.shapes import Entries, Flag, Items, Range, Text
from buildgrid_operator.api.status import SchedulerStatus
from buildgrid_operator.api.storage import ActionCache, ManagedStorage, Storage
from buildgrid_operator.api.types import (
    INSTANCE_KEYWORDS,
    Annotations,
    Image,
    InstanceName,
    LocalObjectReference,
    PodTemplate,
    ResourceRequirements,
    SecretKeyRef,
)

NAME_PATTERN = r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$"
"""Services are named after it, with a suffix."""
_LOGGER = r"^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*$"
FleetNamespace = Annotated[
    str,
    Text(63, 1, r"^(\*|[a-z0-9]([-a-z0-9]*[a-z0-9])?)$", "must be the name of a namespace, or * for all"),
]
LogLevel = Literal["Debug", "Info", "Warning", "Error"]


class Database(ApiModel):
    """Where the PostgreSQL is. Secrets are read again for each new connection, so none rolls the pods."""

    url_secret_ref: Annotated[SecretKeyRef, Config("database.url_file")]
    """postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE"""
    password_secret_ref: Annotated[SecretKeyRef | None, Config("database.password_file")] = None
    """the password alone; it takes the place of the URL's"""
    read_url_secret_ref: Annotated[SecretKeyRef | None, Config("database.read_url_file")] = None
    """where lists and numbers are read, for example a replica of the database; unset: as urlSecretRef"""
    notify_url_secret_ref: Annotated[SecretKeyRef | None, Config("database.notify_url_file")] = None
    """where LISTEN works, for a URL that leads through a pooler; unset: as urlSecretRef"""
    pool_size: Annotated[int, Range(1, 100), Config("database.pool_size")] = 5
    """connections of each replica for what is rare; the hot path has three of its own, and listening one"""


class Logging(ApiModel):
    """The log, on standard error, an event a line."""

    format: Annotated[Literal["Text", "Json"], Config("logging.format")] = "Json"
    """Text for people, Json for collectors"""
    level: Annotated[LogLevel, Config("logging.level")] = "Info"
    """what is less important is not logged"""
    loggers: Annotated[dict[str, LogLevel], Entries(64), Config("logging.loggers")] = Field(
        default_factory=dict
    )
    """levels of parts of the program, for example `buildgrid_scheduler.storage: Debug`"""

    rules = (
        Rule(
            cel=f"self.loggers.all(name, name.matches(r'{_LOGGER}'))",
            message="has a key that is not a logger's name; write one such as buildgrid_scheduler.engine",
            check=lambda logging: all(re.fullmatch(_LOGGER, name) for name in logging.loggers),
            field="loggers",
        ),
    )


class ServiceAccount(ApiModel):
    """The ServiceAccount of the pods, which the operator makes."""

    annotations: Annotations = Field(default_factory=dict)
    """for the identity that a cloud gives to the pods, for example eks.amazonaws.com/role-arn"""


class Shutdown(ApiModel):
    """What happens when a pod ends."""

    grace: Annotated[timedelta, Duration("0s", "1m"), Config("shutdown.grace")] = timedelta(seconds=20)
    """running calls may end within this time; waiting ones are sent to another replica at once"""


class Deletion(ApiModel):
    """What happens when the Scheduler is deleted."""

    drain: Flag = False
    """whether deletion waits until no job waits or executes; new jobs are refused meanwhile"""
    drain_timeout: Annotated[timedelta, Duration("1s", "24h")] = timedelta(minutes=30)
    """after this it is deleted all the same"""


class PropertySetReference(LocalObjectReference):
    """A PropertySet in the same namespace."""


def _served(name: str) -> bool:
    return not set(name.split("/")) & set(INSTANCE_KEYWORDS)


class SchedulerSpec(ApiModel):
    """What is to run."""

    image: Annotated[Image | None, Effect.ROLLOUT] = None
    """image of the scheduler; unset: the operator's own version when it is made (see upgradePolicy)"""
    image_pull_policy: Annotated[Literal["Always", "IfNotPresent", "Never"], Effect.ROLLOUT] = "IfNotPresent"
    """when nodes pull images"""
    image_pull_secrets: Annotated[
        tuple[LocalObjectReference, ...], Items(16, 0, "map", "name"), Effect.ROLLOUT
    ] = ()
    """Secrets with which nodes pull images"""
    upgrade_policy: Annotated[Literal["Manual", "Automatic"], Effect.APPLY] = "Manual"
    """Automatic: where image is unset, pods follow the operator's version, one Scheduler after the other.
    Manual: they keep the version that they were made with until image is set"""
    replicas: Annotated[int, Range(1, 100), Effect.APPLY] = 1
    """number of pods; they share all state through the database"""
    resources: Annotated[ResourceRequirements, Effect.ROLLOUT] = ResourceRequirements()
    """what the scheduler's container asks for, and what it may use"""
    pod_template: Annotated[PodTemplate | None, Effect.ROLLOUT] = None
    """changes to the pods"""
    service_account: Annotated[ServiceAccount, Effect.APPLY] = ServiceAccount()
    """the ServiceAccount of the pods"""
    instances: Annotated[
        tuple[InstanceName, ...], Items(64, 1, "set"), Config("instances"), Effect.ROLLOUT
    ] = ("",)
    """instance names that are served; may hold slashes, and one may be empty"""
    database: Annotated[Database, Effect.ROLLOUT]
    """the PostgreSQL"""
    storage: Annotated[Storage, Unwritten(), Effect.ROLLOUT] = Storage(managed=ManagedStorage())
    """where blobs (the CAS) are kept; unset: managed, with its defaults"""
    action_cache: Annotated[ActionCache, Effect.ROLLOUT] = ActionCache()
    """results of actions"""
    property_set_ref: Annotated[PropertySetReference | None, Effect.RELOAD] = None
    """the PropertySet; unset: the keys OSFamily, ISA, Pool and container-image"""
    jobs: Annotated[Jobs, Effect.RELOAD] = Jobs()
    """how long jobs may take, how often they are tried, and when they are forgotten"""
    assignment: Annotated[Assignment, Effect.RELOAD] = Assignment()
    """which job goes to which bot"""
    bots: Annotated[Bots, Effect.RELOAD] = Bots()
    """when bots count as gone"""
    auth: Annotated[Auth | None, Effect.ROLLOUT] = None
    """who calls, and what they may do; unset: everybody may do everything"""
    tls: Annotated[Tls | None, Effect.ROLLOUT] = None
    """the server's certificate; unset: unencrypted, for trusted networks and proxies that end TLS"""
    assets: Annotated[Assets | None, Config("assets"), Effect.ROLLOUT] = None
    """what the scheduler needs is kept in the CAS through a Remote Asset service; unset: nothing is"""
    log_streams: Annotated[LogStreams | None, Config("log_streams"), Effect.ROLLOUT] = None
    """output of running actions is streamed through a Remote Log Stream service; unset: it is not"""
    metering: Annotated[Metering | None, Config("metering"), Effect.ROLLOUT] = None
    """usage is reported to a metering service, which may throttle clients; unset: it is not"""
    grpc: Annotated[Grpc, Effect.ROLLOUT] = Grpc()
    """the gRPC server"""
    service: Annotated[Service, Effect.APPLY] = Service()
    """the Service of the gRPC endpoint"""
    grpc_route: Annotated[GrpcRoute | None, Effect.APPLY] = None
    """make a GRPCRoute of the Gateway API"""
    ingress: Annotated[Ingress | None, Effect.APPLY] = None
    """make an Ingress"""
    network_policy: Annotated[NetworkPolicy, Effect.APPLY] = NetworkPolicy()
    """who may open connections to the pods"""
    monitoring: Annotated[Monitoring, Effect.APPLY] = Monitoring()
    """metrics over HTTP"""
    logging: Annotated[Logging, Effect.RELOAD] = Logging()
    """the log"""
    shutdown: Annotated[Shutdown, Effect.ROLLOUT] = Shutdown()
    """what happens when a pod ends"""
    deletion: Annotated[Deletion, Effect.APPLY] = Deletion()
    """what happens when the Scheduler is deleted"""
    allowed_fleet_namespaces: Annotated[tuple[FleetNamespace, ...], Items(64, 0, "set"), Effect.APPLY] = ()
    """other namespaces whose BotFleets may refer to this Scheduler; `*`: all"""

    rules = (
        Rule(
            cel="self.upgradePolicy == 'Manual' || !has(self.image)",
            message="Automatic follows the operator's version; unset image, or use Manual",
            check=lambda spec: spec.upgrade_policy == "Manual" or spec.image is None,
            field="upgradePolicy",
        ),
        Rule(
            cel="self.instances.all(name, name.split('/').all(part, !(part in ["
            + ", ".join(f"'{word}'" for word in INSTANCE_KEYWORDS)
            + "])))",
            message=f"no segment of a name may be {', '.join(INSTANCE_KEYWORDS)} (REAPI); choose another",
            check=lambda spec: all(_served(name) for name in spec.instances),
            field="instances",
        ),
        Rule(
            cel="!has(self.auth) || !has(self.auth.mtls) || "
            "(has(self.tls) && has(self.tls.clientCaSecretRef))",
            message="needs tls.clientCaSecretRef: without it nobody is asked for a certificate",
            check=lambda spec: (
                spec.auth is None
                or spec.auth.mtls is None
                or (spec.tls is not None and spec.tls.client_ca_secret_ref is not None)
            ),
            field="auth.mtls",
        ),
        Rule(
            cel="!('*' in self.allowedFleetNamespaces) || self.allowedFleetNamespaces.size() == 1",
            message="* is all namespaces; remove it, or the others",
            check=lambda spec: (
                "*" not in spec.allowed_fleet_namespaces or len(spec.allowed_fleet_namespaces) == 1
            ),
            field="allowedFleetNamespaces",
        ),
    )
    transitions = (
        Transition(
            cel="has(self.storage) || !has(oldSelf.storage)",
            message="cannot be unset: its defaults may not fit the volume; write which storage it is",
            check=lambda new, old: "storage" in new.model_fields_set or "storage" not in old.model_fields_set,
            field="storage",
        ),
    )


@dataclass(frozen=True, slots=True)
class Scheduler(Resource[SchedulerSpec, SchedulerStatus]):
    """One deployment of the scheduler, with all that belongs to it."""

    names = Names("Scheduler", "schedulers", "bgs")
    description = (
        "A Scheduler is one deployment of the remote execution scheduler: its pods, configuration, storage, "
        "Services and policies. It needs a PostgreSQL, which spec.database names."
    )
    spec_model = SchedulerSpec
    status_model = SchedulerStatus
    columns = (
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status', "whether it serves"),
        Column(
            "Config",
            '.status.conditions[?(@.type=="ConfigApplied")].status',
            "whether it is in force",
        ),
        Column("Replicas", ".spec.replicas", "pods that are wanted", "integer"),
        Column("Serving", ".status.readyReplicas", "pods that serve", "integer"),
        Column("Queued", ".status.queuedJobs", "jobs that wait for a bot", "integer"),
        Column("Executing", ".status.executingJobs", "jobs that bots work at", "integer"),
        Column("Oldest", ".status.oldestQueuedTime", "how long the oldest job waits", "date"),
        Column("Bots", ".status.connectedBots", "bots with a session", "integer"),
        Column("Endpoint", ".status.endpoints.scheduler", "where clients reach it", wide=True),
        Column("Image", ".status.image", "the scheduler's image", wide=True),
        Column("Message", '.status.conditions[?(@.type=="Ready")].message', "what to do next", wide=True),
        Column("Age", ".metadata.creationTimestamp", "time since it was made", "date"),
    )
    name_rule = Rule(
        cel=f"self.metadata.name.matches(r'{NAME_PATTERN}')",
        message=(
            "must have 40 characters or less: a letter first, then lower case letters, digits "
            "and -; Services are named after it"
        ),
        field="metadata.name",
        check=lambda name: re.fullmatch(NAME_PATTERN, name) is not None,
    )
