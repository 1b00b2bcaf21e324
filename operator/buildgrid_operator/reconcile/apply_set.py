"""All objects of one owner: applied in order, left alone when they are as we left them, healed, pruned."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from buildgrid_operator.cluster.client import FIELD_MANAGER, Client
from buildgrid_operator.cluster.errors import ClusterError, Conflict
from buildgrid_operator.cluster.kinds import (
    GRPC_ROUTE,
    HORIZONTAL_POD_AUTOSCALER,
    INGRESS,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    SERVICE_MONITOR,
    Manifest,
    ObjectRef,
)
from buildgrid_operator.desired.names import OWNER_UID_LABEL
from buildgrid_operator.reconcile.healing import foreign_removals, has_pod_template
from buildgrid_operator.reconcile.managed_fields import applied_fields, covers, digest

APPLIED_HASH = "buildgrid.build/applied-hash"
"""Annotation: the hash of what was applied last."""
MANAGED_BY = "app.kubernetes.io/managed-by"
OPTIONAL_KINDS = frozenset(
    {POD_DISRUPTION_BUDGET, NETWORK_POLICY, INGRESS, GRPC_ROUTE, SERVICE_MONITOR, HORIZONTAL_POD_AUTOSCALER}
)
"""Nothing else depends on them: one that is refused does not hold up the others."""
_HEAL_ATTEMPTS = 3


class NameTaken(ClusterError):
    """An object of this name exists, and is not ours: it is not touched."""

    def __init__(self, ref: ObjectRef) -> None:
        super().__init__(
            f"{ref} exists and does not belong to the operator: delete it, or give this object another name"
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """An object that the API server does not take as it is."""

    ref: ObjectRef
    error: ClusterError

    @property
    def blocking(self) -> bool:
        """Whether what comes after it was held back."""
        return self.ref.kind not in OPTIONAL_KINDS


@dataclass(slots=True)
class Report:
    """What was done. `live` has each wanted object that is there, newest version that was seen."""

    applied: list[ObjectRef] = field(default_factory=list)
    unchanged: list[ObjectRef] = field(default_factory=list)
    terminating: list[ObjectRef] = field(default_factory=list)
    """are being deleted, or are about to be; they are made anew once they are gone"""
    healed: list[ObjectRef] = field(default_factory=list)
    pruned: list[ObjectRef] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    looked_for: list[ObjectRef] = field(default_factory=list)
    """that the watch does not show: there is no event when they change"""
    live: dict[ObjectRef, Manifest] = field(default_factory=dict)

    @property
    def blocked(self) -> bool:
        """Whether it ended early."""
        return any(failure.blocking for failure in self.failures)

    @property
    def at_rest(self) -> bool:
        """Whether nobody was called: the same objects, while the watch shows the same, stay as they are."""
        busy = self.applied or self.terminating or self.healed or self.pruned
        return not (busy or self.failures or self.looked_for)


class ApplySet:
    """Keeps the objects of owners. Synchronous; several threads may use it, each for another owner."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # Of each owner, what we owned after the last apply of an object: (its UID, hash, digest of fields).
        # Only saves calls: what a restart forgets is judged by managedFields alone.
        self._left: dict[str, dict[ObjectRef, tuple[str, str, str]]] = {}

    def apply(
        self,
        desired: Sequence[Mapping[str, Any]],
        live: Mapping[ObjectRef, Manifest],
        *,
        owner_uid: str,
    ) -> Report:
        """Make it so. `desired` is in order of dependency; `live` is what the watch has of this owner.

        `live` may have more, objects of other owners too: they are left alone. What it does not have costs a
        look whether it is there.

        Raises the ClusterError of a call that may go well later (`transient`): all that was done stays, and
        the next pass goes on from there. What the API server refuses is in the report: for an optional kind
        the rest goes on, for another one the rest, and pruning, are held back.
        """
        report = Report()
        for manifest in desired:
            ref = ObjectRef.of(manifest)
            try:
                self._keep(ref, manifest, live.get(ref), owner_uid, report)
            except ClusterError as error:
                if error.transient:
                    raise
                failure = Failure(ref, error)
                report.failures.append(failure)
                if failure.blocking:
                    return report
        self._prune({ObjectRef.of(manifest) for manifest in desired}, live, owner_uid, report)
        return report

    def forget(self, owner_uid: str) -> None:
        """The owner is gone."""
        self._left.pop(owner_uid, None)

    def _keep(
        self,
        ref: ObjectRef,
        manifest: Mapping[str, Any],
        current: Manifest | None,
        owner_uid: str,
        report: Report,
    ) -> None:
        stamped = stamp(manifest)
        if current is None:
            # The watch shows only what has our labels: who has the name is asked once, before it is made.
            report.looked_for.append(ref)
            current = self._client.find(ref.kind, ref.namespace, ref.name)
        if current is not None and (is_going(current) or is_of_predecessor(current, manifest)):
            report.terminating.append(ref)
            report.live[ref] = current
            return
        if current is not None and not is_ours(current, owner_uid):
            raise NameTaken(ref)
        left = self._left.setdefault(owner_uid, {})
        if current is not None and _unchanged(current, stamped, left.get(ref)):
            report.unchanged.append(ref)
        else:
            current = self._client.apply(stamped)
            owned = digest(applied_fields(current, FIELD_MANAGER))
            left[ref] = (current["metadata"]["uid"], _hash_of(stamped), owned)
            report.applied.append(ref)
        report.live[ref] = self._heal(ref, current, manifest, report)

    def _heal(
        self, ref: ObjectRef, current: Manifest, manifest: Mapping[str, Any], report: Report
    ) -> Manifest:
        if not has_pod_template(manifest):
            return current
        for attempt in range(1, _HEAL_ATTEMPTS + 1):
            removals = foreign_removals(current, manifest)
            if not removals:
                return current
            try:
                version = current["metadata"]["resourceVersion"]
                current = self._client.patch_json(ref, removals, resource_version=version)
            except Conflict:
                if attempt == _HEAL_ATTEMPTS:
                    raise
                current = self._client.get(ref.kind, ref.namespace, ref.name)
            else:
                report.healed.append(ref)
        return current

    def _prune(
        self, wanted: set[ObjectRef], live: Mapping[ObjectRef, Manifest], owner_uid: str, report: Report
    ) -> None:
        left = self._left.get(owner_uid, {})
        for ref, obj in prunable(wanted, live, owner_uid):
            # A namesake that somebody made since then is not what was seen.
            try:
                if self._client.delete(ref, uid=obj["metadata"]["uid"]):
                    report.pruned.append(ref)
            except ClusterError as error:
                if error.transient and not isinstance(error, Conflict):
                    raise
                if not isinstance(error, Conflict):
                    report.failures.append(Failure(ref, error))
            left.pop(ref, None)


def stamp(manifest: Mapping[str, Any]) -> Manifest:
    """The object with the hash of its content as an annotation."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    metadata = dict(manifest["metadata"])
    content = hashlib.sha256(text.encode()).hexdigest()[:16]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), APPLIED_HASH: content}
    return {**manifest, "metadata": metadata}


def prunable(
    wanted: Iterable[ObjectRef], live: Mapping[ObjectRef, Manifest], owner_uid: str
) -> list[tuple[ObjectRef, Manifest]]:
    """What is the owner's, and not wanted.

    Both must say so, the label and the owner reference: pods, EndpointSlices and claims inherit the labels of
    what made them, and are its matter.
    """
    kept = set(wanted)
    found = []
    for ref, obj in live.items():
        metadata = obj["metadata"]
        labelled = (metadata.get("labels") or {}).get(OWNER_UID_LABEL) == owner_uid
        owned = any(owner.get("uid") == owner_uid for owner in metadata.get("ownerReferences") or ())
        if ref not in kept and labelled and owned and not is_going(obj):
            found.append((ref, obj))
    return found


def is_going(obj: Mapping[str, Any]) -> bool:
    """Whether it is being deleted."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def is_of_predecessor(obj: Mapping[str, Any], manifest: Mapping[str, Any]) -> bool:
    """Whether it is of an owner of the same name that is gone: garbage collection is about to remove it."""
    old, new = _controller(obj), _controller(manifest)
    if old is None or new is None or old.get("uid") == new.get("uid"):
        return False
    return all(old.get(name) == new.get(name) for name in ("apiVersion", "kind", "name"))


def _controller(obj: Mapping[str, Any]) -> Mapping[str, Any] | None:
    owners: list[Mapping[str, Any]] = obj["metadata"].get("ownerReferences") or []
    return next((owner for owner in owners if owner.get("controller")), None)


def is_ours(obj: Mapping[str, Any], owner_uid: str) -> bool:
    """Whether an object may be taken for the owner's: by its controller, else by what we left on it.

    Without a controller it may be from an owner of this name that was deleted with --cascade=orphan, or was
    restored from a backup: it is adopted.
    """
    metadata = obj["metadata"]
    controller = _controller(obj)
    if controller is not None:
        return controller.get("uid") == owner_uid
    managed = (metadata.get("labels") or {}).get(MANAGED_BY) == FIELD_MANAGER
    return managed or bool(applied_fields(obj, FIELD_MANAGER))


def _unchanged(
    current: Mapping[str, Any], stamped: Mapping[str, Any], left: tuple[str, str, str] | None
) -> bool:
    """Whether an apply would change nothing: the same content was applied, and its fields are still ours."""
    content = _hash_of(stamped)
    if _hash_of(current) != content:
        return False
    owned = applied_fields(current, FIELD_MANAGER)
    if left is not None and left[:2] == (current["metadata"]["uid"], content):
        # Exact, also where this cluster's version drops fields, so that we own less than we asked for.
        return digest(owned) == left[2]
    return covers(owned, stamped)


def _hash_of(obj: Mapping[str, Any]) -> str:
    return str((obj["metadata"].get("annotations") or {}).get(APPLIED_HASH) or "")
