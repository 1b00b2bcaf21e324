"""Where the API server has objects."""

import pytest
from buildgrid_operator.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    KINDS,
    NODE,
    ObjectRef,
    kind_named,
    kind_of,
)


def test_paths_of_objects() -> None:
    assert CONFIG_MAP.path("farm", "a") == "/api/v1/namespaces/farm/configmaps/a"
    assert DEPLOYMENT.path("farm", "a", "status") == "/apis/apps/v1/namespaces/farm/deployments/a/status"
    assert DEPLOYMENT.path("farm") == "/apis/apps/v1/namespaces/farm/deployments"
    assert DEPLOYMENT.path() == "/apis/apps/v1/deployments"
    assert NODE.path(None, "n1") == "/api/v1/nodes/n1"


def test_a_name_cannot_lead_to_another_path() -> None:
    assert CONFIG_MAP.path("farm", "../secrets/a") == "/api/v1/namespaces/farm/configmaps/..%2Fsecrets%2Fa"


def test_a_namespaced_object_needs_its_namespace() -> None:
    with pytest.raises(ValueError, match="needs a namespace"):
        CONFIG_MAP.path(None, "a")


def test_the_group_is_empty_for_core_kinds() -> None:
    assert (CONFIG_MAP.group, DEPLOYMENT.group) == ("", "apps")


def test_every_kind_is_found_by_its_name() -> None:
    assert all(kind_named(kind.api_version, kind.kind) is kind for kind in KINDS)
    with pytest.raises(KeyError):
        kind_of({"apiVersion": "v1", "kind": "Unheard"})


def test_a_reference_reads_well() -> None:
    obj = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "farm"}}
    assert str(ObjectRef.of(obj)) == "Deployment farm/a"
    assert str(ObjectRef(NODE, "", "n1")) == "Node n1"
