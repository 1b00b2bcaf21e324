"""BotFleets that are good."""

from typing import Any

from buildgrid_operator.api.resource import API_VERSION

from tests.cluster.api.objects import Json


def fleet(name: str = "linux", **spec: Any) -> Json:
    """The smallest good BotFleet, with more in its spec."""
    spec = {"schedulerRef": {"name": "main"}, **spec}
    return {"apiVersion": API_VERSION, "kind": "BotFleet", "metadata": {"name": name}, "spec": spec}


FULL_FLEET = fleet(
    "full",
    schedulerRef={"name": "main", "namespace": "builds"},
    instance="team/a",
    replicas=8,
    scaling={
        "mode": "External",
        "minBots": 2,
        "maxBots": 200,
        "warmBots": 3,
        "targetWait": "1m",
        "idleTimeout": "10m",
        "scaleUp": {
            "stabilizationWindow": "15s",
            "policies": [
                {"type": "Bots", "value": 40, "period": "30s"},
                {"type": "Percent", "value": 100},
            ],
        },
        "scaleDown": {
            "stabilizationWindow": "5m",
            "policies": [{"type": "Percent", "value": 10, "period": "1m"}],
            "selectPolicy": "Min",
        },
        "schedules": [
            {"start": "0 7 * * 1-5", "duration": "11h", "timeZone": "Europe/Berlin", "minBots": 50},
            {"start": "*/30 0,12 LW JAN mon#1", "duration": "20m", "timeZone": "Etc/GMT+5", "minBots": 1},
        ],
        "priority": -10,
        "cost": 31,
        "paused": False,
        "pausedScaleIn": True,
        "pausedScaleOut": False,
        "dryRun": True,
        "fallback": {"bots": 20},
    },
    properties=[
        {"key": "OSFamily", "value": "linux"},
        {"key": "ISA", "value": "aarch64"},
        {"key": "tool", "value": "gcc"},
        {"key": "tool", "value": "clang=18"},
    ],
    workerProperties=[{"key": "rack", "value": ""}],
    slotsPerBot=8,
    capacityClass="spot",
    maxActionsPerBot=1000,
    image="ghcr.io/example/bot:1.2.3",
    actionImage="docker.io/library/gcc:14@sha256:" + "a" * 64,
    imagePullPolicy="Always",
    imagePullSecrets=[{"name": "registry"}],
    resources={
        "requests": {"cpu": 8, "memory": "16Gi"},
        "limits": {"memory": "16Gi", "ephemeral-storage": "100Gi"},
    },
    cacheSize="40Gi",
    sandbox={"type": "RuntimeClass", "runtimeClassName": "gvisor", "seccompProfile": "profiles/bot..1.json"},
    priorityClassName="batch",
    terminationGracePeriod="3h",
    podTemplate={"metadata": {"labels": {"team": "a"}}, "spec": {"nodeSelector": {"pool": "builds"}}},
    serviceAccount={"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/bots"}},
    rollout={"maxSurge": 5, "maxUnavailable": 2},
    drain={"timeout": "4h"},
    startup={"timeout": "20m"},
)
"""A good BotFleet in which every field is set."""

GOOD_FLEETS: dict[str, Json] = {
    "the smallest BotFleet": fleet(),
    "a BotFleet with everything": FULL_FLEET,
    "a fleet that follows an autoscaler": fleet("external", replicas=0, scaling={"mode": "External"}),
    "a fleet that is pinned above its bounds": fleet("pinned", replicas=500, scaling={"maxBots": 4}),
    "a fleet without bots": fleet("none", scaling={"maxBots": 0}),
    "a fleet that grows by whole bots": fleet(
        "rates",
        scaling={"scaleUp": {"selectPolicy": "Min", "policies": [{"type": "Bots", "value": 1}]}},
    ),
    "a fleet that never grows": fleet(
        "disabled",
        scaling={"scaleUp": {"selectPolicy": "Disabled", "policies": [{"type": "Percent", "value": 1}]}},
    ),
    "a paused fleet that lets nothing go": fleet("paused", scaling={"paused": True, "pausedScaleIn": True}),
    "root that is nobody": fleet("rootless", sandbox={"type": "UserNamespace"}),
    "a fleet of nulls": fleet("nulls", replicas=None, scaling=None, instance=None),
}
"""BotFleets that must be accepted."""
