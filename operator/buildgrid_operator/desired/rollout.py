"""What rolls pods: fields that people see, and the resolved image; not how the operator writes a template.

So an upgrade of the operator replaces no pod. An object keeps the template that was made first for its hash,
in an annotation: what a newer operator would write otherwise waits for the next rollout.
"""

import copy
import hashlib
import json
from typing import Any

from buildgrid_operator.api.effects import rollout_view
from buildgrid_operator.api.model import Effect
from buildgrid_operator.desired import names
from buildgrid_operator.desired.auth import auth_of
from buildgrid_operator.desired.config import is_storage_direct, storage_max_bytes
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json


def scheduler_template_hash(inputs: Inputs) -> str:
    """Of what rolls the replicas."""
    return _hash({"image": inputs.images.scheduler, "spec": rollout_view(inputs.spec)})


def storage_template_hash(inputs: Inputs) -> str:
    """Of what replaces the pod of the managed storage, which must be wanted."""
    spec, managed = inputs.spec, inputs.spec.storage.managed
    if managed is None:
        raise ValueError("there is no managed storage")
    pull = [secret.name for secret in spec.image_pull_secrets]
    found: Json = {
        "image": inputs.images.storage,
        "imagePull": [spec.image_pull_policy, *pull],
        "resources": managed.resources.to_dict(),
        "podTemplate": None if managed.pod_template is None else managed.pod_template.to_dict(),
        "maxBytes": storage_max_bytes(inputs),
        "instances": spec.instances,
        "grpc": rollout_view(spec.grpc, Effect.ROLLOUT),
        "shutdown": rollout_view(spec.shutdown, Effect.ROLLOUT),
    }
    if (auth := auth_of(spec)) is not None:
        # Policies are reloaded, and where only the replicas are let in, nothing else counts.
        direct = is_storage_direct(inputs)
        found["auth"] = rollout_view(auth, Effect.ROLLOUT) if direct else "replicas"
    return _hash(found)


def with_template_noted(obj: Json, template_hash: str) -> Json:
    """A Deployment or StatefulSet with its template and the template's hash in annotations."""
    template = json.dumps(obj["spec"]["template"], sort_keys=True, separators=(",", ":"))
    return _annotated(obj, {names.TEMPLATE_HASH: template_hash, names.TEMPLATE: template})


def settled(wanted: Json, live: Json | None) -> Json:
    """What to apply of a Deployment or StatefulSet, given the one that there is.

    If the live one's noted template has the wanted hash it counts: this operator may write it otherwise than
    the one that made it.
    """
    noted = _annotations(live).get(names.TEMPLATE, "")
    try:
        template = json.loads(noted)
    except ValueError:
        return wanted
    if not _has_hash(template, _annotations(wanted)[names.TEMPLATE_HASH]):
        return wanted
    kept = _annotated(wanted, {names.TEMPLATE: noted})
    kept["spec"]["template"] = template
    return kept


def _has_hash(template: Any, template_hash: str) -> bool:
    return isinstance(template, dict) and _annotations(template).get(names.TEMPLATE_HASH) == template_hash


def _annotated(obj: Json, annotations: dict[str, str]) -> Json:
    result = copy.deepcopy(obj)
    result["metadata"].setdefault("annotations", {}).update(annotations)
    return result


def _annotations(obj: Json | None) -> dict[str, str]:
    return ((obj or {}).get("metadata") or {}).get("annotations") or {}


def _hash(value: Json) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
