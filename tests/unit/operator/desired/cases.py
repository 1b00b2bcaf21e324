"""Inputs of the tests: Schedulers of many kinds, in one namespace of one cluster."""

from typing import Any

from buildgrid_operator.api import PropertySet, Scheduler
from buildgrid_operator.desired import ClusterTokens, Inputs, Operator, Settings, resolve_images

from tests.cluster.api.objects import FULL, GOOD, REMOVE, Json, changed, scheduler

NAMESPACE = "farm"
UID = "5d2c0f6e-2f5c-4d2b-9d7e-0a4d8a1c7b11"
JWKS = '{"keys":[{"kty":"RSA","kid":"one","n":"AQAB","e":"AQAB"}]}'
ISSUER = "https://kubernetes.default.svc.cluster.local"
SETTINGS = Settings(
    operator=Operator("buildgrid-system", "buildgrid-operator", {"app.kubernetes.io/name": "operator"}),
    scheduler_image="ghcr.io/example/buildgrid-scheduler:1.2.3",
    has_gateway_api=True,
    has_service_monitor=True,
)
EVERYBODY = [{"identities": [{"subject": "**"}], "rights": ["Execute"]}]
BOTS = [{"identities": [{"serviceAccount": "farm/bots"}], "rights": ["RunBots"]}]
CORP = {
    "name": "corp",
    "issuer": "https://login.example.org",
    "audiences": ["builds"],
    "jwks": {"url": "https://login.example.org/keys"},
}
TLS = {"secretName": "server-tls", "clientCaSecretRef": {"name": "client-ca"}}


def inputs(obj: Json, *, settings: Settings = SETTINGS, **more: Any) -> Inputs:
    """The inputs for a Scheduler, and for the property set with static labels if it names one."""
    found = Scheduler.parse(changed(obj, {"metadata.namespace": NAMESPACE, "metadata.uid": UID}))
    images = resolve_images(found.spec, found.status, settings)
    if found.spec.property_set_ref is not None:
        more = {"property_set": PropertySet.parse(GOOD["static labels"]).spec, **more}
    return Inputs(found, images, settings, **{"tokens": ClusterTokens(ISSUER, JWKS), **more})


PRODUCTION = changed(
    FULL,
    {
        "metadata.name": "production",
        "spec.storage": {
            "managed": {
                "image": "ghcr.io/example/buildgrid-scheduler:1.1.0",
                "size": "2Ti",
                "maxBytes": "1.5Ti",
                "storageClassName": "fast",
                "retentionPolicy": "Delete",
                "resources": {"requests": {"cpu": 2, "memory": "4Gi"}},
                "podTemplate": {"spec": {"nodeSelector": {"disk": "nvme"}}},
            }
        },
        "spec.podTemplate.spec.containers": [
            {"name": "scheduler", "env": [{"name": "GRPC_TRACE", "value": "all"}]},
            {"name": "proxy", "image": "ghcr.io/example/proxy:2", "securityContext": {
                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}},
        ],
    },
)  # fmt: skip
"""Everything is set."""

CASES: dict[str, Inputs] = {
    "minimal": inputs(scheduler()),
    "production": inputs(PRODUCTION),
    "object-store": inputs(FULL),
    "remote": inputs(
        scheduler(
            "remote",
            replicas=2,
            storage={
                "remote": {
                    "endpoint": "grpcs://cas.example.org:443",
                    "tls": {"caSecretRef": {"name": "cas.ca"}, "clientCertificateSecretName": "cas-client"},
                    "tokenSecretRef": {"name": "cas-token", "key": "token"},
                    "instanceName": "main",
                    "tier": {},
                }
            },
            networkPolicy={"enabled": False},
        )
    ),
    "tokens": inputs(
        scheduler(
            "tokens",
            auth={"kubernetes": {}, "policy": BOTS},
            networkPolicy={"clients": [{"namespace": "ci"}]},
        )
    ),
    "tls-and-auth": inputs(
        scheduler("secured", tls=TLS, auth={"jwt": [CORP], "mtls": {}, "policy": EVERYBODY})
    ),
    "several-instances": inputs(scheduler("tenants", instances=["main", "team/a", "team/b"])),
}
"""By the name of the golden file."""

__all__ = ["CASES", "FULL", "PRODUCTION", "REMOVE", "SETTINGS", "changed", "inputs", "scheduler"]
