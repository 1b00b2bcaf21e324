"""Many Schedulers in one namespace, and the PropertySets that they share."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import CONFIG_MAP, POD, PROPERTY_SET, SCHEDULER, ObjectRef
from buildgrid_operator.desired.config import FILE_NAME
from buildgrid_operator.desired.names import SCHEDULER_LABEL
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import FleetState, GetStateRequest

from tests.cluster.operator.fleet import PlayedFleet
from tests.cluster.operator.processes import eventually

Json = dict[str, Any]
_THREADS = 8
_LOOK_EVERY = 1.0


class CrowdFleet(PlayedFleet):
    """Looks at all ConfigMaps and pods at most once a second, however often it is asked."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._looking = threading.Lock()
        self._looked = float("-inf")
        self._state = FleetState()
        super().__init__(client, namespace)

    def GetState(self, request: GetStateRequest, context: grpc.ServicerContext) -> FleetState:  # noqa: N802
        """As the real one."""
        with self._looking:
            if time.monotonic() - self._looked > _LOOK_EVERY:
                self._state, self._looked = self._look(), time.monotonic()
            return self._state

    def _look(self) -> FleetState:
        state = FleetState()
        state.time.GetCurrentTime()
        selector = "app.kubernetes.io/component=scheduler"
        maps = self._client.list(CONFIG_MAP, self._namespace, labels=selector).items
        written = {obj["metadata"]["name"]: _hash(obj) for obj in maps}
        for pod in self._client.list(POD, self._namespace, labels=selector).items:
            metadata = pod["metadata"]
            config = written.get(f"{metadata['labels'][SCHEDULER_LABEL]}-config", "")
            state.replicas.add(id=metadata["uid"], host=metadata["name"], version="0.1.0", config_hash=config)
        return state


class Crowd:
    """`size` Schedulers take turns with `sets` PropertySets."""

    def __init__(self, client: Client, namespace: str, example: Json, *, size: int, sets: int) -> None:
        self._client = client
        self._namespace = namespace
        self._example = example
        self._size = size
        self._sets = sets
        self._edits = 0

    def create(self) -> None:
        """All of them, as fast as it goes."""
        self._each(self._create_set, self._sets)
        self._each(self._create_scheduler, self._size)

    def edit(self, times: int) -> str:
        """So many edits of the PropertySets in turn; returns what the last one of each begins with."""
        begun, self._edits = self._edits, self._edits + times
        self._each(lambda number: self._patch(number % self._sets, f"edit-{begun + number}"), times)
        return self.edit_each()

    def edit_each(self) -> str:
        """One edit of each PropertySet; returns what all Schedulers should have then."""
        self._edits += 1
        marker = f"mark-{self._edits}"
        self._each(lambda number: self._patch(number, marker), self._sets)
        return marker

    def settles(self, marker: str = "", timeout: float = 60) -> None:
        """Wait until all are ready, and replicas have the configuration with the marker in it."""
        eventually(partial(self._is_settled, marker), f"all have {marker or 'come up'}", timeout)

    def _is_settled(self, marker: str) -> bool:
        maps = self._client.list(CONFIG_MAP, self._namespace, labels="app.kubernetes.io/component=scheduler")
        hashes = {
            obj["metadata"]["labels"][SCHEDULER_LABEL]: _hash(obj)
            for obj in maps.items
            if marker in obj["data"][FILE_NAME]
        }
        schedulers = self._client.list(SCHEDULER, self._namespace).items
        done = [obj for obj in schedulers if _is_applied(obj, hashes.get(obj["metadata"]["name"]))]
        return len(done) == self._size

    @staticmethod
    def _each(act: Callable[[int], object], times: int) -> None:
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(act, range(times)))

    def _patch(self, number: int, key: str) -> None:
        ref = ObjectRef(PROPERTY_SET, self._namespace, f"set-{number}")
        self._client.patch_merge(ref, {"spec": {"dynamic": {"wildcardKeys": [key]}}})

    def _create_set(self, number: int) -> None:
        self._create("PropertySet", f"set-{number}", {"dynamic": {"matchKeys": ["OSFamily", "ISA"]}})

    def _create_scheduler(self, number: int) -> None:
        spec = {**self._example["spec"], "propertySetRef": {"name": f"set-{number % self._sets}"}}
        self._create("Scheduler", f"s{number}", spec)

    def _create(self, kind: str, name: str, spec: Json) -> None:
        metadata = {"name": name, "namespace": self._namespace}
        version = self._example["apiVersion"]
        self._client.create({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})


def _hash(config_map: Json) -> str:
    return hashlib.sha256(config_map["data"][FILE_NAME].encode()).hexdigest()


def _is_applied(scheduler: Json, config_hash: str | None) -> bool:
    status = scheduler.get("status") or {}
    return status.get("configHash") == config_hash and set(_true(status)) >= {"Ready", "ConfigApplied"}


def _true(status: Json) -> Iterator[str]:
    return (each["type"] for each in status.get("conditions", ()) if each["status"] == "True")
