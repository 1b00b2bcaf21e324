"""Which image runs, and that an upgrade of the operator changes none by itself."""

import dataclasses
from typing import Any

import pytest
from buildgrid_operator.api import Scheduler
from buildgrid_operator.api.status import SchedulerStatus
from buildgrid_operator.desired import Images, resolve_images
from buildgrid_operator.desired.images import version_of, with_registry

from tests.unit.operator.desired.cases import SETTINGS, scheduler

OWN = "ghcr.io/example/buildgrid-scheduler:1.2.3"
NEW = SchedulerStatus()
RUNNING = SchedulerStatus(image="old:1", storage_image="old-storage:1")


def resolved(status: SchedulerStatus = NEW, *, may_upgrade: bool = True, **spec: Any) -> Images:
    found = Scheduler.parse(scheduler(**spec)).spec
    return resolve_images(found, status, SETTINGS, may_upgrade=may_upgrade)


def test_a_new_scheduler_gets_the_operators_own_version() -> None:
    assert resolved() == Images(OWN, OWN)


def test_what_runs_is_kept_when_the_operator_is_upgraded() -> None:
    assert resolved(RUNNING) == Images("old:1", "old-storage:1")


def test_the_spec_counts_before_what_runs() -> None:
    found = resolved(RUNNING, image="mine:2", storage={"managed": {"image": "mine-storage:2"}})
    assert found == Images("mine:2", "mine-storage:2")
    assert resolved(RUNNING, image="mine:2") == Images("mine:2", "old-storage:1")


def test_automatic_follows_the_operator_when_it_is_its_turn() -> None:
    assert resolved(RUNNING, upgradePolicy="Automatic", may_upgrade=False) == Images("old:1", "old-storage:1")
    assert resolved(RUNNING, upgradePolicy="Automatic") == Images(OWN, OWN)
    assert resolved(may_upgrade=False, upgradePolicy="Automatic") == Images(OWN, OWN)


def test_there_is_no_image_for_a_storage_that_is_not_managed() -> None:
    assert resolved(RUNNING, storage={"objectStore": {"url": "s3://builds"}}).storage is None


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("scheduler:1", "mirror.local/scheduler:1"),
        ("example/scheduler:1", "mirror.local/example/scheduler:1"),
        ("ghcr.io/example/scheduler:1", "ghcr.io/example/scheduler:1"),
        ("localhost/scheduler", "localhost/scheduler"),
        ("localhost:5000/scheduler", "localhost:5000/scheduler"),
    ],
)
def test_a_registry_stands_in_front_of_images_that_name_none(image: str, expected: str) -> None:
    assert with_registry(image, "mirror.local/") == expected
    assert with_registry(image, None) == image
    settings = dataclasses.replace(SETTINGS, scheduler_image=image, image_registry="mirror.local")
    spec = Scheduler.parse(scheduler()).spec
    assert resolve_images(spec, SchedulerStatus(), settings) == Images(expected, expected)


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("ghcr.io/example/scheduler:1.2", "1.2"),
        ("localhost:5000/scheduler", None),
        ("scheduler", None),
        ("scheduler:1.2@sha256:" + "a" * 64, "1.2"),
        ("scheduler@sha256:" + "a" * 64, None),
        ("scheduler:" + "a" * 64, None),
        ("scheduler:1.", None),
    ],
)
def test_the_version_is_the_tag_where_it_fits_a_label(image: str, version: str | None) -> None:
    assert version_of(image) == version
