"""The passes of one Scheduler, and an API server that tells the cache of all it is given, as watches do."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from buildgrid_operator.cluster.client import FIELD_MANAGER, Client
from buildgrid_operator.cluster.fleet import FleetUnreachable
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.cluster.kinds import CONFIG_MAP, SCHEDULER, Kind, Manifest, ObjectRef
from buildgrid_operator.desired import ClusterTokens
from buildgrid_operator.desired.endpoints import FleetAddress
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.event_recorder import EventRecorder
from buildgrid_operator.reconcile.planning import Planner
from buildgrid_operator.reconcile.scheduler_pass import SchedulerPass
from buildgrid_operator.reconcile.status_writer import StatusWriter
from buildgrid_operator.reconcile.upgrades import Upgrades

from tests.cluster.api.objects import changed, scheduler
from tests.unit.operator.desired.cases import ISSUER, JWKS, SETTINGS

Json = dict[str, Any]
API_VERSION = "buildgrid.build/v1alpha1"
REF = ObjectRef(SCHEDULER, "farm", "main")


class ApiServer:
    """Keeps what it is given, and counts the calls for what the operator makes, not those of its status."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.objects: dict[ObjectRef, Manifest] = {}
        self.calls: list[str] = []
        self.unwatched: set[ObjectRef] = set()
        """that the operator may not watch"""
        self._versions = itertools.count(1000)

    def find(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        self.calls.append(f"find {kind.kind} {name}")
        return self.objects.get(ObjectRef(kind, namespace, name))

    def apply(self, obj: Manifest) -> Manifest:
        self.calls.append(f"apply {obj['kind']} {obj['metadata']['name']}")
        owned = {"manager": FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {}}}
        return self.keep(changed(obj, {"metadata.managedFields": [owned]}))

    def patch_json(self, ref: ObjectRef, operations: list[Json], *, resource_version: str) -> Manifest:
        self.calls.append(f"patch {ref.kind.kind} {ref.name}")
        found = self.objects[ref]
        for each in operations:
            assert each["op"] == "remove"
            *path, last = each["path"].lstrip("/").split("/")
            found = changed(found, {})
            at: Any = found
            for part in path:
                at = at[int(part) if isinstance(at, list) else part]
            del at[int(last)]
        return self.keep(found)

    def patch_status(self, ref: ObjectRef, status: Json, *, resource_version: str) -> Manifest:
        return self.keep({**self.objects[ref], "status": status})

    def keep(self, obj: Manifest) -> Manifest:
        """As the newest version."""
        version = str(next(self._versions))
        metadata = {"uid": f"uid-{version}", **obj["metadata"], "resourceVersion": version}
        kept = {**obj, "metadata": metadata}
        ref = ObjectRef.of(kept)
        self.objects[ref] = kept
        if ref not in self.unwatched:
            self.cache.put(kept)
        return kept


class Silent:
    """Records no event."""

    def record(self, *_: Any) -> None: ...

    def forget(self, *_: Any) -> None: ...


class SchedulerWorld:
    """One Scheduler whose pods never come up."""

    def __init__(self, **spec: Any) -> None:
        self.cache = Cache()
        self.api = ApiServer(self.cache)
        self.settings = SETTINGS
        self.tokens = ClusterTokens(ISSUER, JWKS)
        self._generation = 0
        self.edit(**spec)
        upgrades, client = Upgrades(), cast(Client, self.api)
        writer = StatusWriter(client, self.cache, cast(EventRecorder, Silent()), lambda *_: None)
        self.planner = Planner(self.cache, lambda: self.settings, lambda: self.tokens, _nobody, upgrades)
        self._pass = SchedulerPass(client, self.cache, self.planner, writer, upgrades)

    def edit(self, **spec: Any) -> None:
        """The Scheduler, by its user: fields of its spec."""
        before = self.api.objects.get(REF) or changed(scheduler(), {"status": {}})
        self._generation += 1
        metadata = {"name": "main", "namespace": "farm", "uid": "u", "generation": self._generation}
        obj = {"apiVersion": API_VERSION, "kind": "Scheduler", "metadata": metadata}
        self.api.keep({**obj, "spec": {**before["spec"], **spec}, "status": before["status"]})

    def property_set(self, *keys: str) -> None:
        """Make it, or edit it."""
        self._generation += 1
        metadata = {"name": "set", "namespace": "farm", "uid": "set", "generation": self._generation}
        spec = {"dynamic": {"matchKeys": list(keys)}}
        obj = {"apiVersion": API_VERSION, "kind": "PropertySet", "metadata": metadata, "spec": spec}
        self.api.keep(obj)

    def installed(self, **settings: Any) -> None:
        """The operator's settings change."""
        self.settings = replace(self.settings, **settings)

    def happens(self, kind: Kind, name: str, change: Callable[[Manifest], Manifest] | None) -> None:
        """Somebody changes an object, or deletes it (None)."""
        ref = ObjectRef(kind, "farm", name)
        found = self.api.objects[ref]
        if change is not None:
            self.api.keep(change(found))
        else:
            self.cache.remove(self.api.keep(found))
            del self.api.objects[ref]

    def run(self) -> list[str]:
        """A pass; returns its calls."""
        self.api.calls.clear()
        self._pass.run(REF)
        return list(self.api.calls)

    def at_rest(self) -> "SchedulerWorld":
        """All was made and seen."""
        for _ in range(3):
            self.run()
        assert self.run() == []
        return self

    def configuration(self) -> str:
        """What the replicas would read."""
        found = self.api.objects[ObjectRef(CONFIG_MAP, "farm", "main-config")]
        return str(found["data"]["scheduler.yaml"])


def _nobody(address: FleetAddress) -> FleetState:
    raise FleetUnreachable("nobody answers")
