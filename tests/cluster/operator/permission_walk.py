"""Each call that applies an object of a kind, or removes it, is refused once, while an operator runs."""

import os
from typing import Any

from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import KINDS, Kind, ObjectRef

from tests.cluster.operator.conftest import Apply
from tests.cluster.operator.processes import becomes, condition, eventually
from tests.cluster.operator.withdrawal import Rules, named, says

Json = dict[str, Any]
OWNER_UID = "buildgrid.build/owner-uid"
VERBS = ("get", "patch", "create", "delete")
"""in the order in which they are needed"""
_ALL = os.environ.get("FULL") == "1"


def kind_of(group: str, resource: str) -> Kind:
    """By how a rule calls it."""
    (found,) = (kind for kind in KINDS if (kind.group, kind.plural) == (group, resource))
    return found


def touch(client: Client, ref: ObjectRef, number: int) -> None:
    """An edit that means nothing, so that it is looked at."""
    client.patch_merge(ref, {"metadata": {"annotations": {"touched": str(number)}}})


def stray(client: Client, owner: Json, kind: Kind, spec: Json) -> ObjectRef:
    """An object that an older version left to the Scheduler, and that this one does not want."""
    metadata = owner["metadata"]
    reference = {name: owner[name] for name in ("apiVersion", "kind")}
    obj = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": f"{metadata['name']}-left",
            "namespace": metadata["namespace"],
            "labels": {
                "app.kubernetes.io/managed-by": "buildgrid-operator",
                "buildgrid.build/scheduler": metadata["name"],
                OWNER_UID: metadata["uid"],
            },
            "ownerReferences": [
                {**reference, "name": metadata["name"], "uid": metadata["uid"], "controller": True}
            ],
        },
        **spec,
    }
    return ObjectRef.of(client.create(obj))


_SELECTOR: Json = {"selector": {"matchLabels": {"app": "left"}}}
_POD: Json = {
    "template": {
        "metadata": {"labels": {"app": "left"}},
        "spec": {"containers": [{"name": "left", "image": "example.org/left:1"}]},
    }
}
_LEFT: dict[str, Json] = {
    "services": {"spec": {"ports": [{"port": 80}]}},
    "persistentvolumeclaims": {
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    },
    "deployments": {"spec": {"replicas": 0, **_SELECTOR, **_POD}},
    "statefulsets": {"spec": {"replicas": 0, **_SELECTOR, **_POD}},
    "poddisruptionbudgets": {"spec": _SELECTOR},
    "ingresses": {"spec": {"defaultBackend": {"service": {"name": "left", "port": {"number": 80}}}}},
    "networkpolicies": {"spec": {"podSelector": {}}},
}
"""The least of each kind that has a spec."""


def walk(
    client: Client,
    rules: Rules,
    apply: Apply,
    children: list[tuple[str, str, str]],
    spec: Json,
    *,
    every_verb: bool = _ALL,
) -> list[ObjectRef]:
    """Each call for each kind is refused once, and named. `children`: (API group, resource, condition).

    `every_verb`: of each kind; else one of each, in turn, so that all kinds and all verbs have their turn.
    Returns the Schedulers that were made for it, all of them ready in the end.
    """
    made, left = [], []
    for turn, (group, resource, told) in enumerate(children):
        verbs = VERBS if every_verb else (VERBS[turn % len(VERBS)],)
        rules.withhold((group, resource, verb) for verb in verbs)
        ref = apply(f"lacks-{resource}", **spec)
        made.append(ref)
        for number, verb in enumerate(verbs):
            rules.withhold((group, resource, each) for each in verbs[number:])
            if verb == "delete":
                left.append(
                    stray(client, client.get(*_place(ref)), kind_of(group, resource), _LEFT.get(resource, {}))
                )
            touch(client, ref, number)
            says(client, ref, told, named(group, resource, verb))
            assert condition(client, ref, told)["reason"] == "PermissionMissing"
    rules.withhold(())
    for number, ref in enumerate(made):
        touch(client, ref, 100 + number)
    for ref in made:
        becomes(client, ref, "Ready", "True")
        becomes(client, ref, "Degraded", "False")
    for ref in left:
        eventually(lambda r=ref: client.find(*_place(r)) is None, f"{ref} goes")  # type: ignore[misc]
    return made


def _place(ref: ObjectRef) -> tuple[Kind, str, str]:
    return ref.kind, ref.namespace, ref.name
