"""What docs/storage.md shows can be used as it is."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from buildgrid_scheduler.config import Config
from buildgrid_scheduler.config.storage import ObjectStorageConfig, RemoteStorageConfig
from buildgrid_scheduler.server.storage import build_action_cache, build_storage
from buildgrid_scheduler.store.provider import SqlProvider

PAGE = (Path(__file__).parents[3] / "docs" / "storage.md").read_text()
SAMPLES: list[dict[str, Any]] = [
    sample
    for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    for sample in yaml.safe_load_all(block)
]


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_sample_is_a_configuration_of_which_a_storage_can_be_made(
    sample: dict[str, Any], tmp_path: Path
) -> None:
    config = Config.model_validate(sample)
    build_storage(config.storage, tmp_path)
    build_action_cache(config.action_cache, SqlProvider("postgresql://nobody@localhost:1/none"))


def test_there_are_samples_for_all_kinds() -> None:
    types = [sample["storage"].get("type", "disk") for sample in SAMPLES if "storage" in sample]
    assert set(types) == {"disk", "remote", "object-store"}
    assert any("action_cache" in sample for sample in SAMPLES)


def test_the_page_tells_the_defaults_there_are() -> None:
    remote = RemoteStorageConfig(type="remote", endpoint="grpc://cas:1")
    objects = ObjectStorageConfig(type="object-store", url="s3://builds")
    assert objects.refresh_after is not None
    assert f"`outage_tolerance` ({remote.outage_tolerance.total_seconds() / 60:g} minutes)" in PAGE
    assert f"`refresh_after` at least** ({objects.refresh_after.days} days" in PAGE
    assert f"`requests_at_once` ({objects.requests_at_once})" in PAGE
