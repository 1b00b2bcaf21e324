"""What makes a CRD newer than another one."""

import copy
from typing import Any

import pytest
from buildgrid_operator.api.crd import KINDS, crd_of
from buildgrid_operator.cli.crds import lost_fields

CRDS = [crd_of(kind) for kind in KINDS]


def _schema(crd: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


@pytest.mark.parametrize("crd", CRDS, ids=[crd["spec"]["names"]["kind"] for crd in CRDS])
def test_the_same_one_loses_nothing(crd: dict[str, Any]) -> None:
    assert list(lost_fields(crd, crd)) == []


def test_one_with_fewer_fields_is_older_wherever_they_are() -> None:
    crd = crd_of(KINDS[0])
    newer = copy.deepcopy(crd)
    _schema(newer)["properties"]["status"]["properties"]["later"] = {"type": "string"}
    labels = _schema(newer)["properties"]["spec"]["properties"]["static"]["properties"]["labels"]
    labels["items"]["properties"]["later"] = {"type": "string"}
    assert sorted(lost_fields(newer, crd)) == ["spec.static.labels[].later", "status.later"]
    assert list(lost_fields(crd, newer)) == []


def test_a_version_that_is_not_known_makes_it_newer() -> None:
    crd = crd_of(KINDS[0])
    newer = copy.deepcopy(crd)
    newer["spec"]["versions"].append({"name": "v1"})
    assert list(lost_fields(newer, crd)) == ["the version v1"]
