"""How the operator was installed, as far as it decides which objects there should be."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Operator:
    """The operator's own pods, which ask the schedulers how they are."""

    namespace: str
    service_account: str
    """its tokens let it in where auth is on, see `desired.auth.operator_audience`"""
    labels: Mapping[str, str] = field(default_factory=dict)
    """which pods of the namespace are the operator's; empty: all"""


@dataclass(frozen=True, slots=True)
class Settings:
    """How the operator was installed, and what the cluster knows."""

    operator: Operator
    scheduler_image: str
    """where a spec has no image: the one of the operator's own version"""
    image_registry: str | None = None
    """in front of images that name no registry, for clusters without a way out"""
    image_pull_secrets: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    allow_privileged_pods: bool = False
    """whether pod templates may set hostPath, privileged, host namespaces and another ServiceAccount"""
    has_gateway_api: bool = False
    """whether the cluster knows GRPCRoute, gateway.networking.k8s.io/v1"""
    has_service_monitor: bool = False
    """whether the cluster knows ServiceMonitor, monitoring.coreos.com/v1"""
    bot_image: str = ""
    """where a BotFleet has no image: the one of the operator's own version; empty: there is none"""
