"""What a configuration amounts to, in a few lines for people."""

from buildgrid_scheduler.config.logger_names import unknown_loggers
from buildgrid_scheduler.config.model import Config
from buildgrid_scheduler.config.property_set import DynamicPropertySetConfig
from buildgrid_scheduler.config.storage import (
    DiskStorageConfig,
    MemoryStorageConfig,
    PostgresActionCacheConfig,
    RemoteStorageConfig,
)
from buildgrid_scheduler.config.values import show_duration, show_size

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def summary(config: Config) -> dict[str, str]:
    """What would run, by part."""
    services = config.services
    offered = [
        name for name in ("execution", "bots", "cas", "action_cache", "reflection") if getattr(services, name)
    ]
    told = {
        "services": f"{', '.join(offered)} on {config.listen}",
        "instances": ", ".join(repr(name) for name in config.instances),
        "monitoring": config.monitoring.listen or "not served",
        "database": _database(config),
    }
    if services.cas or services.execution:
        told["storage"] = _storage(config)
    if services.action_cache or services.execution:
        told["action cache"] = _action_cache(config)
    if services.schedules:
        told["property set"] = _property_set(config)
        told["limits"] = _limits(config)
    told["identity"] = _identity(config)
    if config.fleet is not None:
        issuers = ", ".join(issuer.name for issuer in config.fleet.auth.jwt)
        told["fleet"] = f"the Fleet service alone on {config.fleet.listen}, for tokens of {issuers}"
    if told_of := [
        name for name in ("assets", "log_streams", "metering") if getattr(config, name) is not None
    ]:
        told["told of jobs"] = ", ".join(told_of)
    return told


def notes(config: Config) -> list[str]:
    """What is allowed, and may still not be meant."""
    found = []
    host = config.listen.rpartition(":")[0]
    if host not in _LOOPBACK and not config.auth.enabled:
        found.append(
            f"whoever reaches {config.listen} may run actions and bots; see auth, or listen on 127.0.0.1"
        )
    if config.auth.jwt and config.tls is None:
        found.append("tokens travel unencrypted; set tls, unless a proxy in front of it ends TLS")
    if isinstance(config.storage, MemoryStorageConfig):
        found.append("storage.type is memory: blobs are lost with the process, and not bounded")
    if config.scheduler.priority_assignment_percentage == 100 and config.services.schedules:
        found.append(
            "work of low priority may wait for ever (scheduler.priority_assignment_percentage is 100)"
        )
    for name, nearest in unknown_loggers(config.logging.loggers):
        hint = f"; did you mean {nearest}?" if nearest else ""
        found.append(f"logging.loggers: nothing logs as {name}{hint}")
    return found


def _database(config: Config) -> str:
    database = config.database
    if not config.needs_database:
        return "none is needed"
    where = f"an embedded PostgreSQL in {config.data / 'postgres'}, unless DATABASE_URL is set"
    if database.url_file is not None:
        where = f"as {database.url_file} says"
    elif database.url is not None:
        where = "as database.url says"
    return where + ("" if database.migrate else "; not migrated at start")


def _storage(config: Config) -> str:
    storage = config.storage
    if isinstance(storage, DiskStorageConfig):
        return f"disk, {storage.path or config.data / 'cas'}, up to {show_size(storage.max_bytes)}"
    if isinstance(storage, MemoryStorageConfig):
        return "memory"
    where = storage.endpoint if isinstance(storage, RemoteStorageConfig) else storage.url
    tier = "" if storage.tier is None else f", behind a disk of {show_size(storage.tier.max_bytes)}"
    return f"{storage.type}, {where}{tier}"


def _action_cache(config: Config) -> str:
    cache = config.action_cache
    where = "in PostgreSQL" if isinstance(cache, PostgresActionCacheConfig) else cache.endpoint
    return f"{where}, {'clients may store results' if cache.allow_updates else 'read-only for clients'}"


def _property_set(config: Config) -> str:
    found = config.property_set
    if isinstance(found, DynamicPropertySetConfig):
        keys = ", ".join(sorted(found.match_property_keys)) or "none"
        return f"dynamic, match keys {keys}; labelled by {found.label_key or 'nothing'}"
    return f"static, labels {', '.join(label.label for label in found.labels)}"


def _limits(config: Config) -> str:
    limits = config.scheduler
    queue = (
        "no queue limit" if limits.max_queue_size is None else f"{limits.max_queue_size} jobs a label wait"
    )
    if not limits.accept_new_jobs:
        queue = "no new jobs are accepted"
    return f"actions run {show_duration(limits.max_execution_timeout)} at most; {queue}"


def _identity(config: Config) -> str:
    ways = [issuer.name for issuer in config.auth.jwt] + (["client certificates"] if config.auth.mtls else [])
    tls = "TLS" if config.tls is not None else "no TLS"
    if not ways:
        return f"none, everybody may do everything; {tls}"
    return f"{', '.join(ways)}, {len(config.auth.policy)} rules; {tls}"
