"""Every setting of a server, with what it means and its default."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

REAPI_KEYWORDS = frozenset(
    {"blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"}
)


def _port_in_range(address: str) -> str:
    if int(address.rpartition(":")[2]) > 65535:
        raise ValueError("the port must be from 0 to 65535")
    return address


def _instance_name(name: str) -> str:
    segments = name.split("/") if name else []
    if "" in segments:
        raise ValueError("an instance name has no empty segments")
    if taken := REAPI_KEYWORDS.intersection(segments):
        raise ValueError(f"{min(taken)!r} may not be a segment of an instance name (REAPI, resource names)")
    return name


InstanceName = Annotated[str, AfterValidator(_instance_name)]
Address = Annotated[
    str,
    StringConstraints(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^\s:/]+):\d{1,5}$"),
    AfterValidator(_port_in_range),
]
PostgresUrl = Annotated[str, StringConstraints(pattern=r"^postgres(ql)?://")]
ByteSize = Annotated[int, Field(ge=1024 * 1024)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatabaseConfig(_Model):
    """Where the PostgreSQL is."""

    url: PostgresUrl | None = None
    """postgresql://USER[:PASSWORD]@HOST:PORT/DATABASE. Unset: DATABASE_URL, else an embedded one in `data`"""
    migrate: bool = True
    """migrate at start; off where `buildgrid-scheduler migrate` does it beforehand"""


class MonitoringConfig(_Model):
    """Metrics and health over HTTP: /metrics, /healthz, /readyz."""

    listen: Address | None = "127.0.0.1:9090"
    """null: not served"""


class StorageConfig(_Model):
    """The CAS."""

    type: Literal["disk", "memory"] = "disk"
    """disk; memory is for tests, and lost with the process"""
    path: Path | None = None
    """folder of the disk CAS; unset: `cas` in `data`"""
    max_bytes: ByteSize = 20 * 1024**3
    """above this the least recently used blobs are evicted"""


class DynamicPropertySetConfig(_Model):
    """Any combination of known keys."""

    match_property_keys: frozenset[str] = frozenset({"OSFamily", "ISA", "Pool", "container-image"})
    """keys that constrain which bots may take a job"""
    wildcard_property_keys: frozenset[str] = frozenset()
    """keys that are accepted and do not constrain"""
    unique_property_keys: frozenset[str] = frozenset({"OSFamily", "ISA", "Pool"})
    """keys that may have one value only"""
    label_key: str | None = "Pool"
    """the key whose value labels a job in metrics and limits"""

    @model_validator(mode="after")
    def _known(self) -> "DynamicPropertySetConfig":
        known = self.match_property_keys | self.wildcard_property_keys
        if strange := self.unique_property_keys - known:
            raise ValueError(
                f"unique_property_keys: {', '.join(sorted(strange))}: not match or wildcard keys"
            )
        if self.label_key is not None and self.label_key not in known:
            raise ValueError(f"label_key: {self.label_key}: not a match or wildcard key")
        return self


class SchedulerConfig(_Model):
    """How jobs are queued, tried and handed out. Times are in seconds."""

    max_execution_timeout: int = Field(default=7200, ge=1)
    """Action.timeout above this is refused"""
    bot_session_keepalive_timeout: int = Field(default=600, ge=5)
    """a bot that does not call for this long is gone, and its jobs wait again"""
    session_expiry_interval: float = Field(default=10.0, gt=0)
    """how often sessions that have expired are looked for"""
    max_job_attempts: int = Field(default=5, ge=1)
    """attempts at a job that takes its bot with it, or fails for the farm's reasons"""
    max_infra_attempts: int = Field(default=20, ge=1)
    """losses that are certainly not the job's doing"""
    job_assignment_interval: float = Field(default=1.0, gt=0)
    """how often the queue is looked at in case a notification was lost"""
    priority_assignment_percentage: int = Field(default=100, ge=0, le=100)
    """share of assignments that go by priority, then age; the others go by age alone"""
    max_queue_size: int | None = Field(default=None, ge=1)
    """jobs of one instance and label that may wait; null: no limit"""
    cache_failed_actions: bool = False
    """store results with another exit code than 0 in the action cache, too"""
    action_browser_url: str | None = None
    """links the action in the message of each response"""


class ServicesConfig(_Model):
    """Which services this server offers."""

    execution: bool = True
    """Execution and Operations"""
    bots: bool = True
    cas: bool = True
    """ContentAddressableStorage and ByteStream"""
    action_cache: bool = True


class Config(_Model):
    """A server."""

    listen: Address = "127.0.0.1:50051"
    """of the gRPC services; [::]:50051 in containers"""
    data: Path = Path("buildgrid-data")
    """folder of the embedded database and the disk CAS"""
    instances: tuple[InstanceName, ...] = ("",)
    """instance names that are served; may hold slashes"""
    database: DatabaseConfig = DatabaseConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    storage: StorageConfig = StorageConfig()
    property_set: DynamicPropertySetConfig = DynamicPropertySetConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    services: ServicesConfig = ServicesConfig()
    action_cache_updates: bool = True
    """whether clients may store results in the action cache"""
