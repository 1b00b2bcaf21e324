"""The bots in the pods of fleets, played: the pods run nothing, the bots are real to the scheduler.

Each pod of a fleet that runs has a bot with its name, which takes leases and completes each after a while.
When its pod is gone, so is the bot: whatever it worked at then was killed, and is counted.
"""

import asyncio
import threading
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import grpc
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError
from buildgrid_operator.cluster.kinds import POD, Manifest
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import COMPLETED, PENDING, Lease

from tests.farm.bots import Bot, active, cancelled, completed

COMPONENT = "app.kubernetes.io/component=bot"
_LOOK = 0.1
_HOLD = 5.0


class PlayedBots:
    """Of all fleets of a namespace, on a thread of its own, until `close`."""

    def __init__(self, client: Client, namespace: str, endpoint: str) -> None:
        self._client = client
        self._namespace = namespace
        self._endpoint = endpoint
        self.seconds = 0.0
        """that an action takes"""
        self.start_seconds = 0.0
        """from when a pod runs until its bot opens a session"""
        self.silent: set[str] = set()
        """fleets whose bots never open a session"""
        self.killed: list[str] = []
        """leases that a bot had when its pod went"""
        self.completed = 0
        self.by_bot: Counter[str] = Counter()
        """completed leases"""
        self.most = 0
        """pods of bots that ran at the same time"""
        self.first_lease: datetime | None = None
        self._bots: dict[str, asyncio.Task[None]] = {}
        self._held: dict[str, set[str]] = {}
        self._names: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """All bots are gone."""
        self._stop.set()
        self._thread.join(30)

    @property
    def busy(self) -> set[str]:
        """UIDs of pods whose bots hold leases now."""
        return {uid for uid, held in dict(self._held).items() if held}

    def names(self, uids: set[str]) -> list[str]:
        """Of these pods."""
        return sorted(self._names[uid] for uid in uids)

    async def _run(self) -> None:
        async with grpc.aio.insecure_channel(self._endpoint) as channel:
            while not self._stop.is_set():
                with suppress(ClusterError):
                    self._look(await asyncio.to_thread(self._pods), channel)
                await asyncio.sleep(_LOOK)
            for task in self._bots.values():
                task.cancel()

    def _pods(self) -> tuple[Manifest, ...]:
        return self._client.list(POD, self._namespace, labels=COMPONENT).items

    def _look(self, pods: tuple[Manifest, ...], channel: grpc.aio.Channel) -> None:
        there = {pod["metadata"]["uid"]: pod for pod in pods}
        running = {uid: pod for uid, pod in there.items() if _runs(pod)}
        self.most = max(self.most, len(running))
        for uid in [uid for uid in self._bots if uid not in there]:
            self._bots.pop(uid).cancel()
            self.killed += sorted(self._held.pop(uid, ()))
        for uid, pod in running.items():
            fleet = pod["metadata"]["labels"]["buildgrid.build/fleet"]
            if uid not in self._bots and fleet not in self.silent:
                self._held[uid] = set()
                self._names[uid] = pod["metadata"]["name"]
                self._bots[uid] = asyncio.create_task(self._play(uid, pod, channel))

    async def _play(self, uid: str, pod: Manifest, channel: grpc.aio.Channel) -> None:
        environment = _environment(pod)
        bot = Bot(
            channel,
            environment.get("BUILDGRID_BOT_INSTANCE", ""),
            pod["metadata"]["name"],
            properties=_pairs(environment["BUILDGRID_BOT_PROPERTIES"]),
            worker_properties=_pairs(environment["BUILDGRID_BOT_WORKER_PROPERTIES"]),
            capacity=int(environment.get("BUILDGRID_BOT_SLOTS", "1")),
            long_poll=True,
        )
        await asyncio.sleep(self.start_seconds)
        while True:
            try:
                told = await bot.open()
                await self._work(uid, bot, told)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.2)

    async def _work(self, uid: str, bot: Bot, told: list[Lease]) -> None:
        begun: dict[str, float] = {}
        loop = asyncio.get_running_loop()
        while True:
            now, report = loop.time(), []
            for lease in told:
                if lease.state == PENDING:
                    self.first_lease = self.first_lease or datetime.now(UTC)
                    begun[lease.id] = now
                    self._held[uid].add(lease.id)
                    report.append(active(lease))
                elif lease.id not in begun:
                    report.append(cancelled(lease))
                elif now - begun[lease.id] >= self.seconds:
                    report.append(completed(lease))
                else:
                    report.append(active(lease))
            done = {lease.id for lease in report if lease.state == COMPLETED}
            waits = bool(report) and not done
            if waits:
                await asyncio.sleep(min(0.2, self.seconds))
            # The scheduler knows of it before its answer comes, and may let the bot go.
            self._held[uid] -= done
            self.completed += len(done)
            self.by_bot[bot.bot_id] += len(done)
            told = await bot.update(*report, timeout=_HOLD if not report else 3.5)


def _runs(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _environment(pod: Manifest) -> dict[str, str]:
    container: dict[str, Any] = next(each for each in pod["spec"]["containers"] if each["name"] == "bot")
    return {each["name"]: each.get("value", "") for each in container.get("env", ())}


def _pairs(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if line)
