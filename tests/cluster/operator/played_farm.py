"""A farm around a real scheduler: jobs come from a client, bots are played in the pods of fleets."""

import asyncio
import subprocess
import sys
import threading
import uuid
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from buildgrid_operator.cluster.client import Client as Cluster
from buildgrid_operator.cluster.kinds import BOT_FLEET, POD, Manifest, ObjectRef
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecuteResponse

from tests.cluster.operator.played_bots import COMPONENT, PlayedBots
from tests.cluster.operator.processes import eventually
from tests.farm.clients import Client, StubbornClient
from tests.farm.database import Databases
from tests.farm.replica import Replica

T = TypeVar("T")


class PlayedFarm:
    """One scheduler, its clients, and the bots of a namespace's fleets."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path, **scheduler: Any) -> None:
        """`scheduler` goes to the section of its configuration."""
        self._cluster = cluster
        self.namespace = namespace
        self._config = folder / "config.yaml"
        self._databases = Databases()
        self.replica = Replica(folder, self._databases.create(), scheduler=scheduler).start()
        self._pool = ""
        self.bots = PlayedBots(cluster, namespace, self.replica.endpoint)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """All of it."""
        self.bots.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()
        self.replica.close()
        self._databases.close()

    def new_pool(self) -> str:
        """Actions require it from now on; nobody knows yet how long such ones take."""
        self._pool = f"pool-{uuid.uuid4().hex[:8]}"
        return self._pool

    def execute(self, count: int) -> "Future[list[ExecuteResponse]]":
        """So many actions of their own, at once; the answers come later."""
        return self._soon(self._execute(count, {"Pool": self._pool}))

    def drain(self, bot: str, *, undo: bool = False) -> None:
        """As a person does it, by the command."""
        program = Path(sys.executable).with_name("buildgrid-scheduler")
        flags = [f"--config={self._config}", *(["--undo"] if undo else [])]
        subprocess.run([program, "drain", *flags, bot], check=True, timeout=60)

    def status(self, name: str) -> dict[str, Any]:
        """Of a BotFleet; empty if there is none."""
        fleet = self._cluster.find(BOT_FLEET, self.namespace, name) or {}
        return dict(fleet.get("status") or {})

    def pods(self, name: str) -> list[Manifest]:
        """Of a BotFleet: those that are not ending."""
        found = self._cluster.list(POD, self.namespace, labels=f"{COMPONENT},buildgrid.build/fleet={name}")
        return [pod for pod in found.items if not pod["metadata"].get("deletionTimestamp")]

    def has(self, name: str, pods: int, timeout: float = 60.0) -> None:
        """Wait until a BotFleet has exactly so many pods."""
        try:
            eventually(lambda: len(self.pods(name)) == pods, f"{name} has {pods} pods", timeout)
        except AssertionError as error:
            there = [pod["metadata"]["name"] for pod in self.pods(name)]
            raise AssertionError(f"{error}, but {there}; its status is {self.status(name)}") from None

    def ref(self, name: str) -> ObjectRef:
        """Of a BotFleet."""
        return ObjectRef(BOT_FLEET, self.namespace, name)

    async def _execute(self, count: int, platform: Mapping[str, str]) -> list[ExecuteResponse]:
        async with self.replica.open_channel() as channel:
            client, prefix = Client(channel), uuid.uuid4().hex
            names = [f"{prefix}-{number}" for number in range(count)]
            digests = await asyncio.gather(*(client.add_action(name, platform=platform) for name in names))
            return await asyncio.gather(*(StubbornClient(client).run(digest) for digest in digests))

    def _soon(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)
