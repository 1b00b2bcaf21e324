"""Objects that are good, and changing them at a path."""

import copy
import re
from typing import Any

from buildgrid_operator.api.resource import API_VERSION

Json = dict[str, Any]
REMOVE = object()


def scheduler(name: str = "main", **spec: Any) -> Json:
    """The smallest good Scheduler, with more in its spec."""
    database = {"urlSecretRef": {"name": "database", "key": "url"}}
    return _object("Scheduler", name, {"database": database, **spec})


def property_set(name: str = "main", **spec: Any) -> Json:
    """The smallest good PropertySet, or one with this spec."""
    return _object("PropertySet", name, spec or {"dynamic": {}})


def _object(kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def changed(obj: Json, changes: Json) -> Json:
    """A copy with values set at paths (`spec.auth.jwt[0].name`), or removed. Objects on the way are made."""
    result = copy.deepcopy(obj)
    for path, value in changes.items():
        *way, last = _parts(path)
        here: Any = result
        for part in way:
            here = here[part] if isinstance(part, int) else here.setdefault(part, {})
        if value is REMOVE:
            del here[last]
        else:
            here[last] = copy.deepcopy(value)
    return result


def _parts(path: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in re.split(r"\.|\[|\]\.?", path) if part]


FULL = scheduler(
    "full",
    image="ghcr.io/example/buildgrid-scheduler:1.2.3",
    imagePullPolicy="Always",
    imagePullSecrets=[{"name": "registry"}],
    replicas=3,
    resources={"requests": {"cpu": 2, "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
    podTemplate={
        "metadata": {"labels": {"team": "builds"}},
        "spec": {
            "nodeSelector": {"pool": "system"},
            "tolerations": [{"operator": "Exists"}],
        },
    },
    serviceAccount={"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/buildgrid"}},
    instances=["", "main", "team/a"],
    database={
        "urlSecretRef": {"name": "database", "key": "url"},
        "passwordSecretRef": {"name": "database", "key": "password"},
        "readUrlSecretRef": {"name": "database", "key": "read-url"},
        "notifyUrlSecretRef": {"name": "database", "key": "notify-url"},
        "poolSize": 10,
    },
    storage={
        "objectStore": {
            "url": "s3://builds/cas",
            "endpoint": "http://minio:9000",
            "allowHttp": True,
            "region": "eu-central-1",
            "secretRefs": {"access_key_id": {"name": "minio", "key": "id"}},
            "options": {"virtual_hosted_style_request": "false"},
            "caSecretRef": {"name": "minio-ca"},
            "refreshAfter": "0s",
            "tier": {"maxBytes": "100Gi", "confirmedFor": "0s"},
        }
    },
    actionCache={"cacheFailedActions": True},
    propertySetRef={"name": "linux"},
    jobs={
        "maxExecutionTimeout": "4h30m",
        "executionCheckPeriod": "0s",
        "queueTimeout": {"maxAge": "24h"},
        "pruning": {"enabled": False},
        "abandonedOperationTimeout": "0s",
        "maxQueueSize": 100000,
        "actionBrowserUrl": "https://browser.example.org",
    },
    assignment={"priorityPercentage": 90, "avoidClassFor": "0s", "period": "500ms"},
    bots={"keepaliveTimeout": "1.5m"},
    tls={
        "secretName": "server-tls",
        "clientCaSecretRef": {"name": "client-ca"},
        "caConfigMapRef": {"name": "internal-ca", "key": "root.pem"},
        "serverName": "build.example.org",
    },
    auth={
        "kubernetes": {"audience": "builds"},
        "jwt": [
            {
                "name": "corp",
                "issuer": "https://login.example.org",
                "audiences": ["builds"],
                "jwks": {
                    "url": "https://login.example.org/keys",
                    "tokenSecretRef": {"name": "corp", "key": "token"},
                },
                "claims": {"subject": ["email"]},
            },
            {
                "name": "ci",
                "issuer": "ci",
                "audiences": ["builds"],
                "secretRef": {"name": "ci", "key": "hmac"},
                "algorithms": ["HS256", "HS512"],
            },
        ],
        "mtls": {},
        "policy": [
            {"identities": [{"serviceAccount": "builds/bot"}], "rights": ["RunBots"]},
            {
                "identities": [{"issuer": "corp", "group": "developers"}],
                "instances": ["main", "team/*"],
                "rights": ["Execute"],
            },
        ],
    },
    assets={
        "endpoint": "grpcs://assets:443",
        "tls": {"caSecretRef": {"name": "ca"}, "clientCertificateSecretName": "client"},
        "queuedActionRetention": "48h",
    },
    logStreams={"endpoint": "grpc://[::1]:50051", "tokenSecretRef": {"name": "logs", "key": "token"}},
    metering={"url": "http://metering/api", "throttleAction": "Reject"},
    grpc={"maxMessageSize": "64Mi"},
    service={
        "type": "LoadBalancer",
        "port": 443,
        "annotations": {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internal"},
        "loadBalancerClass": "service.k8s.aws/nlb",
        "loadBalancerSourceRanges": ["10.0.0.0/8", "fd00::/8"],
        "externalTrafficPolicy": "Local",
    },
    grpcRoute={"parentRefs": [{"name": "gateway", "namespace": "infra"}], "hostnames": ["*.example.org"]},
    ingress={"host": "build.example.org", "className": "nginx", "tlsSecretName": "build-tls"},
    networkPolicy={"clients": [{"namespace": "ci"}, {"podLabels": {"app": "x"}}, {"cidr": "10.0.0.0/8"}]},
    monitoring={"serviceMonitor": {"labels": {"release": "prometheus"}}},
    logging={"format": "Text", "level": "Warning", "loggers": {"buildgrid_scheduler.storage": "Debug"}},
    shutdown={"grace": "30s"},
    deletion={"drain": True, "drainTimeout": "2h"},
    allowedFleetNamespaces=["team-a", "team-b"],
)
"""A good Scheduler in which nearly every field is set."""

GOOD: dict[str, Json] = {
    "the smallest Scheduler": scheduler(),
    "a Scheduler with nearly everything": FULL,
    "managed storage": scheduler(
        "managed", storage={"managed": {"size": "1.5Ti", "maxBytes": "1Ti", "storageClassName": "fast"}}
    ),
    "remote storage": scheduler(
        "remote",
        storage={"remote": {"endpoint": "grpcs://cas:443", "tls": {}, "instanceName": "main", "tier": {}}},
    ),
    "an upgrade policy": scheduler("automatic", upgradePolicy="Automatic"),
    "all namespaces": scheduler("open", allowedFleetNamespaces=["*"]),
    "nulls, which are unset": scheduler("nulls", jobs=None, replicas=None, service={"nodePort": None}),
    "another cluster's tokens": scheduler(
        "clusters",
        auth={
            "jwt": [
                {
                    "name": "other",
                    "kubernetes": True,
                    "issuer": "https://other",
                    "audiences": ["buildgrid"],
                    "jwks": {"configMapRef": {"name": "other", "key": "jwks.json"}},
                }
            ],
            "policy": [{"identities": [{"subject": "**"}], "rights": ["Administer"]}],
        },
    ),
    "the usual keys": property_set(),
    "dynamic keys": property_set(
        "dynamic",
        dynamic={
            "matchKeys": ["OSFamily", "gpu"],
            "wildcardKeys": ["owner"],
            "uniqueKeys": ["OSFamily"],
            "labelKey": "owner",
        },
    ),
    "no labels, nothing unique": property_set("unlabelled", dynamic={"uniqueKeys": [], "labelKey": ""}),
    "static labels": property_set(
        "static",
        static={
            "labels": [
                {"label": "linux", "properties": [{"key": "OSFamily", "value": "linux"}]},
                {"label": "any"},
            ],
            "wildcardKeys": ["owner"],
        },
    ),
}
"""Objects that must be accepted."""
