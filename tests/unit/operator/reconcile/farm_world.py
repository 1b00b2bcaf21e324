"""A farm pass with what it needs around it: an API server and a Fleet service that the test may look into."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from buildgrid_operator.api.resource import Metadata
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import (
    AlreadyExists,
    ClusterError,
    NotFound,
    ServerError,
    Unreachable,
)
from buildgrid_operator.cluster.fleet import FleetClient
from buildgrid_operator.cluster.fleet_state import FleetState, Mark, Requirement, Session
from buildgrid_operator.cluster.fleet_streams import FleetStreams, Heard
from buildgrid_operator.cluster.kinds import BOT_FLEET, SCHEDULER, Kind, Manifest, ObjectRef
from buildgrid_operator.desired import build
from buildgrid_operator.desired.bots.names import is_protected, pod_name
from buildgrid_operator.desired.endpoints import FleetAddress
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.event_recorder import EventRecorder
from buildgrid_operator.reconcile.farm_key import FarmKey
from buildgrid_operator.reconcile.farm_pass import FarmPass
from buildgrid_operator.reconcile.fleet_telling import FleetTelling
from buildgrid_operator.reconcile.status_writer import StatusWriter
from buildgrid_operator.reconcile.work_queue import Outcome
from buildgrid_operator.status.events import Happening

from tests.cluster.api.objects import changed, scheduler
from tests.unit.operator.desired.cases import SETTINGS, inputs

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
CLUSTER = "cluster-1"
KEY = FarmKey(ObjectRef(SCHEDULER, "farm", "main"))
Json = dict[str, Any]


class ApiServer:
    """Keeps what it is given."""

    def __init__(self, world: "FarmWorld") -> None:
        self._world = world
        self._numbers = itertools.count(1000)
        self.objects: dict[ObjectRef, Manifest] = {}
        self.down: set[str] = set()
        """namespaces in which a webhook fails"""
        self.refuses: ClusterError | None = None
        """why it takes no pod"""
        self.relabels = False
        """admission takes the fleet's label away"""
        self.loses_answers = 0
        """of so many creates"""
        self.deleted: list[tuple[str, timedelta | None]] = []
        self.patched: list[str] = []
        """pods, by name"""

    def find(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self.objects.get(ObjectRef(kind, namespace, name))

    def apply(self, obj: Manifest, **_: Any) -> Manifest:
        if obj["metadata"]["namespace"] in self.down:
            raise ServerError("a webhook fails", code=500)
        return self.keep(obj)

    def create(self, obj: Manifest, *, dry_run: bool = False) -> Manifest:
        if self.refuses is not None:
            raise self.refuses
        if self.relabels:
            obj = changed(obj, {"metadata.labels": {}})
        if dry_run:
            return obj
        if ObjectRef.of(obj) in self.objects:
            raise AlreadyExists("there is one")
        kept = self.keep(obj)
        if self.loses_answers:
            self.loses_answers -= 1
            raise Unreachable("no answer")
        return kept

    def delete(self, ref: ObjectRef, *, uid: str, grace: timedelta | None = None) -> bool:
        self.deleted.append((ref.name, grace))
        found = self.objects.get(ref)
        if found is None or found["metadata"]["uid"] != uid:
            return False
        self._world.cache.remove(self.keep(found))
        del self.objects[ref]
        return True

    def patch_merge(self, ref: ObjectRef, patch: Json) -> Manifest:
        """Of labels."""
        found, told = self.objects.get(ref), patch["metadata"]
        if found is None or found["metadata"]["uid"] != told["uid"]:
            raise NotFound("there is none")
        self.patched.append(ref.name)
        labels = {**found["metadata"]["labels"], **told["labels"]}
        kept = {key: value for key, value in labels.items() if value is not None}
        return self.keep({**found, "metadata": {**found["metadata"], "labels": kept}})

    def patch_status(self, ref: ObjectRef, status: Json, *, resource_version: str) -> Manifest:
        found = self._world.cache.get(ref)
        assert found is not None
        return self.keep({**found, "status": status})

    def keep(self, obj: Manifest) -> Manifest:
        number = str(next(self._numbers))
        metadata = {"uid": f"uid-{number}", **obj["metadata"], "resourceVersion": number}
        metadata.setdefault("creationTimestamp", self._world.now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        kept = {**obj, "metadata": metadata}
        self.objects[ObjectRef.of(kept)] = kept
        return kept

    def pods(self) -> list[Manifest]:
        return [obj for ref, obj in self.objects.items() if ref.kind.kind == "Pod"]


class FleetService:
    """Does as it is told, unless it is away. What it is told is noted."""

    def __init__(self) -> None:
        self.told: list[tuple[str, tuple[str, ...]]] = []
        self.busy: set[str] = set()

    def drain_if_idle(
        self, address: FleetAddress, instance: str, bots: Sequence[str], owner: str
    ) -> tuple[str, ...]:
        self.told.append((f"if idle in {instance!r}", tuple(bots)))
        return tuple(bot for bot in bots if bot not in self.busy)

    def drain_when_idle(
        self, address: FleetAddress, instance: str, bots: Sequence[str], owner: str, *, disrupted: bool
    ) -> None:
        self.told.append(("disrupted" if disrupted else "when idle", tuple(bots)))

    def undrain(
        self,
        address: FleetAddress,
        instance: str,
        bots: Sequence[str],
        owner: str,
        *,
        busy_only: bool = False,
    ) -> None:
        if bots:
            self.told.append((f"undrain of {owner}", tuple(bots)))


class Nobody:
    """Listens to nothing that matters here."""

    def __init__(self) -> None:
        self.heard = Heard()
        self.events: list[Happening] = []

    def follow(self, *_: Any) -> Heard:
        return self.heard

    def record(self, happening: Happening) -> None:
        self.events.append(happening)

    def unfollow(self, *_: Any) -> None: ...

    def seen(self, *_: Any) -> None: ...

    def gone(self, *_: Any) -> None: ...

    def forget(self, *_: Any) -> None: ...


class FarmWorld:
    """One Scheduler and its fleets."""

    def __init__(self) -> None:
        self.now = NOON
        self.cache = Cache()
        self.api = ApiServer(self)
        self.service = FleetService()
        self.nobody = Nobody()
        self.blind: str | None = None
        self.scheduler()
        self.restart()

    def scheduler(self, **spec: Any) -> None:
        """The Scheduler, with its configuration."""
        marks = {f"spec.{name}": value for name, value in spec.items()}
        obj = changed(scheduler(), {"metadata.name": "main", "spec.allowedFleetNamespaces": ["*"], **marks})
        made = inputs(obj)
        metadata = {"name": "main", "namespace": "farm", "uid": made.metadata.uid, "generation": 1}
        kind = {"apiVersion": "buildgrid.build/v1alpha1", "kind": "Scheduler"}
        self.cache.put(self.api.keep({**kind, "metadata": metadata, "spec": obj["spec"]}))
        for each in build(made).objects:
            if each["kind"] == "ConfigMap":
                self.cache.put(self.api.keep(each))

    def restart(self) -> None:
        """The operator has forgotten what it remembered."""
        self.nobody.heard = Heard()
        nobody = cast(Any, self.nobody)
        client = cast(Client, self.api)
        writer = StatusWriter(
            client, self.cache, cast(EventRecorder, nobody), lambda *_: None, lambda: self.now
        )
        self._pass = FarmPass(
            client,
            self.cache,
            cast(FleetStreams, nobody),
            cast(FleetClient, self.service),
            lambda: SETTINGS,
            lambda: CLUSTER,
            FleetTelling(writer, cast(EventRecorder, nobody), nobody),
            blind=lambda: self.blind,
            clock=lambda: self.now,
        )

    def fleet(self, name: str = "linux", namespace: str = "farm", uid: str = "aaaaaaaa", **spec: Any) -> None:
        """Make a BotFleet, or edit it. The operator's status of it stays."""
        reference = {"name": "main", "namespace": "farm"}
        obj = {
            "apiVersion": "buildgrid.build/v1alpha1",
            "kind": "BotFleet",
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "generation": 1},
            "spec": {"schedulerRef": reference, "image": "example.org/bot:1", **spec},
        }
        before = self.cache.get(ObjectRef.of(obj))
        self.cache.put(self.api.keep({**obj, "status": (before or {}).get("status") or {}}))

    def run(self) -> Outcome:
        """One pass."""
        return self._pass.run(KEY)

    def after(self, seconds: float) -> "FarmWorld":
        """Time passes."""
        self.now += timedelta(seconds=seconds)
        return self

    def hears(self, *parts: Session | Mark | Requirement, database: datetime | None = None) -> "FarmWorld":
        """What the scheduler tells just now, by the database's clock."""
        state = FleetState(
            requirements=tuple(each for each in parts if isinstance(each, Requirement)),
            sessions=tuple(each for each in parts if isinstance(each, Session)),
            marks=tuple(each for each in parts if isinstance(each, Mark)),
            revision=int(self.now.timestamp()),
            time=database or self.now,
        )
        self.nobody.heard = Heard(state, self.now)
        return self

    def all_run(self) -> "FarmWorld":
        """The kubelet has started every pod, which the watch tells."""
        for pod in self.api.pods():
            status = {"phase": "Running", "containerStatuses": [{"name": "bot", "state": {"running": {}}}]}
            self.cache.put(
                self.api.keep({**pod, "spec": {**pod["spec"], "nodeName": "node-1"}, "status": status})
            )
        return self

    def orphan(self, name: str = "linux", namespace: str = "farm") -> None:
        """The BotFleet is deleted with --cascade=orphan: its pods lose their owner."""
        gone = self.api.objects.pop(ObjectRef(BOT_FLEET, namespace, name))
        self.cache.remove(gone)
        for pod in self.api.pods():
            if pod["metadata"]["labels"]["buildgrid.build/fleet"] == name:
                metadata = {**pod["metadata"], "ownerReferences": []}
                self.cache.put(self.api.keep({**pod, "metadata": metadata}))

    def status(self, name: str = "linux", namespace: str = "farm") -> Json:
        """Of a BotFleet."""
        return dict(self.api.objects[ObjectRef(BOT_FLEET, namespace, name)]["status"])

    def conditions(self, name: str = "linux", namespace: str = "farm") -> dict[str, Json]:
        """By type."""
        return {each["type"]: each for each in self.status(name, namespace)["conditions"]}

    def protected(self) -> list[str]:
        """Names of the pods that the PodDisruptionBudget keeps."""
        return [pod["metadata"]["name"] for pod in self.api.pods() if is_protected(pod["metadata"])]

    def names(self) -> list[str]:
        """Of the pods."""
        return [pod["metadata"]["name"] for pod in self.api.pods()]


def bot(number: int, uid: str = "aaaaaaaa", name: str = "linux") -> str:
    """What a fleet's bot is called."""
    return pod_name(Metadata(name=name, uid=uid), number)


def session(
    bot_id: str,
    leases: int = 0,
    *,
    uid: str = "aaaaaaaa",
    instance: str = "",
    connected: datetime = NOON,
) -> Session:
    """Of a bot of a fleet."""
    busy = connected if leases else None
    return Session(instance, bot_id, "OK", 1, leases, connected, busy, "", uid, CLUSTER, 1)


def mark(bot_id: str, leases: int = 0, *, uid: str = "aaaaaaaa", since: datetime = NOON) -> Mark:
    """Of a fleet."""
    return Mark("", bot_id, since, f"{CLUSTER}/{uid}", connected=True, leases=leases)


def mark_of_a_person(bot_id: str, leases: int = 0) -> Mark:
    """Of nobody that is a fleet."""
    return Mark("", bot_id, NOON, connected=True, leases=leases)
