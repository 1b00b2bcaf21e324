"""Values that several objects hold: names, references, amounts of resources."""

from typing import Annotated, Any

from pydantic import Field

from buildgrid_operator.api.model import ApiModel, Config
from buildgrid_operator.api.rules import Rule
from buildgrid_operator.api.shapes import Amount, AnyObject, Entries, Text

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"

DnsLabel = Annotated[
    str, Text(63, 1, rf"^{_LABEL}$", "must be lower case letters, digits and -, not - at its ends")
]
"""The name of a namespace or a port, for example."""
ObjectName = Annotated[
    str,
    Text(
        253,
        1,
        rf"^{_LABEL}(\.{_LABEL})*$",
        "must be an object's name: lower case letters, digits, - and .",
    ),
]
HostName = Annotated[
    str,
    Text(
        253,
        1,
        rf"^(\*\.)?{_LABEL}(\.{_LABEL})*$",
        "must be a host such as build.example.org, in lower case",
    ),
]
SecretKey = Annotated[
    str, Text(253, 1, r"^[-._a-zA-Z0-9]+$", "must be a key of a Secret: letters, digits, -, _ and .")
]
Image = Annotated[
    str,
    Text(
        512,
        1,
        r"^[a-zA-Z0-9][-a-zA-Z0-9._/:]*(@sha256:[a-f0-9]{64})?$",
        "must be an image, for example ghcr.io/example/buildgrid:1.2, or with @sha256: and its digest",
    ),
]
InstanceName = Annotated[
    str,
    Text(
        255,
        0,
        r"^([^/\s]+(/[^/\s]+)*)?$",
        "must be an instance name: segments joined by /, none of them empty, without spaces",
    ),
]
"""May be empty. REAPI's keywords are refused where instances are served (see `INSTANCE_KEYWORDS`)."""
GrpcEndpoint = Annotated[
    str,
    Text(
        512,
        1,
        r"^grpcs?://(\[[0-9A-Fa-f:.]+\]|[^\s/:?#\[\]]+):[0-9]{1,5}/?$",
        "must be grpc://HOST:PORT, or grpcs://HOST:PORT for TLS",
    ),
]
HttpUrl = Annotated[
    str, Text(1024, 1, r"^https?://[^/\s]+(/\S*)?$", "must be a URL, for example https://build.example.org")
]
ShortText = Annotated[str, Text(255, 1)]
Labels = Annotated[dict[str, Annotated[str, Text(63)]], Entries(64)]
Annotations = Annotated[dict[str, Annotated[str, Text(4096)]], Entries(64)]
Amounts = Annotated[dict[str, Annotated[int | str, Amount()]], Entries(16)]

INSTANCE_KEYWORDS = (
    "blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs",
)  # fmt: skip
"""No segment of an instance name that is served (REAPI, resource names)."""


class SecretKeyRef(ApiModel):
    """A key of a Secret in the same namespace. It is mounted as a file, and never copied."""

    name: ObjectName
    """name of the Secret"""
    key: SecretKey
    """which of its keys"""


class CaSecretKeyRef(ApiModel):
    """A key of a Secret in the same namespace that holds certificates to trust, PEM."""

    name: ObjectName
    """name of the Secret"""
    key: SecretKey = "ca.crt"
    """which of its keys"""


class ConfigMapKeyRef(ApiModel):
    """A key of a ConfigMap in the same namespace. It is mounted as a file."""

    name: ObjectName
    """name of the ConfigMap"""
    key: SecretKey
    """which of its keys"""


class LocalObjectReference(ApiModel):
    """An object in the same namespace."""

    name: ObjectName
    """its name"""


class ResourceRequirements(ApiModel):
    """What a container asks for, and what it may use."""

    requests: Amounts = Field(default_factory=dict)
    """what is set aside for it, for example `cpu: 500m`, `memory: 1Gi`"""
    limits: Amounts = Field(default_factory=dict)
    """what it may use at most; more memory ends it"""


Overlay = Annotated[dict[str, Any], AnyObject()]


class PodTemplate(ApiModel):
    """Changes to the pods: a strategic merge patch of the pod template that the operator makes.

    What is written here is merged by the API server's rules for pods: containers, volumes and env by name.
    It may not set hostPath, privileged, host namespaces or another ServiceAccount unless the operator allows
    it.
    """

    metadata: Overlay | None = None
    """labels and annotations to add"""
    spec: Overlay | None = None
    """a partial PodSpec, for example nodeSelector, tolerations, priorityClassName, or containers by name"""


class ClientTls(ApiModel):
    """How a connection to another server is encrypted. Files are read again when the Secret changes."""

    ca_secret_ref: Annotated[CaSecretKeyRef | None, Config("ca_file")] = None
    """whom to believe, PEM; unset: whom the system believes"""
    client_certificate_secret_name: Annotated[
        ObjectName | None, Config("client_certificate_file", "client_key_file")
    ] = None
    """what to show: a Secret of type kubernetes.io/tls, with tls.crt and tls.key"""


class RemoteServer(ApiModel):
    """Another server that is called by gRPC, and how to get into it."""

    endpoint: Annotated[GrpcEndpoint, Config("endpoint")]
    """grpc://HOST:PORT, or grpcs://HOST:PORT for TLS"""
    tls: ClientTls | None = None
    """certificates, for a grpcs:// endpoint; unset: those that the system believes"""
    token_secret_ref: Annotated[SecretKeyRef | None, Config("token_file")] = None
    """a bearer token that each call carries; also without TLS, for meshes that encrypt"""

    rules = (
        Rule(
            cel="!has(self.tls) || self.endpoint.startsWith('grpcs://')",
            message="must be grpcs://HOST:PORT where tls is set; change it, or remove tls",
            check=lambda server: server.tls is None or server.endpoint.startswith("grpcs://"),
            field="endpoint",
        ),
    )
