"""Where blobs are kept. Action results are in PostgreSQL in every mode."""

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from buildgrid_operator.api.durations import Duration
from buildgrid_operator.api.model import ApiModel, Config, Effect
from buildgrid_operator.api.quantities import Quantity
from buildgrid_operator.api.rules import Rule, Transition, exactly_one_of, immutable
from buildgrid_operator.api.shapes import Entries, Flag, Range, Text
from buildgrid_operator.api.types import (
    CaSecretKeyRef,
    HttpUrl,
    Image,
    InstanceName,
    ObjectName,
    PodTemplate,
    RemoteServer,
    ResourceRequirements,
    SecretKeyRef,
    ShortText,
)

_GIB = 1024**3
_OUTAGE = timedelta(minutes=5)
_SECRET_OPTIONS = (
    "secret_access_key", "session_token", "service_account_key", "account_key", "sas_key", "client_secret",
)  # fmt: skip
_FROM_SECRETS = ("access_key_id", *_SECRET_OPTIONS)


def _cel_list(words: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"'{word}'" for word in words) + "]"


class Tier(ApiModel):
    """A small disk in front of the storage, in each replica: copies of what passes cross the network once."""

    max_bytes: Annotated[int, Quantity("1Mi"), Config("max_bytes")] = 20 * _GIB
    """above this the least recently used copies go; the pod's emptyDir has room for it"""
    confirmed_for: Annotated[timedelta, Duration("0s", "24h"), Config("confirmed_for")] = timedelta(
        seconds=30
    )
    """what the storage behind has said to hold is believed for this long; 0s asks it each time"""


class ManagedStorage(ApiModel):
    """A storage server that the operator runs: a StatefulSet that serves the CAS from a volume."""

    image: Image | None = None
    """image of the storage server; unset: the operator's own version when it is made. It stays when the
    scheduler's image changes"""
    size: Annotated[int, Quantity("1Gi")] = 50 * _GIB
    """size of the volume; it can grow where the storage class allows it, and never shrink"""
    storage_class_name: ObjectName | None = None
    """storage class of the volume; unset: the cluster's default. It cannot be changed"""
    max_bytes: Annotated[int | None, Quantity("1Mi"), Config("storage.max_bytes")] = None
    """above this the least recently used blobs are evicted; unset: 90 % of size"""
    retention_policy: Literal["Retain", "Delete"] = "Retain"
    """what becomes of the volume when the Scheduler is deleted, or its storage is changed to another kind"""
    resources: ResourceRequirements = ResourceRequirements()
    """what the storage server asks for, and what it may use"""
    pod_template: PodTemplate | None = None
    """changes to its pod"""

    rules = (
        Rule(
            cel="!has(self.maxBytes) || !isQuantity(self.maxBytes) || !isQuantity(self.size) || "
            "quantity(self.maxBytes).compareTo(quantity(self.size)) <= 0",
            message="must not be more than size; make it smaller, or unset it for 90 % of size",
            check=lambda storage: storage.max_bytes is None or storage.max_bytes <= storage.size,
            field="maxBytes",
        ),
    )
    transitions = (
        Transition(
            cel="!isQuantity(self.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0",
            message="cannot shrink: volumes only grow; keep it, or make a new Scheduler",
            check=lambda new, old: new.size >= old.size,
            field="size",
        ),
        immutable(
            "storageClassName",
            "cannot be changed: the volume is made from it; keep it, or make a new Scheduler",
        ),
    )


class ObjectStore(ApiModel):
    """A bucket of S3 (or what speaks its protocol) or Google Cloud Storage, or a container of Azure."""

    url: Annotated[
        str,
        Text(
            1024,
            1,
            r"^(s3|gs|az)://[^/\s]+(/\S*)?$",
            "must be s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX] or az://CONTAINER[/PREFIX]",
        ),
        Config("url"),
    ]
    """s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX] or az://CONTAINER[/PREFIX]"""
    endpoint: Annotated[HttpUrl | None, Config("endpoint")] = None
    """URL of the service, for other stores than the providers' own, for example https://minio.example.org"""
    region: Annotated[ShortText | None, Config("region")] = None
    """of an S3 bucket, for example eu-central-1"""
    secret_refs: Annotated[dict[str, SecretKeyRef], Entries(8), Config("secret_files")] = Field(
        default_factory=dict
    )
    """secrets by name: access_key_id, secret_access_key and session_token for S3, service_account_key for
    Google, account_key, sas_key or client_secret for Azure. Without them the pod's identity counts
    (spec.serviceAccount)"""
    options: Annotated[dict[str, Annotated[str, Text(1024)]], Entries(32), Config("options")] = Field(
        default_factory=dict
    )
    """further settings of the store by name, for example virtual_hosted_style_request, account_name,
    server_side_encryption. Secrets go to secretRefs"""
    ca_secret_ref: Annotated[CaSecretKeyRef | None, Config("ca_file")] = None
    """whom to believe besides those whom the system does, PEM"""
    allow_http: Annotated[Flag, Config("allow_http")] = False
    """whether endpoint may be http://"""
    refresh_after: Annotated[
        timedelta, Duration("1h", or_zero="the bucket has no such rule"), Config("refresh_after")
    ] = timedelta(days=7)
    """blobs that are asked for are written anew when they are older than this, so that a lifecycle rule by
    age spares what is used: set the rule to twice this at least. 0s: the bucket has no such rule"""
    requests_at_once: Annotated[int, Range(1, 512), Config("requests_at_once")] = 32
    """requests at the same time for each replica"""
    tier: Annotated[Tier | None, Config("tier")] = None
    """a disk in front of it; `{}` for one with the defaults"""
    outage_tolerance: Annotated[timedelta, Duration("0s", "24h"), Config("outage_tolerance")] = _OUTAGE
    """an outage shorter than this is waited out before calls fail"""

    rules = (
        Rule(
            cel="!has(self.endpoint) || !self.endpoint.startsWith('http://') || self.allowHttp",
            message="is without TLS; use https://, or set allowHttp: true if that is meant",
            check=lambda store: store.allow_http or not (store.endpoint or "").startswith("http://"),
            field="endpoint",
        ),
        Rule(
            cel=f"self.secretRefs.all(name, name in {_cel_list(_FROM_SECRETS)})",
            message=f"has an unknown name; known are {', '.join(_FROM_SECRETS)}",
            check=lambda store: set(store.secret_refs) <= set(_FROM_SECRETS),
            field="secretRefs",
        ),
        Rule(
            cel=f"!self.options.exists(name, {_cel_list(_SECRET_OPTIONS)}.exists(word, name.endsWith(word)))",
            message="has a secret, which everybody who reads this object could see; move it to secretRefs",
            check=lambda store: not any(name.endswith(_SECRET_OPTIONS) for name in store.options),
            field="options",
            reason="FieldValueForbidden",
        ),
        Rule(
            cel="!self.options.exists(name, name in self.secretRefs)",
            message="has a name that is in secretRefs, too; keep one of the two",
            check=lambda store: not set(store.options) & set(store.secret_refs),
            field="options",
        ),
    )


class RemoteStorage(RemoteServer):
    """The CAS of another server that speaks the Remote Execution API."""

    instance_name: Annotated[InstanceName, Config("instance_name")] = ""
    """the instance there; all of ours share it"""
    compression: Annotated[Flag, Config("compression")] = True
    """send and take ZSTD where the server offers it"""
    tier: Annotated[Tier | None, Config("tier")] = None
    """a disk in front of it; `{}` for one with the defaults"""
    outage_tolerance: Annotated[timedelta, Duration("0s", "24h"), Config("outage_tolerance")] = _OUTAGE
    """an outage shorter than this is waited out before calls fail"""


class Storage(ApiModel):
    """Where blobs (the CAS) are kept: exactly one of these."""

    managed: Annotated[ManagedStorage | None, Effect.APPLY] = None
    """a storage server that the operator runs, with a volume"""
    object_store: Annotated[ObjectStore | None, Config("storage")] = None
    """a bucket"""
    remote: Annotated[RemoteStorage | None, Config("storage")] = None
    """a CAS that exists"""

    rules = (exactly_one_of("managed", "objectStore", "remote"),)


class ActionCache(ApiModel):
    """Results of actions, in the scheduler's database."""

    allow_updates: Annotated[Flag, Config("action_cache.allow_updates")] = True
    """whether clients may store results; the scheduler itself always may"""
    cache_failed_actions: Annotated[Flag, Config("scheduler.cache_failed_actions"), Effect.RELOAD] = False
    """store results with another exit code than 0, too"""
