"""Whether all that we applied is still ours, as managedFields of a real API server tell."""

from typing import Any

import pytest
from buildgrid_operator.reconcile.managed_fields import applied_fields, covers, digest, owners

DESIRED: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d", "namespace": "n", "labels": {"a": "b"}},
    "spec": {
        "replicas": 0,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "c",
                        "args": ["a", "b"],
                        "env": [{"name": "E", "value": "1"}],
                        "ports": [{"containerPort": 80}],
                    }
                ],
                "volumes": [{"name": "t", "emptyDir": {}}],
                "nodeSelector": {"arch": "x"},
            }
        },
    },
}
OWNED: dict[str, Any] = {
    "f:metadata": {"f:labels": {"f:a": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:template": {
            "f:spec": {
                "f:containers": {
                    'k:{"name":"c"}': {
                        ".": {},
                        "f:name": {},
                        "f:args": {},
                        "f:env": {'k:{"name":"E"}': {".": {}, "f:name": {}, "f:value": {}}},
                        "f:ports": {
                            'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}
                        },
                    }
                },
                "f:volumes": {'k:{"name":"t"}': {".": {}, "f:emptyDir": {}, "f:name": {}}},
                "f:nodeSelector": {},
            }
        },
    },
}


def test_what_was_applied_is_covered() -> None:
    assert covers(OWNED, DESIRED)


def _without(fields: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """As the API server writes it: what has nothing left below it is not there."""
    here, *below = path
    fields = dict(fields)
    inner = _without(fields[here], tuple(below)) if below else {}
    if inner:
        fields[here] = inner
    else:
        del fields[here]
    return fields


@pytest.mark.parametrize(
    "path",
    [
        ("f:metadata",),
        ("f:metadata", "f:labels", "f:a"),
        ("f:spec", "f:replicas"),
        ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"c"}'),
        ("f:spec", "f:template", "f:spec", "f:containers", 'k:{"name":"c"}', "f:args"),
        (
            "f:spec",
            "f:template",
            "f:spec",
            "f:containers",
            'k:{"name":"c"}',
            "f:env",
            'k:{"name":"E"}',
            "f:value",
        ),
        ("f:spec", "f:template", "f:spec", "f:volumes", 'k:{"name":"t"}', "f:emptyDir"),
        ("f:spec", "f:template", "f:spec", "f:nodeSelector"),
    ],
)
def test_a_field_that_somebody_else_took_is_missed(path: tuple[str, ...]) -> None:
    assert not covers(_without(OWNED, path), DESIRED)


def test_items_of_a_set_are_found_by_value() -> None:
    fields: dict[str, Any] = {"f:spec": {"f:finalizers": {'v:"a"': {}, "v:1": {}}}}
    assert covers(fields, {"spec": {"finalizers": ["a", 1]}})
    assert not covers(fields, {"spec": {"finalizers": ["a", "b"]}})


def test_an_item_with_other_keys_is_another_item() -> None:
    fields: dict[str, Any] = {
        "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}}
    }
    assert covers(fields, {"ports": [{"containerPort": 80}]})
    assert not covers(fields, {"ports": [{"containerPort": 80, "protocol": "UDP"}]})


def test_names_are_nobodys_and_null_is_nothing() -> None:
    assert covers({}, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}})
    assert covers({"f:spec": {"f:a": {}}}, {"spec": {"a": 1, "b": None}})


def test_only_our_apply_of_the_object_itself_counts() -> None:
    entries = [
        {"manager": "us", "operation": "Update", "fieldsV1": {"f:a": {}}},
        {"manager": "us", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:b": {}}},
        {"manager": "them", "operation": "Apply", "fieldsV1": {"f:c": {}}},
        {"manager": "us", "operation": "Apply", "fieldsV1": {"f:d": {}}},
    ]
    obj = {"metadata": {"managedFields": entries}}
    assert applied_fields(obj, "us") == {"f:d": {}}
    assert applied_fields(obj, "nobody") == {}
    assert applied_fields({"metadata": {}}, "us") == {}
    assert [manager for manager, _ in owners(obj)] == ["us", "them", "us"]


def test_the_digest_does_not_depend_on_the_order() -> None:
    assert digest({"f:a": {}, "f:b": {}}) == digest({"f:b": {}, "f:a": {}})
    assert digest({"f:a": {}}) != digest({"f:b": {}})
