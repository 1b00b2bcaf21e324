"""Where blobs and action results are kept."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from buildgrid_scheduler.config.section import SECRET, FieldError, Section
from buildgrid_scheduler.config.values import ByteSize, Duration, InstanceName

_OUTAGE = timedelta(minutes=5)


def _endpoint(value: str) -> str:
    match = re.fullmatch(r"grpcs?://(?:\[[0-9A-Fa-f:.]+\]|[^\s/:?#\[\]]+):(\d{1,5})/?", value)
    if match is None or not 0 < int(match[1]) < 65536:
        raise ValueError(f"{value!r} is not grpc://HOST:PORT, or grpcs://HOST:PORT for TLS")
    return value


def _object_store_url(value: str) -> str:
    if not re.match(r"(s3|gs|az)://[^/\s]+|file:///|memory://", value):
        raise ValueError(
            f"{value!r} is not s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX] or az://CONTAINER[/PREFIX]"
        )
    return value


Endpoint = Annotated[str, AfterValidator(_endpoint)]
"""grpc://HOST:PORT, or grpcs://HOST:PORT for TLS"""
ObjectStoreUrl = Annotated[str, AfterValidator(_object_store_url)]


class RemoteServerConfig(Section):
    """Another server that speaks the Remote Execution API, and how to get into it."""

    endpoint: Endpoint
    """grpc://HOST:PORT, or grpcs://HOST:PORT for TLS"""
    ca_file: Path | None = None
    """whom to believe, PEM; unset: whom the system believes. Files are read again when they change"""
    client_certificate_file: Path | None = None
    """what to show, PEM with the chain; needs client_key_file"""
    client_key_file: Path | None = None
    """the key of client_certificate_file, PEM"""
    token_file: Path | None = None
    """a file with a bearer token that each call carries; also without TLS, for meshes that encrypt"""

    @model_validator(mode="after")
    def _credentials(self) -> "RemoteServerConfig":
        if (self.client_certificate_file is None) != (self.client_key_file is None):
            raise FieldError("client_key_file", "and client_certificate_file: set both, or none")
        files = (self.ca_file, self.client_certificate_file)
        if any(files) and not self.endpoint.startswith("grpcs://"):
            raise FieldError("endpoint", "must be grpcs://HOST:PORT where there are files for TLS")
        return self


class TierConfig(Section):
    """A small disk in front: copies of what passes, so that inputs cross the network once."""

    path: Path | None = None
    """its folder; unset: `cas-tier` in `data`"""
    max_bytes: ByteSize = 20 * 1024**3
    """above this the least recently used copies go"""
    confirmed_for: Duration = timedelta(seconds=30)
    """what the storage behind has said to hold is believed for this long; 0 asks it each time"""


class DiskStorageConfig(Section):
    """A folder of this machine. One replica, or several on one machine."""

    type: Literal["disk"] = "disk"
    """disk: the CAS is a folder"""
    path: Path | None = None
    """unset: `cas` in `data`"""
    max_bytes: ByteSize = 20 * 1024**3
    """above this the least recently used blobs are evicted"""


class MemoryStorageConfig(Section):
    """For tests: unbounded, and lost with the process."""

    type: Literal["memory"]
    """memory: the CAS is lost with the process"""


class RemoteStorageConfig(RemoteServerConfig):
    """The CAS of another server that speaks the Remote Execution API."""

    type: Literal["remote"]
    """remote: the CAS is another server's"""
    instance_name: InstanceName = ""
    """the instance there; all of ours share it"""
    compression: bool = True
    """send and take ZSTD where the server offers it"""
    tier: TierConfig | None = None
    """a disk in front of it; `{}` for one with the defaults"""
    spool_path: Path | None = None
    """folder for uploads above 1 MiB that are under way; unset: `cas-spool` in `data`"""
    outage_tolerance: Duration = _OUTAGE
    """an outage shorter than this is waited out before calls fail"""


class ObjectStorageConfig(Section):
    """A bucket of S3 (or what speaks its protocol) or Google Cloud Storage, or a container of Azure."""

    type: Literal["object-store"]
    """object-store: the CAS is objects in a bucket"""
    url: ObjectStoreUrl
    """s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX] or az://CONTAINER[/PREFIX]"""
    endpoint: str | None = None
    """URL of the service, for other stores than the providers' own: https://minio.example.org"""
    region: str | None = None
    """of an S3 bucket; unset: AWS_REGION"""
    secret_files: dict[str, Path] = Field(default_factory=dict)
    """files with secrets, by the names of obstore: access_key_id, secret_access_key and session_token for
    S3, service_account_key for Google, account_key for Azure; read again when they change. What is not here
    comes from the environment, or from the identity of the pod or machine"""
    options: dict[str, str] = Field(default_factory=dict, json_schema_extra=SECRET)
    """further settings of obstore by name, for example virtual_hosted_style_request, account_name,
    server_side_encryption"""
    ca_file: Path | None = None
    """whom to believe besides those whom the system does, PEM"""
    allow_http: bool = False
    """whether endpoint may be http://"""
    refresh_after: Duration | None = Field(default=timedelta(days=7), ge=timedelta(hours=1))
    """blobs that are asked for are written anew when they are older than this, so that a lifecycle rule by
    age spares what is used: set the rule to twice this at least. null: there is no rule"""
    requests_at_once: int = Field(default=32, ge=1, le=512)
    """requests at the same time for one server of ours"""
    tier: TierConfig | None = None
    """a disk in front of it; `{}` for one with the defaults"""
    spool_path: Path | None = None
    """folder for uploads above 1 MiB that are under way; unset: `cas-spool` in `data`"""
    outage_tolerance: Duration = _OUTAGE
    """an outage shorter than this is waited out before calls fail"""

    @model_validator(mode="after")
    def _consistent(self) -> "ObjectStorageConfig":
        if self.endpoint is not None and self.endpoint.startswith("http://") and not self.allow_http:
            raise FieldError("endpoint", "is without TLS; set allow_http: true if that is meant")
        if twice := self.secret_files.keys() & self.options.keys():
            raise FieldError(f"options.{min(twice)}", "is in secret_files, too; keep one of the two")
        return self


def _type_of(value: Any) -> str:
    """`disk` unless it says otherwise."""
    return str(value.get("type", "disk") if isinstance(value, dict) else getattr(value, "type", "disk"))


def _cache_type_of(value: Any) -> str:
    return str(
        value.get("type", "postgres") if isinstance(value, dict) else getattr(value, "type", "postgres")
    )


StorageConfig = Annotated[
    Annotated[DiskStorageConfig, Tag("disk")]
    | Annotated[MemoryStorageConfig, Tag("memory")]
    | Annotated[RemoteStorageConfig, Tag("remote")]
    | Annotated[ObjectStorageConfig, Tag("object-store")],
    Discriminator(_type_of),
]
"""the CAS"""


class PostgresActionCacheConfig(Section):
    """Results in the scheduler's database, stored by the transaction that completes the job."""

    type: Literal["postgres"] = "postgres"
    """postgres: in the scheduler's database"""
    allow_updates: bool = True
    """whether clients may store results; the scheduler itself always may"""


class RemoteActionCacheConfig(RemoteServerConfig):
    """The action cache of another server that speaks the Remote Execution API."""

    type: Literal["remote"]
    """remote: another server's"""
    allow_updates: bool = True
    """whether clients may store results; the scheduler itself always may"""
    instance_name: InstanceName | None = None
    """the instance there for all of ours; null: each under its own name, so that tenants stay apart"""
    lookup_tolerance: Duration = timedelta(seconds=10)
    """an outage longer than this makes lookups fail: the action is run then"""
    outage_tolerance: Duration = _OUTAGE
    """an outage shorter than this is waited out before updates fail"""


ActionCacheConfig = Annotated[
    Annotated[PostgresActionCacheConfig, Tag("postgres")] | Annotated[RemoteActionCacheConfig, Tag("remote")],
    Discriminator(_cache_type_of),
]
"""the action cache"""
