"""Objects as the API server has them, read: also those whose spec cannot be used."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from buildgrid_operator.api.status import Status

S = TypeVar("S", bound=Status)


def status_of(obj: Mapping[str, Any], model: type[S]) -> S:
    """The status; an empty one where it cannot be read, which another version of the operator wrote."""
    try:
        return model.model_validate(obj.get("status") or {})
    except ValidationError:
        return model()


def is_autoscaled(deployment: Mapping[str, Any] | None) -> bool:
    """Whether an HPA sets the number of replicas of a Deployment: by managedFields it was the last to do so.

    It does so from within kube-controller-manager, through the subresource `scale`, which nobody else there
    uses.
    """
    if deployment is None:
        return False
    return any(
        entry.get("manager") == "kube-controller-manager"
        and entry.get("subresource") == "scale"
        and "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
        for entry in deployment["metadata"].get("managedFields") or ()
    )
