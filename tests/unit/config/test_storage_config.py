"""How a storage is written down."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from buildgrid_scheduler.config.section import Section
from buildgrid_scheduler.config.storage import (
    ActionCacheConfig,
    DiskStorageConfig,
    MemoryStorageConfig,
    ObjectStorageConfig,
    PostgresActionCacheConfig,
    RemoteActionCacheConfig,
    RemoteStorageConfig,
    StorageConfig,
    TierConfig,
)
from pydantic import ValidationError


class Settings(Section):
    storage: StorageConfig = DiskStorageConfig()
    action_cache: ActionCacheConfig = PostgresActionCacheConfig()


def storage(**fields: Any) -> StorageConfig:
    return Settings.model_validate({"storage": fields}).storage


def test_what_says_no_type_is_a_disk() -> None:
    assert Settings().storage == storage() == storage(type="disk") == DiskStorageConfig()
    given = storage(path="/srv/cas", max_bytes=1 << 30)
    assert given == DiskStorageConfig(path=Path("/srv/cas"), max_bytes=1 << 30)
    assert storage(type="memory") == MemoryStorageConfig(type="memory")


def test_a_remote_storage_needs_its_endpoint_and_no_more() -> None:
    given = storage(type="remote", endpoint="grpc://cas:50051")
    assert isinstance(given, RemoteStorageConfig)
    assert given.tier is None
    assert given.outage_tolerance == timedelta(minutes=5)


def test_a_tier_has_defaults() -> None:
    given = storage(type="remote", endpoint="grpc://cas:50051", tier={})
    assert isinstance(given, RemoteStorageConfig)
    assert given.tier == TierConfig()


def test_an_object_store_needs_its_url_and_no_more() -> None:
    given = storage(type="object-store", url="s3://bucket/prefix", refresh_after="14d")
    assert isinstance(given, ObjectStorageConfig)
    assert given.refresh_after == timedelta(days=14)


def test_the_action_cache_is_in_the_database_unless_it_says_otherwise() -> None:
    assert Settings.model_validate({"action_cache": {"allow_updates": False}}).action_cache == (
        PostgresActionCacheConfig(allow_updates=False)
    )
    remote = {"type": "remote", "endpoint": "grpcs://cache:443"}
    given = Settings.model_validate({"action_cache": remote}).action_cache
    assert isinstance(given, RemoteActionCacheConfig)
    assert given.instance_name is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": "cloud"}, "'cloud'"),
        ({"type": ["disk"]}, "expected tags"),
        ({"type": "remote"}, "endpoint"),
        ({"type": "object-store"}, "url"),
        ({"type": "memory", "path": "/x"}, "path"),
        ({"type": "remote", "endpoint": "cas:50051"}, "is not grpc://HOST:PORT"),
        ({"type": "remote", "endpoint": "grpc://cas:0"}, "is not grpc://HOST:PORT"),
        ({"type": "remote", "endpoint": "grpcs://cas:1", "client_key_file": "k"}, "set both, or none"),
        ({"type": "remote", "endpoint": "grpc://cas:1", "ca_file": "ca"}, "must be grpcs://"),
        ({"type": "remote", "endpoint": "grpc://cas:1", "max_bytes": 1 << 30}, "max_bytes"),
        ({"type": "object-store", "url": "bucket"}, "is not s3://BUCKET"),
        ({"type": "object-store", "url": "s3://b", "endpoint": "http://minio"}, "allow_http: true"),
        ({"type": "object-store", "url": "s3://b", "refresh_after": 60}, "greater than or equal"),
        (
            {"type": "object-store", "url": "s3://b", "secret_files": {"k": "f"}, "options": {"k": "v"}},
            "keep one of the two",
        ),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        storage(**fields)
