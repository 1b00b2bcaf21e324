"""Keeps actions and results in the CAS through the asset service, in the background."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from buildgrid_client.digests import digest_of, parse_digest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Action, ActionResult, Tree
from google.protobuf.message import DecodeError

from buildgrid_scheduler.assets.client import AssetClient
from buildgrid_scheduler.assets.requests import action_request, result_request, tree_digests
from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.errors import NotFound
from buildgrid_scheduler.outgoing.outbox import DRAIN_SECONDS, Outbox
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.storage.completeness import groups

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionPeriods:
    """How long to keep what; None: nothing is pushed."""

    queued_action: timedelta | None = None
    """from enqueue on"""
    completed_action: timedelta | None = None
    """from completion on"""
    action_result: timedelta | None = None
    """from completion on"""

    @classmethod
    def of_hours(
        cls,
        queued_action: float | None = None,
        completed_action: float | None = None,
        action_result: float | None = None,
    ) -> Self:
        """From hours, of which 0 is None."""
        hours = (queued_action, completed_action, action_result)
        return cls(*(timedelta(hours=h) if h else None for h in hours))


@dataclass(frozen=True, slots=True)
class KeepAction:
    """`serialized` None: it is to be read from the CAS."""

    instance: str
    digest: str
    serialized: bytes | None
    expire_at: datetime


@dataclass(frozen=True, slots=True)
class KeepResult:
    """`serialized` is an ActionResult."""

    instance: str
    serialized: bytes
    expire_at: datetime


class Retention:
    """`action_queued` and `job_completed` return at once; what fails is logged and counted (`outbox`)."""

    def __init__(
        self,
        client: AssetClient,
        storage: StorageABC,
        periods: RetentionPeriods,
        *,
        capacity: int = 2_000,
        threads: int = 4,
        clock: Clock = utc_now,
    ) -> None:
        """The client is started and stopped with this. `threads` push at a time, `capacity` pushes wait."""
        self._client = client
        self._storage = storage
        self._periods = periods
        self._clock = clock
        self.outbox: Outbox[KeepAction | KeepResult] = Outbox(
            "retention", self._send, capacity=capacity, threads=threads
        )

    def start(self) -> None:
        """Start the client and the threads."""
        self._client.start()
        self.outbox.start()

    def stop(self, drain: float = DRAIN_SECONDS) -> None:
        """Push what waits, for at most `drain` seconds, and stop the client."""
        self.outbox.stop(drain)
        self._client.stop()

    def action_queued(self, instance: str, digest: str, serialized: bytes | None = None) -> None:
        """A job for the action `digest` (HASH/SIZE) begins to wait."""
        if self._periods.queued_action is not None:
            expire_at = self._clock() + self._periods.queued_action
            self.outbox.put(KeepAction(instance, digest, serialized, expire_at))

    def job_completed(
        self, instance: str, digest: str, result: ActionResult | None, serialized: bytes | None = None
    ) -> None:
        """A job for the action `digest` is complete. `result` None: it failed without one.

        `serialized` is the action, to be read from the CAS otherwise.
        """
        now = self._clock()
        if self._periods.completed_action is not None:
            self.outbox.put(KeepAction(instance, digest, serialized, now + self._periods.completed_action))
        if self._periods.action_result is not None and result is not None:
            data = result.SerializeToString(deterministic=True)
            self.outbox.put(KeepResult(instance, data, now + self._periods.action_result))

    def _send(self, item: KeepAction | KeepResult) -> None:
        if isinstance(item, KeepAction):
            self._keep_action(item)
        else:
            self._keep_result(item)

    def _keep_action(self, item: KeepAction) -> None:
        digest = parse_digest(item.digest)
        serialized = item.serialized if item.serialized is not None else self._storage.read_one(digest)
        if serialized is None:
            raise NotFound(f"action {item.digest} is not in the CAS any more and cannot be kept")
        action = Action.FromString(serialized)
        self._client.push(action_request(item.instance, digest, action, item.expire_at))

    def _keep_result(self, item: KeepResult) -> None:
        result = ActionResult.FromString(item.serialized)
        trees: list[Tree] = []
        for group in groups(tree_digests(result)):
            for key, data in self._storage.read_many(group).items():
                try:
                    trees.append(Tree.FromString(data))
                except DecodeError:
                    log.warning("retention: blob %s is no Tree; the files in it are not kept", key)
        error = self._storage.write_many([(digest_of(item.serialized), item.serialized)])[0]
        if error is not None:
            raise error
        request, left_out = result_request(item.instance, item.serialized, result, trees, item.expire_at)
        if left_out:
            log.warning("retention: %d files of a result are too many for one asset, and not kept", left_out)
        self._client.push(request)
