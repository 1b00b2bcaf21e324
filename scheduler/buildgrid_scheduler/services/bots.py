"""Bots (RWAPI): sessions and leases."""

import asyncio
import logging
import time
import uuid
from datetime import timedelta
from functools import lru_cache
from typing import cast
from urllib.parse import unquote

from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2_grpc import BotsServicer
from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty

from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.clock import to_timestamp
from buildgrid_scheduler.core.errors import InvalidArgument, Unimplemented, UnknownSession
from buildgrid_scheduler.core.instance import qualified, split_qualified
from buildgrid_scheduler.core.job_state import ACTION_TYPE
from buildgrid_scheduler.core.lease_metadata import trailing_metadata
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.engine.engine import Engine
from buildgrid_scheduler.engine.items import Report, Synchronize, Synchronized
from buildgrid_scheduler.engine.log_streams import load_lease_metadata
from buildgrid_scheduler.engine.sessions import NewSession
from buildgrid_scheduler.logstreams.lease_streams import LeaseStreams
from buildgrid_scheduler.properties.matching import Matching
from buildgrid_scheduler.properties.property_set import PropertySet
from buildgrid_scheduler.services.errors import Context, rpc
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.services.limits import MAX_BATCH_BYTES

log = logging.getLogger(__name__)

PARTIAL_METADATA_PREFIX = "partial-execution-metadata-"
HOLD_WITHOUT_DEADLINE = 300.0
SHORTEST_HOLD = 3.0
CAPACITY_CLASS = "capacity-class"
"""the worker property (not of a device) that names the capacity class"""
FLEET_UID, CLUSTER_UID = "fleet-uid", "cluster-uid"
"""the worker properties that say which fleet of bots, in which cluster, a bot belongs to"""
HOLD_SHARE = 0.8  # of the caller's deadline: the answer must be there before it
MAX_CAPACITY = 1024
MAX_CAPACITY_CLASS = 100
MAX_UID = 100


class BotsService(BotsServicer):
    """A waiting bot costs a coroutine and an entry in `assigner.WaitingBots`."""

    def __init__(
        self,
        engine: Engine,
        property_set: PropertySet,
        instances: Instances,
        keepalive: timedelta,
        lease_streams: LeaseStreams | None = None,
    ) -> None:
        """`lease_streams`: makes the log streams that bots are told of, where there is a service for them."""
        self._engine = engine
        self._matching = Matching(property_set)
        self._instances = instances
        self._lease_streams = lease_streams
        self._keepalive = keepalive.total_seconds()
        self._offers = lru_cache(maxsize=10_000)(self._offer)

    def reconfigure(self, property_set: PropertySet, keepalive: timedelta) -> None:
        """For the calls from now on; what a bot that waits may take is looked at when it calls again."""
        self._matching = Matching(property_set)
        self._keepalive = keepalive.total_seconds()
        self._offers.cache_clear()

    @rpc
    async def CreateBotSession(
        self, request: bots_pb2.CreateBotSessionRequest, context: Context
    ) -> bots_pb2.BotSession:
        """Open a session, closing an older one of the same bot, and wait a while for work."""
        instance = self._instances.check(request.parent, Right.RUN_BOTS)
        session = request.bot_session
        if not session.bot_id:
            raise InvalidArgument("bot_session.bot_id is empty; give each bot an identifier of its own")
        if "\0" in session.bot_id or len(session.bot_id) > 500:
            raise InvalidArgument("bot_session.bot_id has a NUL or is longer than 500 characters")
        self._instances.access.authorize_bot(instance, session.bot_id)
        if session.leases:
            raise InvalidArgument("bot_session.leases: a new session has none; report them in an update")
        name = str(uuid.uuid4())
        offer = self._offers(session.worker.SerializeToString(deterministic=True))
        opened = NewSession(
            name,
            instance,
            session.bot_id,
            _status(session),
            _capacity(session),
            offer,
            session.version[:200],
            _worker_property(session, CAPACITY_CLASS, MAX_CAPACITY_CLASS),
            _address(context),
            _worker_property(session, FLEET_UID, MAX_UID),
            _worker_property(session, CLUSTER_UID, MAX_UID),
        )
        try:
            await self._engine.call(self._engine.sessions.open(opened))
        except asyncio.CancelledError:
            self._engine.held.never_named(name)
            raise
        session.name = qualified(instance, name)
        log.info("bot session opened", extra={"bot": session.bot_id, "session": name, "instance": instance})
        return await self._synchronize(instance, name, session, offer, context, just_opened=True)

    @rpc
    async def UpdateBotSession(
        self, request: bots_pb2.UpdateBotSessionRequest, context: Context
    ) -> bots_pb2.BotSession:
        """Take a bot's report, and tell it what to hold; wait a while for work where a slot is free."""
        session = request.bot_session
        if request.name != session.name:
            raise InvalidArgument(
                f"name {request.name!r} and bot_session.name {session.name!r} differ; send the session's own"
            )
        instance, name = split_qualified(request.name)
        self._instances.check(instance, Right.RUN_BOTS)
        self._instances.access.authorize_bot(instance, session.bot_id)
        offer = self._offers(session.worker.SerializeToString(deterministic=True))
        return await self._synchronize(instance, name, session, offer, context)

    @rpc
    async def PostBotEventTemp(self, request: bots_pb2.PostBotEventTempRequest, context: Context) -> Empty:
        """Not offered."""
        raise Unimplemented("PostBotEventTemp is not offered; write events to the bot's log")

    def _offer(self, worker: bytes) -> Offer:
        session = bots_pb2.BotSession()
        session.worker.ParseFromString(worker)
        return self._matching.offer(session)

    async def _synchronize(
        self,
        instance: str,
        name: str,
        session: bots_pb2.BotSession,
        offer: Offer,
        context: Context,
        *,
        just_opened: bool = False,
    ) -> bots_pb2.BotSession:
        item = Synchronize(
            self._engine.ticket(),
            instance,
            name,
            session.bot_id,
            _status(session),
            _reports(session, context),
            offer,
            hold_full=_has_config(session, "long-poll-full", "always"),
            patient_until=_patient_until(context),
        )
        try:
            result = await self._engine.synchronize(item, hold=self._hold(session, context))
        except UnknownSession:
            await self._raise_if_taken_over(item, was_open=just_opened or item.woken)
            raise
        if self._lease_streams is not None and result.leases:
            try:
                await self._tell_streams(self._lease_streams, item, result, context)
            except asyncio.CancelledError:
                self._engine.held.broke_off(item, result)
                raise
        _answer(session, result)
        return session

    async def _raise_if_taken_over(self, item: Synchronize, *, was_open: bool) -> None:
        """Whoever calls for a session that is not there, lives: the proof that two bots use one bot_id."""
        sessions = self._engine.sessions
        takeover = await self._engine.call(
            sessions.find_takeover(item.instance, item.session_name, item.bot_id, item.reports.keys())
        )
        if takeover is not None:
            sessions.warnings.note(takeover)
            raise takeover.error(was_open=was_open)

    async def _tell_streams(
        self, lease_streams: LeaseStreams, item: Synchronize, result: Synchronized, context: Context
    ) -> None:
        """Trailing metadata say where to stream the output of each lease; new ones come first."""
        new = [t.job_name for t in result.leases if t.action is not None and t.job_name not in item.reports]
        await lease_streams.of_new_leases(item.instance, item.session_name, new)
        told = sorted((t.job_name for t in result.leases), key=lambda job: job in item.reports)
        leases = await self._engine.call(load_lease_metadata(item.instance, told))
        context.set_trailing_metadata(tuple(trailing_metadata(leases)))

    def _hold(self, session: bots_pb2.BotSession, context: Context) -> float:
        """For how many seconds the call may be held when there is nothing to say."""
        busy = any(lease.state in (bots_pb2.PENDING, bots_pb2.ACTIVE) for lease in session.leases)
        full = _has_config(session, "long-poll-full", "always")
        if session.status != bots_pb2.OK and not (busy and full):
            return 0
        if busy and not full and not _has_config(session, "long-poll", "always"):
            return 0
        remaining = _remaining(context)
        if remaining is None:
            hold = min(HOLD_WITHOUT_DEADLINE, HOLD_SHARE * self._keepalive)
        else:
            hold = HOLD_SHARE * min(remaining, self._keepalive)
        return hold if hold >= SHORTEST_HOLD else 0


def _status(session: bots_pb2.BotSession) -> BotStatus:
    try:
        return BotStatus(session.status)
    except ValueError as error:
        raise InvalidArgument(f"bot_session.status {session.status} is not a BotStatus") from error


def _remaining(context: Context) -> float | None:
    """Seconds that the caller waits; none: for ever, of which the stubs do not know."""
    return cast("float | None", context.time_remaining())


def _patient_until(context: Context) -> float:
    remaining = _remaining(context)
    return float("inf") if remaining is None else time.monotonic() + remaining


def _address(context: Context) -> str:
    """Where a call comes from: HOST:PORT. gRPC says SCHEME:ADDRESS, escaped as in a URL."""
    return unquote(context.peer().partition(":")[2])


def _has_config(session: bots_pb2.BotSession, key: str, value: str) -> bool:
    return any(c.key == key and c.value == value for c in session.worker.configs)


def _capacity(session: bots_pb2.BotSession) -> int:
    for config in session.worker.configs:
        if config.key == "capacity":
            value = config.value
            # int takes no thousands of digits.
            if not value.isdecimal() or len(value) > 10 or not 1 <= int(value) <= MAX_CAPACITY:
                raise InvalidArgument(
                    f"worker config capacity is {value[:20]!r}, must be a number from 1 to {MAX_CAPACITY}"
                )
            return int(value)
    return 1


def _worker_property(session: bots_pb2.BotSession, key: str, longest: int) -> str:
    """What the bot says of itself, rather than of its devices; empty for nothing."""
    value = next((p.value for p in session.worker.properties if p.key == key), "")
    if "\0" in value or len(value) > longest:
        raise InvalidArgument(f"worker property {key} has a NUL or is longer than {longest} characters")
    return value


def _reports(session: bots_pb2.BotSession, context: Context) -> dict[str, Report]:
    partial: dict[str, bytes] = {}
    if session.leases:
        for key, value in context.invocation_metadata() or ():
            if key.startswith(PARTIAL_METADATA_PREFIX) and isinstance(value, bytes):
                partial[key.removeprefix(PARTIAL_METADATA_PREFIX).removesuffix("-bin")] = value
    reports: dict[str, Report] = {}
    for lease in session.leases:
        if not lease.id:
            raise InvalidArgument(
                "bot_session.leases: a lease has no id; send leases back as they were handed out"
            )
        if lease.id in reports:
            raise InvalidArgument(f"bot_session.leases: lease {lease.id} is there twice")
        try:
            state = LeaseState(lease.state)
        except ValueError as error:
            raise InvalidArgument(f"lease {lease.id}: state {lease.state} is not a LeaseState") from error
        reports[lease.id] = Report(
            state=state,
            status_code=lease.status.code,
            status_message=lease.status.message,
            status_details=tuple(lease.status.details),
            result=lease.result.value if lease.HasField("result") else None,
            partial_metadata=partial.get(lease.id),
        )
    return reports


def _answer(session: bots_pb2.BotSession, result: Synchronized) -> None:
    """Turn the bot's own message into the answer to it.

    A payload that the bot sent is sent back, as long as all fits into a message that bots take.
    """
    reported = {lease.id: lease for lease in session.leases}
    room = MAX_BATCH_BYTES - sum(len(tell.action) for tell in result.leases if tell.action is not None)
    answers = []
    for tell in result.leases:
        lease = bots_pb2.Lease(id=tell.job_name)
        known = reported.get(tell.job_name)
        if known is not None and tell.action is None and (size := known.payload.ByteSize()) <= room:
            room -= size
            lease.payload.CopyFrom(known.payload)
        lease.state = tell.state  # type: ignore[assignment]
        if tell.action is not None:
            lease.payload.CopyFrom(Any(type_url=ACTION_TYPE, value=tell.action))
        answers.append(lease)
    del session.leases[:]
    session.leases.extend(answers)
    session.expire_time.CopyFrom(to_timestamp(result.expires_at))
