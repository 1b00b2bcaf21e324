"""`Scheduler`: the facade. It wires the parts, and is the synchronous door to them."""

import threading
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

import grpc

from buildgrid_scheduler.assets.client import AssetClient
from buildgrid_scheduler.core.attempts import RETRYABLE_STATUS_CODES, AttemptLimits
from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.completed_job import CompletedJob
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.core.job_streams import JobStreams
from buildgrid_scheduler.core.metering import MeteringThrottleAction
from buildgrid_scheduler.engine.engine import Engine
from buildgrid_scheduler.engine.job_metrics import PUBLISH_INTERVAL, JobMetrics
from buildgrid_scheduler.engine.listing import OperationList
from buildgrid_scheduler.engine.log_streams import store_streams
from buildgrid_scheduler.engine.round import RoundSettings
from buildgrid_scheduler.engine.timed_rounds import TimedRounds
from buildgrid_scheduler.facade.bot_methods import BotMethods
from buildgrid_scheduler.facade.operation_methods import OperationMethods
from buildgrid_scheduler.facade.timer_methods import TimerMethods
from buildgrid_scheduler.integrations.build import build_integrations
from buildgrid_scheduler.notifier.listener import Listener
from buildgrid_scheduler.properties.matching import Matching
from buildgrid_scheduler.properties.property_set import PropertySet
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
from buildgrid_scheduler.storage.action_cache_writer import ActionCacheWriter
from buildgrid_scheduler.store.action_cache import PostgresActionCache
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.shared_rows import ClientIdentities
from buildgrid_scheduler.timers.options import (
    ABANDONED_AFTER,
    UNSTARTED_AFTER,
    AgedJobHandlerOptions,
    TimerSettings,
)
from buildgrid_scheduler.timers.timers import Timers

if TYPE_CHECKING:  # of a package that is optional
    from buildgrid_metering.client import SyncMeteringServiceClient


class Scheduler(OperationMethods, BotMethods, TimerMethods):
    """A replica of the scheduler, embedded in the calling program.

    The methods are synchronous and safe to call from many threads; `engine` is the door for coroutines, to
    the same parts. Except for timers they act for the instance of the surrounding `instance_context`, and
    raise InvalidArgument outside of one. All of them may raise Unavailable while the database is away.
    """

    RETRYABLE_STATUS_CODES = RETRYABLE_STATUS_CODES

    def __init__(
        self,
        sql_provider: SqlProvider,
        storage: StorageABC,
        *,
        sql_ro_provider: SqlProvider | None = None,
        sql_notifier_provider: SqlProvider | None = None,
        property_set: PropertySet,
        action_cache: ActionCacheABC | None = None,
        action_browser_url: str | None = None,
        max_execution_timeout: int = 7200,
        metering_client: "SyncMeteringServiceClient | None" = None,
        metering_throttle_action: MeteringThrottleAction | None = None,
        bot_session_keepalive_timeout: int = 600,
        logstream_channel: grpc.Channel | None = None,
        logstream_instance: str | None = None,
        asset_client: AssetClient | None = None,
        queued_action_retention_hours: float | None = None,
        completed_action_retention_hours: float | None = None,
        action_result_retention_hours: float | None = None,
        enable_job_watcher: bool = False,
        poll_interval: float = 1,
        pruning_options: AgedJobHandlerOptions | None = None,
        queue_timeout_options: AgedJobHandlerOptions | None = None,
        max_job_attempts: int = 5,
        max_infra_attempts: int = 20,
        job_assignment_interval: float = 1.0,
        priority_assignment_percentage: int = 100,
        max_queue_size: int | None = None,
        execution_timer_interval: float = 60.0,
        session_expiry_timer_interval: float = 10.0,
        execution_timeout_grace: float = 60.0,
        lease_start_timeout: timedelta | None = UNSTARTED_AFTER,
        abandoned_operation_timeout: timedelta | None = ABANDONED_AFTER,
        cache_failed_actions: bool = False,
        avoid_class_for: timedelta = timedelta(seconds=60),
        metrics_publish_interval: timedelta = PUBLISH_INTERVAL,
        throttle_answers_for: float = 0.0,
        throttle_wait: float = 1.0,
        logstream_wait: float = 2.0,
        accept_new_jobs: bool = True,
        clock: Clock = utc_now,
    ) -> None:
        """`sql_ro_provider` serves reads, `sql_notifier_provider` LISTEN; both default to `sql_provider`.

        Numbers for times are seconds. `enable_job_watcher` is without effect: jobs are always watched.
        `poll_interval` 0 or less: no notifier, for a replica that is alone. Retention in hours, for what is
        pushed to `asset_client`; None or 0: nothing is. An answer of the metering service counts for
        `throttle_answers_for`; an action waits for one at most `throttle_wait`, and a bot for log streams at
        most `logstream_wait`. Without `accept_new_jobs`, asking for what would make a job raises Unavailable.
        Clients and channel are started and stopped with the scheduler.
        """
        self.storage = storage
        self.action_cache = action_cache
        self.property_set = property_set
        self.max_execution_timeout = timedelta(seconds=max_execution_timeout)
        self.keepalive = timedelta(seconds=bot_session_keepalive_timeout)
        own_cache = isinstance(action_cache, PostgresActionCache) and action_cache.provider is sql_provider
        self.engine = Engine(
            sql_provider,
            policy=CompletionPolicy(
                AttemptLimits(max_job_attempts, max_infra_attempts),
                cache_failed_actions,
                action_browser_url,
                avoid_class_for,
            ),
            settings=RoundSettings(
                keepalive=self.keepalive,
                priority_percentage=priority_assignment_percentage,
                max_queue_size=max_queue_size,
                store_results=own_cache,
                accept_new_jobs=accept_new_jobs,
            ),
            requires=Matching(property_set).requires,
            clock=clock,
        )
        self._cache_writer = None
        if action_cache is not None and not own_cache:
            self._cache_writer = ActionCacheWriter(action_cache)
            self.engine.completions.listen(self._store_results)
        self.integrations = build_integrations(
            storage,
            sql_provider,
            self._store_streams,
            metering_client=metering_client,
            metering_throttle_action=metering_throttle_action,
            throttle_answers_for=throttle_answers_for,
            throttle_wait=throttle_wait,
            logstream_channel=logstream_channel,
            logstream_instance=logstream_instance,
            logstream_wait=logstream_wait,
            asset_client=asset_client,
            queued_action_retention_hours=queued_action_retention_hours,
            completed_action_retention_hours=completed_action_retention_hours,
            action_result_retention_hours=action_result_retention_hours,
            clock=clock,
        )
        self.engine.completions.listen(self.integrations.jobs_completed)
        self.job_metrics = JobMetrics(
            sql_ro_provider or sql_provider, interval=metrics_publish_interval, clock=clock
        )
        self.operations = OperationList(sql_ro_provider or sql_provider)
        self.identities = ClientIdentities(sql_provider)
        self._read_provider = sql_ro_provider or sql_provider
        self._listener = Listener(
            sql_notifier_provider or sql_provider,
            self.engine.news,
            interval=job_assignment_interval,
            listen=poll_interval > 0,
        )
        timer_settings = TimerSettings(
            session_expiry_interval=session_expiry_timer_interval,
            execution_interval=execution_timer_interval,
            max_execution_timeout=self.max_execution_timeout or None,
            execution_grace=timedelta(seconds=execution_timeout_grace),
            lease_start_timeout=lease_start_timeout,
            queue_timeout=queue_timeout_options,
            pruning=pruning_options,
            abandoned_operation_timeout=abandoned_operation_timeout,
        )
        self.rounds = TimedRounds(self.engine, self.engine.following, timer_settings)
        self.timers = Timers(self.rounds, timer_settings)
        self._users = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start storage, cache, engine, notifier and timers. Several services may; the first one does it."""
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            self.storage.start()
            if self.action_cache is not None:
                self.action_cache.start()
            if self._cache_writer is not None:
                self._cache_writer.start()
            self.engine.start()
            self.integrations.start()
            self._listener.start()
            self.timers.start()

    def stop(self) -> None:
        """The last `stop` ends it: what was submitted is finished first, unless the database is away.

        Each part is stopped, whatever becomes of the others; what one raises is raised at the end.
        """
        with self._lock, ExitStack() as steps:  # the last one comes first
            self._users -= 1
            if self._users > 0:
                return
            # Last: a round may wait for an attempt to connect that nobody can cut short.
            steps.callback(self.timers.stop)
            steps.callback(self.storage.stop)
            if self.action_cache is not None:
                steps.callback(self.action_cache.stop)
            if self._cache_writer is not None:
                steps.callback(self._cache_writer.stop)
            steps.callback(self.integrations.stop)  # after the engine: it has just been told of the last jobs
            steps.callback(self.engine.stop)
            steps.callback(self._listener.stop)
            steps.callback(self.timers.ask_to_stop)
            steps.callback(self.engine.hurry)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def listening(self) -> bool:
        """Whether this replica has reached the database and hears the others."""
        return self._listener.heard_once.is_set()

    def _store_results(self, jobs: Sequence[CompletedJob]) -> None:
        """Results go to a cache that is not in our database, on a thread of its own."""
        for job in jobs:
            if self._cache_writer is not None and job.cache_entry is not None:
                self._cache_writer.submit(job.instance, job.action_digest, job.cache_entry)

    def _store_streams(self, instance: str, session: str, job: str, streams: JobStreams) -> bool:
        return self._call(store_streams(instance, session, job, streams))
