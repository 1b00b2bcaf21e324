"""Inputs of the tests: BotFleets of many kinds, and the Schedulers that they work for."""

from typing import Any

from buildgrid_operator.api import BotFleet
from buildgrid_operator.api.resource import API_VERSION
from buildgrid_operator.desired import Settings
from buildgrid_operator.desired.bots import FleetInputs

from tests.unit.operator.desired import cases
from tests.unit.operator.desired.cases import NAMESPACE, changed, scheduler

Json = dict[str, Any]

UID = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
CLUSTER_UID = "0b0c6b0e-9d5e-4f7a-8b5e-2f1d3c4b5a69"
IMAGE = "ghcr.io/example/buildgrid-bot:1.2.3"
BOTS_MAY = [{"identities": [{"serviceAccount": "farm/*-bots"}], "rights": ["RunBots"]}]
TOKENS = {"kubernetes": {"audience": "builds"}, "policy": BOTS_MAY}
OWN_CA = {"secretName": "server-tls", "caConfigMapRef": {"name": "internal-ca", "key": "root.pem"}}
CERTIFICATES = {**OWN_CA, "clientCaSecretRef": {"name": "client-ca"}}


def fleet(name: str = "linux", **spec: Any) -> Json:
    """The smallest good BotFleet, with more in its spec."""
    metadata = {"name": name, "namespace": NAMESPACE, "uid": UID}
    spec = {"schedulerRef": {"name": "main"}, **spec}
    return {"apiVersion": API_VERSION, "kind": "BotFleet", "metadata": metadata, "spec": spec}


def fleet_inputs(
    obj: Json, owner: Json | None = None, *, settings: Settings = cases.SETTINGS, image: str = IMAGE
) -> FleetInputs:
    """The inputs for a BotFleet of the Scheduler `owner`, the smallest one if unset."""
    found = cases.inputs(scheduler() if owner is None else owner).scheduler
    return FleetInputs(BotFleet.parse(obj), found, image, settings, CLUSTER_UID)


FULL = fleet(
    "toolchain",
    instance="team/a",
    properties=[
        {"key": "OSFamily", "value": "linux"},
        {"key": "ISA", "value": "aarch64"},
        {"key": "Pool", "value": "gcc-$(HOME)"},
    ],
    workerProperties=[{"key": "rack", "value": "7"}],
    slotsPerBot=4,
    capacityClass="spot",
    actionImage="registry.example.org/toolchain:12",
    imagePullPolicy="Always",
    imagePullSecrets=[{"name": "registry"}],
    resources={
        "requests": {"cpu": 4, "memory": "8Gi"},
        "limits": {"memory": "8Gi", "ephemeral-storage": "100Gi"},
    },
    sandbox={"type": "UserNamespace", "seccompProfile": "profiles/buildgrid.json"},
    priorityClassName="builds",
    terminationGracePeriod="1h",
    serviceAccount={"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/bots"}},
    podTemplate={
        "metadata": {"labels": {"team": "builds"}},
        "spec": {
            "nodeSelector": {"pool": "builds"},
            "tolerations": [{"key": "builds", "operator": "Exists"}],
            "containers": [{"name": "bot", "env": [{"name": "BUILDGRID_BOT_LOG_LEVEL", "value": "debug"}]}],
        },
    },
)
"""Nearly everything is set."""

CASES: dict[str, FleetInputs] = {
    "minimal": fleet_inputs(fleet()),
    "full": fleet_inputs(
        FULL, scheduler("main", instances=["", "team/a"], tls=OWN_CA, auth=TOKENS, networkPolicy={})
    ),
    "tokens": fleet_inputs(fleet(), scheduler(auth=TOKENS)),
    "log-streams": fleet_inputs(
        fleet(sandbox={"type": "RuntimeClass", "runtimeClassName": "gvisor"}, cacheSize="1Gi"),
        scheduler(
            logStreams={"endpoint": "grpc://logs:50051"},
            storage={"remote": {"endpoint": "grpc://cas:50051"}},
            networkPolicy={"enabled": False},
        ),
    ),
    "another-namespace": fleet_inputs(
        changed(fleet("visitor"), {"metadata.namespace": "ci", "spec.schedulerRef.namespace": NAMESPACE}),
        scheduler(allowedFleetNamespaces=["ci"]),
    ),
}
"""By the name of the golden file."""
