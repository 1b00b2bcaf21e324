"""Everything that should exist for a Scheduler, in the order in which it is applied."""

from collections.abc import Iterator
from dataclasses import dataclass

from buildgrid_operator.api.problems import Problem
from buildgrid_operator.api.status import Endpoints
from buildgrid_operator.desired import grpc_route, names, service_monitor
from buildgrid_operator.desired.auth import checks_operator, plain_text_notices
from buildgrid_operator.desired.config import scheduler_config, storage_config
from buildgrid_operator.desired.config_map import config_map, jwks
from buildgrid_operator.desired.deployment import deployment
from buildgrid_operator.desired.disruption_budget import disruption_budget
from buildgrid_operator.desired.endpoints import endpoints
from buildgrid_operator.desired.ingress import ingress
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json
from buildgrid_operator.desired.network_policy import scheduler_policy, storage_policy
from buildgrid_operator.desired.rollout import scheduler_template_hash, storage_template_hash
from buildgrid_operator.desired.service_account import scheduler_account, storage_account
from buildgrid_operator.desired.services import admin_service, bots_service, grpc_service, storage_service
from buildgrid_operator.desired.storage import stateful_set, volume_claim

KINDS = (
    ("v1", "ServiceAccount"),
    ("v1", "ConfigMap"),
    ("v1", "PersistentVolumeClaim"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("apps/v1", "StatefulSet"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("networking.k8s.io/v1", "Ingress"),
    (grpc_route.API_VERSION, "GRPCRoute"),
    (service_monitor.API_VERSION, "ServiceMonitor"),
)
"""apiVersion and kind of whatever may be made, to look for what is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """All objects of a Scheduler, and what is told about them."""

    objects: tuple[Json, ...]
    """in the order in which they are applied: whatever is mounted or named comes before what does so"""
    config_text: str
    config_hash: str
    """what each replica should report"""
    template_hash: str
    """of what rolls the replicas"""
    endpoints: Endpoints
    notices: tuple[Problem, ...] = ()
    """what to mend, though all else is there: what cannot be made in this cluster, tokens without TLS"""


def build(inputs: Inputs) -> Bundle:
    """Raises InvalidSpec with what is wrong with the spec where that shows only here."""
    notices = list(plain_text_notices(inputs.spec))
    config, template_hash = scheduler_config(inputs), scheduler_template_hash(inputs)
    objects = [
        scheduler_account(inputs),
        *_policies(inputs),
        *([jwks(inputs)] if checks_operator(inputs.spec) else []),
        config_map(inputs, config, names.SCHEDULER),
        *_storage(inputs),
        grpc_service(inputs),
        bots_service(inputs),
        admin_service(inputs),
        deployment(inputs, config, template_hash),
        disruption_budget(inputs),
        ingress(inputs),
        _if_known(
            grpc_route.grpc_route(inputs),
            inputs.settings.has_gateway_api,
            Problem(
                "spec.grpcRoute", "the cluster knows no GRPCRoute; install the Gateway API, or remove it"
            ),
            notices,
        ),
        _if_known(
            service_monitor.service_monitor(inputs),
            inputs.settings.has_service_monitor,
            Problem(
                "spec.monitoring.serviceMonitor",
                "the cluster knows no ServiceMonitor; install the Prometheus operator, or remove it",
            ),
            notices,
        ),
    ]
    return Bundle(
        objects=tuple(obj for obj in objects if obj is not None),
        config_text=config.text,
        config_hash=config.hash,
        template_hash=template_hash,
        endpoints=endpoints(inputs),
        notices=tuple(notices),
    )


def _policies(inputs: Inputs) -> Iterator[Json]:
    if inputs.spec.network_policy.enabled:
        yield scheduler_policy(inputs)
        if inputs.spec.storage.managed is not None:
            yield storage_policy(inputs)


def _storage(inputs: Inputs) -> Iterator[Json]:
    if inputs.spec.storage.managed is not None:
        config = storage_config(inputs)
        yield storage_account(inputs)
        yield config_map(inputs, config, names.STORAGE)
        yield volume_claim(inputs)
        yield storage_service(inputs)
        yield stateful_set(inputs, config, storage_template_hash(inputs))


def _if_known(obj: Json | None, known: bool, otherwise: Problem, notices: list[Problem]) -> Json | None:
    if obj is None or known:
        return obj
    notices.append(otherwise)
    return None
