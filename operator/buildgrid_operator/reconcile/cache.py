"""What the operator knows of the cluster: the newest version of each object that it saw. Thread-safe.

It is fed by watches, by lists, and by the answers to the operator's own writes, which may be newer than what
the watches have shown so far. Of two versions of an object the newer one counts.
"""

import threading
from collections.abc import Mapping
from typing import Any

from buildgrid_operator.cluster.client import Listing
from buildgrid_operator.cluster.kinds import (
    BOT_FLEET,
    NODE,
    POD,
    PROPERTY_SET,
    SCHEDULER,
    Kind,
    Manifest,
    ObjectRef,
)
from buildgrid_operator.desired.bots.names import FLEET_LABEL
from buildgrid_operator.desired.names import SCHEDULER_LABEL
from buildgrid_operator.reconcile.farm_key import scheduler_of, scheduler_of_stray
from buildgrid_operator.reconcile.references import References

_REMEMBERED = 4096
"""deleted objects that are remembered, so that a late event does not bring them back"""


class Cache:
    """The custom resources, nodes, and what belongs to Schedulers and BotFleets by its label."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._objects: dict[ObjectRef, Manifest] = {}
        self._children: dict[ObjectRef, set[ObjectRef]] = {}
        self._deleted: dict[str, str] = {}
        self._references = References()
        self._fleets = References()
        self._strays = References()

    def put(self, obj: Manifest) -> bool:
        """An object as it is now, or was lately. False when that is no news."""
        with self._lock:
            return self._put(obj)

    def remove(self, obj: Mapping[str, Any]) -> bool:
        """An object that was deleted. False when that is no news; a namesake that was made since stays."""
        with self._lock:
            ref, uid = ObjectRef.of(obj), obj["metadata"].get("uid") or ""
            # One that has lost the labels of its watch is told to be deleted, too: it may come back.
            self._bury(uid, obj["metadata"].get("resourceVersion") or "")
            known = self._objects.get(ref)
            if known is None or known["metadata"].get("uid") != uid or is_newer(known, obj):
                return False
            self._drop(ref)
            return True

    def discard(self, ref: ObjectRef, uid: str) -> None:
        """The object was found to be gone."""
        with self._lock:
            known = self._objects.get(ref)
            if known is not None and known["metadata"].get("uid") == uid:
                self._bury(uid, known["metadata"].get("resourceVersion") or "")
                self._drop(ref)

    def replace(self, kind: Kind, namespace: str | None, listing: Listing) -> list[Manifest]:
        """All objects of a kind, in a namespace or in all, as they were listed.

        Returns those that are news, the ones that are gone included. What is newer here stays as it is.
        """
        with self._lock:
            listed = {ObjectRef.of(item) for item in listing.items}
            news = [item for item in listing.items if self._put(item)]
            for ref, obj in list(self._objects.items()):
                here = ref.kind == kind and (namespace is None or ref.namespace == namespace)
                if here and ref not in listed and not _is_after(obj, listing.resource_version):
                    self._drop(ref)
                    news.append(obj)
            return news

    def forget(self, kind: Kind) -> list[Manifest]:
        """The cluster serves the kind no more: its objects are gone. Returns those that were known."""
        with self._lock:
            gone = [(ref, obj) for ref, obj in self._objects.items() if ref.kind == kind]
            for ref, _ in gone:
                self._drop(ref)
            return [obj for _, obj in gone]

    def get(self, ref: ObjectRef) -> Manifest | None:
        """The object, or None. It is shared: not to be changed."""
        with self._lock:
            return self._objects.get(ref)

    def all(self, kind: Kind) -> list[Manifest]:
        """All objects of a kind."""
        with self._lock:
            return [obj for ref, obj in self._objects.items() if ref.kind == kind]

    def children(self, owner: ObjectRef) -> dict[ObjectRef, Manifest]:
        """What carries the label of a Scheduler or a BotFleet in its namespace, without pods."""
        with self._lock:
            refs = self._children.get(owner, ())
            return {ref: self._objects[ref] for ref in refs if ref.kind != POD}

    def pods(self, owner: ObjectRef) -> list[Manifest]:
        """The pods of a Scheduler or a BotFleet, by name."""
        with self._lock:
            refs = [ref for ref in self._children.get(owner, ()) if ref.kind == POD]
            return [self._objects[ref] for ref in sorted(refs, key=lambda ref: ref.name)]

    def fleets(self, scheduler: ObjectRef) -> list[Manifest]:
        """The BotFleets that refer to a Scheduler, which need not exist, by name."""
        with self._lock:
            return [self._objects[ref] for ref in self._fleets.users(scheduler)]

    def strays(self, scheduler: ObjectRef) -> list[Manifest]:
        """The bot pods of a Scheduler, which need not exist, that their BotFleets have left behind."""
        with self._lock:
            return [self._objects[ref] for ref in self._strays.users(scheduler)]

    def users(self, property_set: ObjectRef) -> list[ObjectRef]:
        """The Schedulers that refer to a PropertySet, which need not exist."""
        with self._lock:
            return self._references.users(property_set)

    def used_by(self, scheduler: ObjectRef) -> ObjectRef | None:
        """The PropertySet that a Scheduler refers to."""
        with self._lock:
            return self._references.target(scheduler)

    def _put(self, obj: Manifest) -> bool:
        ref = ObjectRef.of(obj)
        metadata = obj["metadata"]
        gone = self._deleted.get(metadata.get("uid") or "")
        if gone is not None and not _is_after(obj, gone):
            return False
        known = self._objects.get(ref)
        if known is not None and not is_newer(obj, known):
            return False
        self._objects[ref] = _slim(obj, ref.kind)
        previous = None if known is None else owner_of(known)
        owner = owner_of(obj)
        if previous is not None and previous != owner:
            self._detach(previous, ref)
        if owner is not None:
            self._children.setdefault(owner, set()).add(ref)
        if ref.kind == SCHEDULER:
            self._references.set(ref, reference_of(obj))
        elif ref.kind == BOT_FLEET:
            self._fleets.set(ref, scheduler_of(obj))
        elif ref.kind == POD:
            self._strays.set(ref, scheduler_of_stray(obj))
        return True

    def _drop(self, ref: ObjectRef) -> None:
        obj = self._objects.pop(ref)
        owner = owner_of(obj)
        if owner is not None:
            self._detach(owner, ref)
        self._references.forget(ref)
        self._fleets.forget(ref)
        self._strays.forget(ref)

    def _detach(self, owner: ObjectRef, ref: ObjectRef) -> None:
        refs = self._children.get(owner)
        if refs is not None:
            refs.discard(ref)
            if not refs:
                del self._children[owner]

    def _bury(self, uid: str, version: str) -> None:
        if uid:
            self._deleted[uid] = version
            if len(self._deleted) > _REMEMBERED:
                self._deleted.pop(next(iter(self._deleted)))


def is_newer(obj: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether a version of an object comes after another one (resourceVersions of a resource are ordered)."""
    version = known["metadata"].get("resourceVersion") or ""
    return obj["metadata"].get("resourceVersion") != version and _is_after(obj, version)


def _is_after(obj: Mapping[str, Any], version: str) -> bool:
    try:
        return int(obj["metadata"]["resourceVersion"]) > int(version)
    except (KeyError, ValueError):
        return True


def owner_of(obj: Mapping[str, Any]) -> ObjectRef | None:
    """The Scheduler or BotFleet that an object belongs to, by its label."""
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    for kind, label in ((SCHEDULER, SCHEDULER_LABEL), (BOT_FLEET, FLEET_LABEL)):
        if name := labels.get(label):
            return ObjectRef(kind, metadata.get("namespace") or "", name)
    return None


def reference_of(scheduler: Mapping[str, Any]) -> ObjectRef | None:
    """The PropertySet that a Scheduler refers to, whether or not its spec is valid."""
    spec = scheduler.get("spec")
    reference = spec.get("propertySetRef") if isinstance(spec, Mapping) else None
    name = reference.get("name") if isinstance(reference, Mapping) else None
    namespace = scheduler["metadata"].get("namespace") or ""
    return ObjectRef(PROPERTY_SET, namespace, name) if isinstance(name, str) and name else None


def _slim(obj: Manifest, kind: Kind) -> Manifest:
    """Without what nobody looks at: managedFields are half of an object, a node's status most of it."""
    if kind == NODE:
        obj = {name: value for name, value in obj.items() if name != "status"}
    elif kind not in (SCHEDULER, PROPERTY_SET, BOT_FLEET, POD):
        return obj
    if "managedFields" not in obj["metadata"]:
        return obj
    metadata = {name: value for name, value in obj["metadata"].items() if name != "managedFields"}
    return {**obj, "metadata": metadata}
