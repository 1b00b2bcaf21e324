"""Ready: whether this replica can serve. Alive: whether it is worth keeping the process."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from buildgrid_client.digests import digest_of
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer
from prometheus_client import CollectorRegistry

from buildgrid_scheduler.core.errors import SchedulerError
from buildgrid_scheduler.server.metrics import catalogue
from buildgrid_scheduler.storage.abc import StorageABC

log = logging.getLogger(__name__)

NOT_READY_INTERVAL, READY_INTERVAL = 0.5, 5.0  # seconds between two looks
STUCK_AFTER = 60.0
"""Seconds without a turn of the event loop after which the process is taken for stuck."""
ANSWER_WITHIN = 10.0
"""Seconds that a check may take; one that hangs is not begun again before it ends."""


@dataclass(slots=True)
class Check:
    """`problem` blocks, and tells why not, or None. It runs on a thread of its own."""

    name: str
    problem: Callable[[], str | None]
    _running: "asyncio.Future[str | None] | None" = None
    _began: float = 0.0

    async def look(self, executor: ThreadPoolExecutor) -> str | None:
        """Why not; None if all is well."""
        if self._running is None:
            self._began = time.monotonic()
            self._running = asyncio.get_running_loop().run_in_executor(executor, self.problem)
        done, _ = await asyncio.wait((self._running,), timeout=ANSWER_WITHIN)
        if not done:
            return f"{self.name} does not answer, for {time.monotonic() - self._began:.0f} s"
        result, self._running = self._running, None
        try:
            return result.result()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is not ready
            return f"{self.name}: {error}"


class Health:
    """What probes are told. `ready` and `alive` are asked on the monitoring's thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reason: str | None = "starting"
        self._gauge = catalogue.READY.gauge(registry)
        self._turned = time.monotonic()
        self._stuck: Callable[[], str | None] = lambda: None
        self._stopping = False

    def ready(self) -> str | None:
        """Why this replica cannot serve; None if it can."""
        return self._reason

    def alive(self) -> str | None:
        """Why the process should be restarted; None if it should not."""
        if (silent := time.monotonic() - self._turned) > STUCK_AFTER:
            return f"the event loop has not turned for {silent:.0f} s"
        return None if self._stopping else self._stuck()

    def waits(self, reason: str) -> None:
        """Not ready, since something else is not."""
        if not self._stopping:
            self._set(reason)

    def stopping(self) -> None:
        """Not ready any more, for good."""
        self._stopping = True
        self._set("stopping")

    def _set(self, reason: str | None) -> None:
        self._reason = reason
        self._gauge.set(0 if reason else 1)

    async def turn(self) -> None:
        """Note that the event loop turns; runs until it is cancelled."""
        while True:
            self._turned = time.monotonic()
            await asyncio.sleep(1)

    async def watch(
        self,
        checks: Sequence[Check],
        health: HealthServicer,
        services: Sequence[str],
        *,
        stuck: Callable[[], str | None],
    ) -> None:
        """Look again and again, and tell probes over HTTP and gRPC; runs until it is cancelled.

        `stuck`: why the process cannot recover by itself; None if it can, or need not.
        """
        self._stuck = stuck
        told: str | None = "starting"
        executor = ThreadPoolExecutor(len(checks) or 1, thread_name_prefix="health")
        with contextlib.ExitStack() as stack:
            stack.callback(executor.shutdown, wait=False)
            while True:
                reasons = await asyncio.gather(*(check.look(executor) for check in checks))
                reason = stuck() or next(filter(None, reasons), None)
                if self._stopping:
                    return
                self._set(reason)
                if (reason is None) != (told is None) or told == "starting":
                    await _tell(health, ["", *services], ready=reason is None)
                    log.info("ready" if reason is None else f"not ready: {reason}")
                told = reason
                await asyncio.sleep(READY_INTERVAL if reason is None else NOT_READY_INTERVAL)


async def _tell(health: HealthServicer, services: Sequence[str], *, ready: bool) -> None:
    status = health_pb2.HealthCheckResponse
    for name in services:
        await health.set(name, status.SERVING if ready else status.NOT_SERVING)


_ABSENT = digest_of(b"a blob that nobody stores, to see whether the storage answers")


def storage_problem(storage: StorageABC) -> str | None:
    """Ask a storage across the network for something."""
    try:
        storage.has_many([_ABSENT])
    except SchedulerError as error:
        return f"the storage cannot be used: {error}"
    return None
