"""Execution (REAPI): actions in, operations out."""

import logging
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import timedelta
from time import monotonic

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import ExecutionServicer
from google.longrunning.operations_proto_pb2 import Operation
from google.protobuf.message import DecodeError

from buildgrid_scheduler.auth.identity import Owner
from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.core.errors import InvalidArgument, NotFound, SchedulerError, Unavailable
from buildgrid_scheduler.core.instance import split_qualified
from buildgrid_scheduler.core.job_state import JobState, Stage, operation_message
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine.abandoned import note_followed
from buildgrid_scheduler.engine.engine import Engine, new_job_name
from buildgrid_scheduler.engine.items import Enqueue, NewJob
from buildgrid_scheduler.engine.operations import unknown_operation
from buildgrid_scheduler.integrations.integrations import Integrations
from buildgrid_scheduler.notifier.watches import Watch
from buildgrid_scheduler.properties.property_set import PropertySet
from buildgrid_scheduler.services.actions import ActionReader
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.digest_function import check_digest_function
from buildgrid_scheduler.services.errors import Context, streaming_rpc
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.services.request_metadata import request_metadata_of
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
from buildgrid_scheduler.storage.cached_response import cached_response, response_of
from buildgrid_scheduler.store.action_cache import PostgresActionCache
from buildgrid_scheduler.store.shared_rows import ClientIdentities

log = logging.getLogger(__name__)

REPEAT_AFTER = 30.0
"""Seconds of silence after which an operation is sent again, so that proxies keep the stream."""


@dataclass(frozen=True, slots=True)
class ExecutionSettings:
    """What clients may ask for."""

    max_execution_timeout: timedelta = timedelta(hours=2)
    check_input_tree: bool = False
    """whether an action with inputs that are not in the CAS is refused, instead of failing on a bot"""


class ExecutionService(ExecutionServicer):
    """A waiting client costs a coroutine and a Watch."""

    def __init__(
        self,
        engine: Engine,
        property_set: PropertySet,
        storage: StorageABC,
        action_cache: ActionCacheABC | None,
        instances: Instances,
        executor: Executor,
        settings: ExecutionSettings | None = None,
        *,
        integrations: Integrations,
        identities: ClientIdentities,
    ) -> None:
        self._engine = engine
        self._property_set = property_set
        self._storage = storage
        self._cache = action_cache
        self._instances = instances
        self._blocking = Blocking(executor)
        self._actions = ActionReader(storage, self._blocking)
        self._integrations = integrations
        self._identities = identities
        self._settings = settings or ExecutionSettings()

    def reconfigure(self, property_set: PropertySet, settings: ExecutionSettings) -> None:
        """For the calls from now on."""
        self._property_set = property_set
        self._settings = settings

    @streaming_rpc
    async def Execute(self, request: re_pb2.ExecuteRequest, context: Context) -> AsyncIterator[Operation]:
        """See the REAPI text. FAILED_PRECONDITION names the blobs that are missing.

        The input tree is looked at only for an action that has to run, since one with a result needs no
        inputs. Whether it could share a running job is decided later: such a one is looked at, too.
        """
        settings = self._settings
        instance = self._instances.check(request.instance_name, Right.EXECUTE)
        identity = self._instances.access.authorize(Right.EXECUTE, instance)
        check_digest_function(request.digest_function)
        spec = await self._actions.read(request.action_digest, check_input_tree=settings.check_input_tree)
        _check_timeout(spec.action, settings.max_execution_timeout)
        label, requirements = self._property_set.execution_properties(spec.platform)
        digest = digest_key(request.action_digest)
        owner = None if identity is None else identity.owner_in(instance)
        priority = await self._integrations.checked_priority_async(owner, request.execution_policy.priority)
        name = str(uuid.uuid4())
        watch = Watch(name)
        job = NewJob(
            name=new_job_name(),
            instance=instance,
            action_digest=digest,
            action=spec.serialized,
            do_not_cache=spec.action.do_not_cache,
            priority=priority,
            requirement_hash=requirement_hash(requirements),
            requirements=requirements,
            property_label=label,
            command=spec.command_line,
        )
        if not spec.action.do_not_cache and not request.skip_cache_lookup:
            await self._look_up(job, request.action_digest, at_once=settings.check_input_tree)
        if settings.check_input_tree and job.response is None:
            await self._actions.check_inputs(spec.action)
        owner_id = await self._identity_id(owner)
        enqueue = Enqueue(self._engine.ticket(), name, job, request_metadata_of(context), owner_id, watch)
        enqueued = await self._engine.enqueue(enqueue)
        if enqueued.cached is not None:
            job.look_up = False
            job.response = await self._response_of(enqueued.cached, digest)
            enqueued = await self._engine.enqueue(replace(enqueue, ticket=self._engine.ticket()))
        self._integrations.operation_made(owner, name)
        if not enqueued.shared and job.response is None:
            self._integrations.job_queued(instance, digest, spec.serialized)
        try:
            async for operation in self._follow(instance, watch):
                yield operation
        finally:
            self._unfollow(watch)

    async def _identity_id(self, owner: Owner | None) -> int | None:
        if owner is None:
            return None
        known = self._identities.known(owner)
        return known if known is not None else await self._blocking(self._identities.id_of, owner)

    @streaming_rpc
    async def WaitExecution(
        self, request: re_pb2.WaitExecutionRequest, context: Context
    ) -> AsyncIterator[Operation]:
        """Follow an operation that was made before, here or on another replica. NOT_FOUND if unknown."""
        instance, name = split_qualified(request.name)
        self._instances.access.authorize(Right.EXECUTE, instance)
        loaded = await self._engine.load(name)
        if loaded is None or loaded.instance != instance:
            raise unknown_operation(request.name)
        self._instances.access.authorize_operation(instance, name, loaded.owner)
        watch = Watch(name)
        watch.stale = True  # what happened between the load and the registration
        self._engine.watches.add(loaded.job_name, watch)
        try:
            if loaded.state.stage is not Stage.COMPLETED and not loaded.cancelled:
                await self._engine.call(note_followed([name]))  # from now on it is not cancelled as abandoned
            async for operation in self._follow(instance, watch):
                yield operation
        finally:
            self._unfollow(watch)

    def _unfollow(self, watch: Watch) -> None:
        self._engine.watches.drop(watch)
        if watch.state is None or watch.state.stage is not Stage.COMPLETED:
            self._engine.following.left(watch.operation_name)

    async def _follow(self, instance: str, watch: Watch) -> AsyncIterator[Operation]:
        sent: JobState | None = None
        sent_at = -REPEAT_AFTER
        while True:
            watch.arm()
            state, cancelled = await self._current(instance, watch)
            if cancelled or state != sent or monotonic() - sent_at >= REPEAT_AFTER:
                yield operation_message(instance, watch.operation_name, state, cancelled=cancelled)
                sent, sent_at = state, monotonic()
            if cancelled or state.stage is Stage.COMPLETED:
                return
            if watch.closed or self._engine.leaving:
                raise Unavailable("this replica is shutting down; pick the operation up with WaitExecution")
            if not await watch.changed(max(0.0, sent_at + REPEAT_AFTER - monotonic())):
                watch.stale = True  # the safety net under lost notifications

    async def _current(self, instance: str, watch: Watch) -> tuple[JobState, bool]:
        """The state to tell, loaded where need be; and whether the operation was cancelled."""
        if watch.state is not None and not watch.stale:
            return watch.state, False
        watch.stale = False
        before = watch.state
        try:
            loaded = await self._engine.load(watch.operation_name)
        except Unavailable:
            watch.stale = True
            if watch.state is None:
                raise
            return watch.state, False  # told again, or better, when the database is back
        if loaded is None or loaded.instance != instance:
            raise NotFound(f"operation {watch.operation_name!r} was deleted")
        if watch.state is before:  # otherwise it was told meanwhile what may be newer
            watch.push(loaded.state)
        return watch.state or loaded.state, loaded.cancelled

    async def _look_up(self, job: NewJob, digest: re_pb2.Digest, *, at_once: bool) -> None:
        """Ask a cache that is elsewhere; one in our database is asked by the transaction that enqueues,
        unless the answer has to be known before.
        """
        ours = isinstance(self._cache, PostgresActionCache) and self._engine.settings.store_results
        if ours and not at_once:
            job.look_up = True
        elif self._cache is not None:
            job.response = await self._blocking(
                cached_response, self._cache, self._storage, job.instance, digest
            )

    async def _response_of(self, cached: bytes, digest: str) -> bytes | None:
        """A serialized ExecuteResponse, if all outputs of the ActionResult are in the CAS."""
        try:
            return await self._blocking(response_of, re_pb2.ActionResult.FromString(cached), self._storage)
        except (SchedulerError, DecodeError) as error:
            log.warning("the action cache failed, action %s is run instead: %s", digest, error)
            return None


def _check_timeout(action: re_pb2.Action, limit: timedelta) -> None:
    if not action.HasField("timeout"):
        return
    seconds = action.timeout.seconds + action.timeout.nanos / 1e9
    if not 0 <= seconds <= limit.total_seconds():
        raise InvalidArgument(f"timeout: {seconds:g} s; this server allows 0 to {limit.total_seconds():g} s")
