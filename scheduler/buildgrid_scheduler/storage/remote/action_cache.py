"""The action cache of any server that speaks REAPI."""

import time
from collections.abc import Callable
from datetime import timedelta

import grpc
from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    Digest,
    GetActionResultRequest,
    UpdateActionResultRequest,
)

from buildgrid_scheduler.core.errors import NotFound, SchedulerError
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
from buildgrid_scheduler.storage.outages import DEFAULT_TOLERANCE, CallFailed, Outages
from buildgrid_scheduler.storage.remote.connection import RemoteConnection, RemoteEndpoint

# What fails beside a cache that is away is the saving, not the build: rather than wait for minutes, run it.
LOOKUP_TOLERANCE = timedelta(seconds=10)
# A lookup that takes longer than this is slower than most actions.
_LOOKUP_DEADLINE = 10.0
# The protocol has no batches, so calls go out together.
_CALLS_AT_ONCE = 32


class RemoteActionCache(ActionCacheABC):
    """Results of another server.

    `instance_name` None: each instance of ours is kept under its own name there, so that tenants stay apart;
    a name: all share that one. `lookup_tolerance` and `outage_tolerance` are how long the server may be away
    before lookups and updates fail, with Unavailable.
    """

    def __init__(
        self,
        remote: RemoteEndpoint,
        *,
        instance_name: str | None = None,
        allow_updates: bool = True,
        lookup_tolerance: timedelta = LOOKUP_TOLERANCE,
        outage_tolerance: timedelta = DEFAULT_TOLERANCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        outages = Outages(f"the action cache at {remote.endpoint}", outage_tolerance, clock=clock)
        self._connection = RemoteConnection(remote, outages)
        self._instance = instance_name
        self._allow_updates = allow_updates
        self._lookup_tolerance = lookup_tolerance

    def start(self) -> None:
        """FailedPrecondition when the credentials cannot be used; the server is not waited for."""
        self._connection.start()

    def stop_waiting(self) -> None:
        self._connection.outages.stop_waiting()

    def stop(self) -> None:
        self._connection.stop()

    @property
    def allow_updates(self) -> bool:
        return self._allow_updates

    def get_many(self, instance: str, digests: list[Digest]) -> list[ActionResult | None]:
        requests = [
            GetActionResultRequest(instance_name=self._there(instance), action_digest=digest)
            for digest in digests
        ]
        results: list[ActionResult | None] = []
        for start in range(0, len(requests), _CALLS_AT_ONCE):
            results += self._look_up(requests[start : start + _CALLS_AT_ONCE])
        return results

    def update_many(self, instance: str, entries: list[tuple[Digest, ActionResult]]) -> None:
        """All are tried; raises the first error afterwards."""
        last = {digest_key(digest): (digest, result) for digest, result in entries}
        requests = [
            UpdateActionResultRequest(
                instance_name=self._there(instance), action_digest=digest, action_result=result
            )
            for digest, result in last.values()
        ]
        errors: list[SchedulerError] = []
        for start in range(0, len(requests), _CALLS_AT_ONCE):
            errors += self._update(requests[start : start + _CALLS_AT_ONCE])
        if errors:
            raise errors[0]

    def _there(self, instance: str) -> str:
        return instance if self._instance is None else self._instance

    def _look_up(self, requests: list[GetActionResultRequest]) -> list[ActionResult | None]:
        """Together at first; one by one, with more patience, what failed."""
        tried = self._connection.try_together(
            lambda stubs: stubs.action_cache.GetActionResult, requests, _LOOKUP_DEADLINE
        )
        results: list[ActionResult | None] = []
        for request, outcome in zip(requests, tried, strict=True):
            if isinstance(outcome, CallFailed):
                results.append(self._look_up_again(request, outcome))
            else:
                results.append(outcome)
        return results

    def _look_up_again(self, request: GetActionResultRequest, failure: CallFailed) -> ActionResult | None:
        def look_up() -> ActionResult:
            return self._connection.try_call(
                lambda stubs: stubs.action_cache.GetActionResult, request, _LOOKUP_DEADLINE
            )

        if failure.code == grpc.StatusCode.NOT_FOUND:
            return None
        try:
            return self._connection.outages.retrying(
                f"look up action {digest_key(request.action_digest)}",
                look_up,
                tolerance=self._lookup_tolerance,
                failure=failure,
            )
        except NotFound:
            return None

    def _update(self, requests: list[UpdateActionResultRequest]) -> list[SchedulerError]:
        tried = self._connection.try_together(lambda stubs: stubs.action_cache.UpdateActionResult, requests)
        errors: list[SchedulerError] = []
        for request, outcome in zip(requests, tried, strict=True):
            if isinstance(outcome, CallFailed):
                try:
                    self._update_again(request, outcome)
                except SchedulerError as error:
                    errors.append(error)
        return errors

    def _update_again(self, request: UpdateActionResultRequest, failure: CallFailed) -> None:
        self._connection.outages.retrying(
            f"store the result of action {digest_key(request.action_digest)}",
            lambda: self._connection.try_call(lambda stubs: stubs.action_cache.UpdateActionResult, request),
            failure=failure,
        )
