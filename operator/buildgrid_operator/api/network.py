"""How the scheduler is reached, and by whom."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from buildgrid_operator.api.durations import Duration, not_longer
from buildgrid_operator.api.model import ApiModel, Config, Effect
from buildgrid_operator.api.quantities import Quantity
from buildgrid_operator.api.rules import Rule, Transition, at_least_one_of
from buildgrid_operator.api.shapes import Flag, Items, Range, Text
from buildgrid_operator.api.types import Annotations, DnsLabel, HostName, Labels, ObjectName

Port = Annotated[int, Range(1, 65535)]
Cidr = Annotated[
    str, Text(64, 1, r"^[0-9A-Fa-f:.]+/[0-9]{1,3}$", "must be a range of addresses such as 10.0.0.0/8")
]
LoadBalancerClass = Annotated[
    str,
    Text(
        317,
        1,
        r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        "must be a name with an optional prefix, for example service.k8s.aws/nlb",
    ),
]
_EXPOSED = ("NodePort", "LoadBalancer")


class Service(ApiModel):
    """The Service of the gRPC endpoint, for clients and bots."""

    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """whom it is for: the cluster, or others, too"""
    port: Port = 50051
    """port of the Service"""
    node_port: Annotated[int | None, Range(1, 65535)] = None
    """port on each node; unset: the cluster chooses"""
    annotations: Annotations = Field(default_factory=dict)
    """for the provider of load balancers, for example"""
    load_balancer_class: LoadBalancerClass | None = None
    """which load balancer; unset: the cluster's default. It stays while type is
    LoadBalancer"""
    load_balancer_source_ranges: Annotated[tuple[Cidr, ...], Items(64, 0, "set")] = ()
    """addresses that the load balancer lets in; unset: all"""
    external_traffic_policy: Literal["Cluster", "Local"] | None = None
    """Local keeps callers' addresses, and balances less evenly; unset: Cluster"""

    rules = (
        Rule(
            cel="!has(self.nodePort) || self.type in ['NodePort', 'LoadBalancer']",
            message="needs type NodePort or LoadBalancer; change type, or remove it",
            check=lambda service: service.node_port is None or service.type in _EXPOSED,
            field="nodePort",
            reason="FieldValueForbidden",
        ),
        Rule(
            cel="!has(self.loadBalancerClass) || self.type == 'LoadBalancer'",
            message="needs type LoadBalancer; change type, or remove it",
            check=lambda service: service.load_balancer_class is None or service.type == "LoadBalancer",
            field="loadBalancerClass",
            reason="FieldValueForbidden",
        ),
        Rule(
            cel="self.loadBalancerSourceRanges.size() == 0 || self.type == 'LoadBalancer'",
            message="needs type LoadBalancer; change type, or remove it",
            check=lambda service: not service.load_balancer_source_ranges or service.type == "LoadBalancer",
            field="loadBalancerSourceRanges",
            reason="FieldValueForbidden",
        ),
        Rule(
            cel="!has(self.externalTrafficPolicy) || self.type in ['NodePort', 'LoadBalancer']",
            message="needs type NodePort or LoadBalancer; change type, or remove it",
            check=lambda service: service.external_traffic_policy is None or service.type in _EXPOSED,
            field="externalTrafficPolicy",
            reason="FieldValueForbidden",
        ),
    )
    transitions = (
        Transition(
            cel="self.type != 'LoadBalancer' || oldSelf.type != 'LoadBalancer' || "
            "(has(self.loadBalancerClass) == has(oldSelf.loadBalancerClass) && "
            "(!has(self.loadBalancerClass) || self.loadBalancerClass == oldSelf.loadBalancerClass))",
            message="cannot be changed: a load balancer keeps its class; keep it, or change type first",
            check=lambda new, old: (
                {new.type, old.type} != {"LoadBalancer"} or new.load_balancer_class == old.load_balancer_class
            ),
            field="loadBalancerClass",
        ),
    )


class ParentReference(ApiModel):
    """A Gateway that a route is attached to."""

    name: ObjectName
    """name of the Gateway"""
    namespace: DnsLabel | None = None
    """its namespace; unset: the Scheduler's"""
    section_name: ObjectName | None = None
    """which of its listeners; unset: all that fit"""
    port: Annotated[int | None, Range(1, 65535)] = None
    """which of its ports; unset: all that fit"""


class GrpcRoute(ApiModel):
    """A GRPCRoute of the Gateway API. The cluster needs a Gateway, and its CRDs."""

    parent_refs: Annotated[tuple[ParentReference, ...], Items(16, 1)]
    """the Gateways"""
    hostnames: Annotated[tuple[HostName, ...], Items(16, 0, "set")] = ()
    """hosts that lead here; unset: all of the listener"""
    annotations: Annotations = Field(default_factory=dict)
    """of the route"""


class Ingress(ApiModel):
    """An Ingress for an ingress controller that speaks gRPC."""

    host: HostName
    """the host that leads here"""
    class_name: ObjectName | None = None
    """ingress class; unset: the cluster's default"""
    tls_secret_name: ObjectName | None = None
    """a Secret of type kubernetes.io/tls for the host; unset: the controller's own certificate"""
    annotations: Annotations = Field(default_factory=dict)
    """for the controller, for example that the backend speaks gRPC"""


class NetworkPeer(ApiModel):
    """Callers: pods of a namespace, pods by label, or addresses."""

    namespace: DnsLabel | None = None
    """pods of this namespace; unset: of the Scheduler's own, where podLabels are set"""
    pod_labels: Labels | None = None
    """pods that carry these labels"""
    cidr: Cidr | None = None
    """addresses, for example 10.0.0.0/8"""

    rules = (
        at_least_one_of("namespace", "podLabels", "cidr", example="namespace: ci is all pods of ci"),
        Rule(
            cel="!has(self.cidr) || !(has(self.__namespace__) || has(self.podLabels))",
            message="excludes namespace and podLabels; make it a peer of its own",
            check=lambda peer: peer.cidr is None or (peer.namespace is None and peer.pod_labels is None),
            field="cidr",
            reason="FieldValueForbidden",
        ),
    )


class NetworkPolicy(ApiModel):
    """Who may open connections to the pods."""

    enabled: Flag = True
    """whether there are NetworkPolicies"""
    clients: Annotated[tuple[NetworkPeer, ...], Items(64)] = ()
    """who may reach the gRPC endpoint, besides bots of this Scheduler's fleets; unset: everybody. Metrics and
    health are for the cluster anyhow"""


class ServiceMonitor(ApiModel):
    """A ServiceMonitor for the Prometheus operator, whose CRDs the cluster needs."""

    interval: Annotated[timedelta, Duration("1s", "1h")] = timedelta(seconds=30)
    """how often the metrics are read"""
    scrape_timeout: Annotated[timedelta, Duration("1s", "1h")] = timedelta(seconds=10)
    """what reading may take"""
    labels: Labels = Field(default_factory=dict)
    """labels by which your Prometheus selects it"""

    rules = (
        not_longer(
            "scrapeTimeout",
            "interval",
            "must not be longer than interval; make it shorter, or interval longer",
        ),
    )


class Monitoring(ApiModel):
    """Metrics over HTTP."""

    service_monitor: ServiceMonitor | None = None
    """make a ServiceMonitor; `{}` for one with the defaults"""
    fleet_interval: Annotated[
        timedelta, Duration("100ms", "1h"), Config("monitoring.fleet_interval"), Effect.ROLLOUT
    ] = timedelta(seconds=10)
    """how often the numbers are read from the database that all replicas share: queue, jobs, bots"""


class Grpc(ApiModel):
    """The gRPC server."""

    max_connection_age: Annotated[timedelta, Duration("10s", "24h"), Config("grpc.max_connection_age")] = (
        timedelta(minutes=10)
    )
    """clients are told to reconnect after about this time, so that load spreads over replicas again"""
    max_connection_age_grace: Annotated[
        timedelta, Duration("1s", "24h"), Config("grpc.max_connection_age_grace")
    ] = timedelta(minutes=5)
    """calls that still run then are cut off after this"""
    max_message_size: Annotated[int, Quantity("1Mi", "1Gi"), Config("grpc.max_message_size")] = 16 * 1024**2
    """larger messages are refused, either way"""
    keepalive_time: Annotated[timedelta, Duration("1s", "1h"), Config("grpc.keepalive_time")] = timedelta(
        seconds=30
    )
    """a connection on which nothing came for this long is asked whether its client still lives"""
    keepalive_timeout: Annotated[timedelta, Duration("1s", "1h"), Config("grpc.keepalive_timeout")] = (
        timedelta(seconds=10)
    )
    """one that does not answer within this time is closed, and its calls end"""
    handshake_timeout: Annotated[timedelta, Duration("1s", "10m"), Config("grpc.handshake_timeout")] = (
        timedelta(seconds=20)
    )
    """new connections that have not finished TLS and begun HTTP/2 by then are closed"""
    storage_threads: Annotated[int, Range(1, 256), Config("grpc.storage_threads")] = 8
    """blobs that are read or written at the same time"""
    reflection: Annotated[Flag, Config("services.reflection")] = True
    """gRPC server reflection, for tools such as grpcurl"""
