"""From the settings to the CAS and the action cache."""

from pathlib import Path

from buildgrid_client.credentials import TlsFiles

from buildgrid_scheduler.config.storage import (
    ActionCacheConfig,
    DiskStorageConfig,
    MemoryStorageConfig,
    ObjectStorageConfig,
    PostgresActionCacheConfig,
    RemoteServerConfig,
    RemoteStorageConfig,
    StorageConfig,
    TierConfig,
)
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
from buildgrid_scheduler.storage.disk import DiskStorage
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.storage.object_store import ObjectStorage, ObjectStoreLocation
from buildgrid_scheduler.storage.recent import RecentStorage
from buildgrid_scheduler.storage.remote import RemoteActionCache, RemoteEndpoint, RemoteStorage
from buildgrid_scheduler.storage.tiered import TieredStorage
from buildgrid_scheduler.store.action_cache import PostgresActionCache
from buildgrid_scheduler.store.provider import SqlProvider

# A storage across the network makes its callers wait, where a disk makes them work.
_NETWORK_THREADS = 64


def build_storage(config: StorageConfig, data: Path) -> StorageABC:
    """The CAS, not yet started. `data` is where folders are that the settings do not place."""
    if isinstance(config, MemoryStorageConfig):
        return MemoryStorage()
    if isinstance(config, DiskStorageConfig):
        return RecentStorage(DiskStorage(config.path or data / "cas", config.max_bytes))
    if isinstance(config, RemoteStorageConfig):
        storage: StorageABC = RemoteStorage(
            _endpoint(config),
            instance_name=config.instance_name,
            compression=config.compression,
            spool=config.spool_path or data / "cas-spool",
            outage_tolerance=config.outage_tolerance,
        )
    else:
        storage = ObjectStorage(
            _location(config),
            spool=config.spool_path or data / "cas-spool",
            outage_tolerance=config.outage_tolerance,
            refresh_after=config.refresh_after,
            requests_at_once=config.requests_at_once,
        )
    return RecentStorage(_tiered(config.tier, storage, data))


def build_action_cache(config: ActionCacheConfig, provider: SqlProvider | None) -> ActionCacheABC:
    """The action cache, not yet started; `provider` is the scheduler's database, if it has one."""
    if isinstance(config, PostgresActionCacheConfig):
        if provider is None:
            raise ValueError("an action cache in PostgreSQL needs a database")
        return PostgresActionCache(provider, allow_updates=config.allow_updates)
    return RemoteActionCache(
        _endpoint(config),
        instance_name=config.instance_name,
        allow_updates=config.allow_updates,
        lookup_tolerance=config.lookup_tolerance,
        outage_tolerance=config.outage_tolerance,
    )


def storage_threads(config: StorageConfig, configured: int) -> int:
    """How many storage calls to run at the same time: as configured, and more where they mostly wait."""
    local = isinstance(config, DiskStorageConfig | MemoryStorageConfig)
    return configured if local else max(configured, _NETWORK_THREADS)


def _tiered(tier: TierConfig | None, behind: StorageABC, data: Path) -> StorageABC:
    if tier is None:
        return behind
    disk = DiskStorage(tier.path or data / "cas-tier", tier.max_bytes)
    return TieredStorage(disk, behind, confirmed_for=tier.confirmed_for)


def _endpoint(config: RemoteServerConfig) -> RemoteEndpoint:
    tls = TlsFiles(config.ca_file, config.client_certificate_file, config.client_key_file)
    return RemoteEndpoint(config.endpoint, tls, config.token_file)


def _location(config: ObjectStorageConfig) -> ObjectStoreLocation:
    options = dict(config.options)
    if config.endpoint is not None:
        options["base_url" if config.url.startswith("gs:") else "endpoint"] = config.endpoint
    if config.region is not None:
        options["region"] = config.region
    return ObjectStoreLocation(config.url, options, config.secret_files, config.allow_http, config.ca_file)
