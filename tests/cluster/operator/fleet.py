"""The Fleet service of all Schedulers of a namespace, or of all, played: their pods need to run nothing."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import CONFIG_MAP, POD
from buildgrid_operator.desired.config import FILE_NAME
from buildgrid_operator.desired.names import SCHEDULER_LABEL
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import FleetState, GetStateRequest, Requirement
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import add_FleetServicer_to_server
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotStatus
from buildgrid_scheduler.core.requirements import requirement_hash

from tests.farm.fleet_servicer import StateOnlyFleet

Properties = dict[str, list[str]]


class PlayedFleet(StateOnlyFleet):
    """Replicas take up whatever is in their ConfigMap, at once, unless they are frozen or refuse it."""

    def __init__(self, client: Client, namespace: str | None) -> None:
        """None: of all namespaces."""
        self._client = client
        self._namespace = namespace
        self._hashes: dict[str, str] = {}
        self._waiting: list[Requirement] = []
        self.frozen = False
        """keep the configuration that they have"""
        self.refuses = ""
        """why they do not take a newer one"""
        self.bots: dict[BotStatus.ValueType, int] = {}
        """how many have a session"""
        self.calls = 0
        self._server = grpc.server(ThreadPoolExecutor(4))
        add_FleetServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    @property
    def endpoint(self) -> str:
        """For --scheduler-endpoint."""
        return f"grpc://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Nobody answers any more."""
        self._server.stop(None).wait()

    def waiting(self, *jobs: tuple[int, Properties], executing: int = 0) -> None:
        """So many jobs wait that require this; of the last ones some execute as well."""
        self._waiting = []
        for queued, properties in jobs:
            requirement = Requirement(
                instance_name="", requirement_hash=requirement_hash(properties), queued=queued
            )
            for key, values in properties.items():
                for value in values:
                    requirement.properties.add(key=key, value=value)
            self._waiting.append(requirement)
        if executing:
            self._waiting.append(Requirement(requirement_hash=requirement_hash({}), executing=executing))

    def GetState(self, request: GetStateRequest, context: grpc.ServicerContext) -> FleetState:  # noqa: N802
        """As the real one."""
        self.calls += 1
        state = FleetState(requirements=self._waiting)
        state.time.GetCurrentTime()
        for status, count in self.bots.items():
            state.bots.add(status=status, count=count)
        selector = "app.kubernetes.io/component=scheduler"
        for pod in self._client.list(POD, self._namespace, labels=selector).items:
            name = pod["metadata"]["name"]
            written = self._written(pod["metadata"])
            if name not in self._hashes or not (self.frozen or self.refuses):
                self._hashes[name] = written
            replica = state.replicas.add(id=f"id-{name}", host=name, version="0.1.0")
            replica.config_hash = self._hashes[name]
            if self.refuses and written != self._hashes[name]:
                replica.refused_config_hash, replica.refused_config_error = written, self.refuses
        return state

    def _written(self, pod: dict[str, Any]) -> str:
        config = f"{pod['labels'][SCHEDULER_LABEL]}-config"
        found = self._client.find(CONFIG_MAP, pod["namespace"], config)
        text = "" if found is None else found["data"].get(FILE_NAME, json.dumps(found["data"]))
        return hashlib.sha256(text.encode()).hexdigest()
