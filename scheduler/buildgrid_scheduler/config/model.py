"""Every setting of a server, with what it means and its default."""

import re
from datetime import timedelta
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from buildgrid_scheduler.config.auth import AuthConfig, FleetConfig, TlsConfig, contradiction
from buildgrid_scheduler.config.integrations import AssetsConfig, LogStreamsConfig, MeteringConfig
from buildgrid_scheduler.config.property_set import DynamicPropertySetConfig, PropertySetConfig
from buildgrid_scheduler.config.scheduler import SchedulerConfig
from buildgrid_scheduler.config.section import RELOADABLE, SECRET, FieldError, Section
from buildgrid_scheduler.config.storage import (
    ActionCacheConfig,
    DiskStorageConfig,
    PostgresActionCacheConfig,
    StorageConfig,
)
from buildgrid_scheduler.config.values import (
    Address,
    ByteSize,
    Duration,
    InstanceName,
    PostgresUrl,
    addresses_overlap,
)

LogLevel = Literal["debug", "info", "warning", "error"]


def _logger(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
        raise ValueError(
            f"{name!r} is not the name of a logger; write for example buildgrid_scheduler.engine"
        )
    return name


LoggerName = Annotated[str, AfterValidator(_logger)]


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise FieldError(str(number), f"{name!r} is there twice; keep one")
    return names


URL_VARIABLE = "DATABASE_URL"
"""of the environment; where no field says where the database is"""


class DatabaseConfig(Section):
    """Where the PostgreSQL is."""

    url: PostgresUrl | None = Field(default=None, json_schema_extra=SECRET)
    """postgresql://USER[:PASSWORD]@HOST[:PORT]/DATABASE. Unset, and url_file too: DATABASE_URL, else an
    embedded one in `data`"""
    url_file: Path | None = None
    """a file with the URL, read for each new connection: a changed secret needs no restart"""
    password_file: Path | None = None
    """a file with the password alone, read for each new connection; it takes the place of the URL's"""
    read_url: PostgresUrl | None = Field(default=None, json_schema_extra=SECRET)
    """where lists and numbers are read, for example a replica of the database; unset: as url"""
    read_url_file: Path | None = None
    """a file with read_url, read for each new connection"""
    notify_url: PostgresUrl | None = Field(default=None, json_schema_extra=SECRET)
    """where LISTEN works, for a url that leads through a pooler; unset: as url"""
    notify_url_file: Path | None = None
    """a file with notify_url, read for each new connection"""
    pool_size: int = Field(default=5, ge=1, le=100)
    """connections for what is rare; the hot path has three of its own, and listening one"""
    migrate: bool = True
    """migrate at start; off where `buildgrid-scheduler migrate` does it beforehand"""

    @model_validator(mode="after")
    def _one_source(self) -> "DatabaseConfig":
        for name in ("url", "read_url", "notify_url"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise FieldError(f"{name}_file", f"excludes {name}; keep one of the two")
        return self


class MonitoringConfig(Section):
    """Metrics and health over HTTP: /metrics, /healthz, /readyz."""

    listen: Address | None = "127.0.0.1:9090"
    """null: not served"""
    fleet_interval: Duration = Field(default=timedelta(seconds=10), ge=timedelta(milliseconds=100))
    """how often the numbers are read from the database that all replicas share: queue, jobs, bots"""


class LoggingConfig(Section):
    """The log, on standard error, an event a line."""

    format: Literal["text", "json"] = Field(default="text")
    """text for people, json for collectors"""
    level: LogLevel = Field(default="info")
    """what is less important is not logged"""
    loggers: dict[LoggerName, LogLevel] = Field(default_factory=dict)
    """levels of parts of the program, for example `buildgrid_scheduler.storage: debug`"""


class ServicesConfig(Section):
    """Which services this server offers. One image is a scheduler, a storage, or both."""

    execution: bool = True
    """Execution and Operations"""
    bots: bool = True
    """Bots"""
    cas: bool = True
    """ContentAddressableStorage and ByteStream"""
    action_cache: bool = True
    """ActionCache"""
    reflection: bool = True
    """gRPC server reflection, for tools such as grpcurl"""

    @model_validator(mode="after")
    def _something(self) -> "ServicesConfig":
        if not (self.execution or self.bots or self.cas or self.action_cache):
            raise ValueError("all services are off; switch on at least one")
        return self

    @property
    def schedules(self) -> bool:
        """Whether jobs and bots are this server's business; otherwise it only stores."""
        return self.execution or self.bots


class GrpcConfig(Section):
    """The gRPC server."""

    max_connection_age: Duration = Field(default=timedelta(minutes=10), ge=timedelta(seconds=10))
    """clients are told to reconnect after about this time, so that load spreads over replicas again"""
    max_connection_age_grace: Duration = Field(default=timedelta(minutes=5), ge=timedelta(seconds=1))
    """calls that still run then are cut off after this"""
    keepalive_time: Duration = Field(default=timedelta(seconds=30), ge=timedelta(seconds=1))
    """a connection on which nothing came for this long is asked whether its client still lives"""
    keepalive_timeout: Duration = Field(default=timedelta(seconds=10), ge=timedelta(seconds=1))
    """one that does not answer within this time is closed, and its calls end"""
    handshake_timeout: Duration = Field(default=timedelta(seconds=20), ge=timedelta(seconds=1))
    """new connections that have not finished TLS and begun HTTP/2 by then are closed"""
    max_message_size: ByteSize = Field(default=16 * 1024 * 1024, le=1024**3)
    """larger messages are refused, either way"""
    storage_threads: int = Field(default=8, ge=1, le=256)
    """blobs that are read or written at the same time"""


class ShutdownConfig(Section):
    """What happens after SIGTERM or SIGINT."""

    delay: Duration = Field(default=timedelta(0), le=timedelta(seconds=60))
    """not ready, but serving, for this long: load balancers notice meanwhile"""
    grace: Duration = Field(default=timedelta(seconds=5), le=timedelta(seconds=60))
    """running calls may end within this time; waiting ones are sent elsewhere at once"""


class ReloadConfig(Section):
    """A changed configuration file is taken up without a restart, as is SIGHUP."""

    interval: Duration | None = Field(default=timedelta(seconds=5), ge=timedelta(milliseconds=100))
    """how often the file is looked at; null: only at SIGHUP"""


class Config(Section):
    """A server."""

    listen: Address = "127.0.0.1:50051"
    """of the gRPC services; "[::]:50051" in containers"""
    data: Path = Path("buildgrid-data")
    """folder of the embedded database and the disk CAS; like all paths it may begin with ~"""
    instances: Annotated[tuple[InstanceName, ...], AfterValidator(_distinct)] = Field(
        default=("",), min_length=1
    )
    """instance names that are served; may hold slashes"""
    database: DatabaseConfig = DatabaseConfig()
    monitoring: MonitoringConfig = MonitoringConfig()
    logging: LoggingConfig = Field(default=LoggingConfig(), json_schema_extra=RELOADABLE)
    auth: AuthConfig = AuthConfig()
    tls: TlsConfig | None = None
    """null: unencrypted, for loopback, trusted networks and proxies that end TLS"""
    fleet: FleetConfig | None = None
    """null: the Fleet service is on the port of the others only"""
    storage: StorageConfig = DiskStorageConfig()
    """the CAS"""
    action_cache: ActionCacheConfig = PostgresActionCacheConfig()
    """which results are kept where"""
    property_set: PropertySetConfig = Field(default=DynamicPropertySetConfig(), json_schema_extra=RELOADABLE)
    """which platform properties there are, and what they mean for matching"""
    scheduler: SchedulerConfig = SchedulerConfig()
    assets: AssetsConfig | None = None
    """what the scheduler needs is kept in the CAS through a Remote Asset service; null: nothing is"""
    log_streams: LogStreamsConfig | None = None
    """output of running actions is streamed through a Remote LogStream service; null: it is not"""
    metering: MeteringConfig | None = None
    """usage is reported to a metering service, which may throttle clients; null: it is not"""
    services: ServicesConfig = ServicesConfig()
    grpc: GrpcConfig = GrpcConfig()
    shutdown: ShutdownConfig = Field(default=ShutdownConfig(), json_schema_extra=RELOADABLE)
    reload: ReloadConfig = Field(default=ReloadConfig(), json_schema_extra=RELOADABLE)

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        if (problem := contradiction(self.auth, self.tls)) is not None:
            raise FieldError("auth.mtls", problem)
        if self.fleet is not None and not self.services.schedules:
            raise FieldError("fleet", "is of no use without services.execution or services.bots; remove it")
        self._bind_apart()
        return self

    def _bind_apart(self) -> None:
        bound = {"listen": self.listen, "monitoring.listen": self.monitoring.listen}
        if self.fleet is not None:
            bound["fleet.listen"] = self.fleet.listen
        addresses = [(field, address) for field, address in bound.items() if address is not None]
        for (field, address), (other, taken) in combinations(addresses, 2):
            if addresses_overlap(address, taken):
                if other == "monitoring.listen" and "listen" not in self.monitoring.model_fields_set:
                    field, address, other, taken = other, taken, field, address  # the one that is written
                message = f"{taken} is where {field} ({address}) is, too; choose another port"
                raise FieldError(other, message)

    @property
    def needs_database(self) -> bool:
        """Whether there is anything to keep in PostgreSQL: a server that only stores may do without."""
        caches = self.services.action_cache and isinstance(self.action_cache, PostgresActionCacheConfig)
        return self.services.schedules or caches
