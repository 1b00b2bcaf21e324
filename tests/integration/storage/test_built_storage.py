"""From the settings to storages that work."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult
from buildgrid_scheduler.config.storage import (
    DiskStorageConfig,
    MemoryStorageConfig,
    ObjectStorageConfig,
    PostgresActionCacheConfig,
    RemoteActionCacheConfig,
    RemoteStorageConfig,
    StorageConfig,
    TierConfig,
)
from buildgrid_scheduler.server.storage import build_action_cache, build_storage, storage_threads
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.store.action_cache import PostgresActionCache
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.storage.remote_server import RemoteServer
from tests.integration.storage.s3_server import BUCKET, S3Server

BLOB = b"a blob of some bytes"
DIGEST = digest_of(BLOB)
LARGE = b"x" * 2_000_000
TYPES = ["disk", "memory", "remote", "remote with tier", "objects", "objects with tier"]


@pytest.fixture(params=TYPES)
def config(
    request: pytest.FixtureRequest, remote: RemoteServer, s3: S3Server, tmp_path: Path
) -> StorageConfig:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    tier = TierConfig() if "tier" in request.param else None
    if request.param == "disk":
        return DiskStorageConfig()
    if request.param == "memory":
        return MemoryStorageConfig(type="memory")
    if "remote" in request.param:
        return RemoteStorageConfig(
            type="remote", endpoint=remote.endpoint, instance_name="main/team", tier=tier
        )
    return ObjectStorageConfig(
        type="object-store",
        url=f"s3://{BUCKET}/{request.param}",
        endpoint=f"http://{s3.address}",
        region="us-east-1",
        allow_http=True,
        options={"access_key_id": "id"},
        secret_files={"secret_access_key": secret},
        tier=tier,
    )


@pytest.fixture
def storage(config: StorageConfig, tmp_path: Path) -> Iterator[StorageABC]:
    storage = build_storage(config, tmp_path / "data")
    storage.start()
    yield storage
    storage.stop()


def test_what_is_built_stores_blobs(storage: StorageABC, config: StorageConfig, tmp_path: Path) -> None:
    storage.write_many([(DIGEST, BLOB)])
    storage.stream_write(digest_of(LARGE), [LARGE])
    assert len(storage.has_many([DIGEST, digest_of(LARGE)])) == 2
    assert storage.read_one(digest_of(LARGE)) == LARGE
    folders = {path.name for path in (tmp_path / "data").glob("*")}
    expected = {
        "disk": {"cas"},
        "memory": set(),
        "remote": {"cas-spool"},
        "object-store": {"cas-spool"},
    }[config.type]
    if getattr(config, "tier", None) is not None:
        expected |= {"cas-tier"}
    assert folders == expected


def test_small_blobs_that_just_passed_are_in_memory(storage: StorageABC, config: StorageConfig) -> None:
    storage.write_many([(DIGEST, BLOB)])
    assert storage.read_recent(DIGEST) == (None if config.type == "memory" else BLOB)


def test_storages_that_make_callers_wait_get_more_threads(config: StorageConfig) -> None:
    network = config.type in ("remote", "object-store")
    assert storage_threads(config, 8) == (64 if network else 8)
    assert storage_threads(config, 100) == 100


def test_the_action_cache_is_in_the_database_or_remote(remote: RemoteServer) -> None:
    provider = SqlProvider("postgresql://nobody@localhost:1/none")
    own = build_action_cache(PostgresActionCacheConfig(allow_updates=False), provider)
    assert isinstance(own, PostgresActionCache)
    assert own.provider is provider
    assert not own.allow_updates
    elsewhere = build_action_cache(
        RemoteActionCacheConfig(type="remote", endpoint=remote.endpoint, allow_updates=False), provider
    )
    elsewhere.start()
    elsewhere.update("main/team", DIGEST, ActionResult(exit_code=7))
    assert remote.cache.get("main/team", DIGEST) == ActionResult(exit_code=7)
    assert not elsewhere.allow_updates
    elsewhere.stop()
