"""From the settings to the scheduler, and from new settings to one that runs."""

from dataclasses import replace

from buildgrid_scheduler.config import Config
from buildgrid_scheduler.config.scheduler import AgedJobsConfig, SchedulerConfig
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.properties import PropertySet
from buildgrid_scheduler.scheduler import Scheduler
from buildgrid_scheduler.server.database import Database
from buildgrid_scheduler.server.integrations import integration_options
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
from buildgrid_scheduler.timers.options import AgedJobHandlerOptions, TimerSettings


def build_scheduler(
    config: Config,
    database: Database,
    storage: StorageABC,
    action_cache: ActionCacheABC | None,
    property_set: PropertySet,
) -> Scheduler:
    """Not yet started. Raises ConfigError for a file of the integrations that cannot be used."""
    settings = config.scheduler
    return Scheduler(
        database.provider,
        storage,
        sql_ro_provider=database.read_provider,
        sql_notifier_provider=database.notifier_provider,
        property_set=property_set,
        action_cache=action_cache,
        action_browser_url=settings.action_browser_url,
        max_execution_timeout=int(settings.max_execution_timeout.total_seconds()),
        bot_session_keepalive_timeout=int(settings.bot_session_keepalive_timeout.total_seconds()),
        poll_interval=settings.poll_interval.total_seconds(),
        max_job_attempts=settings.max_job_attempts,
        max_infra_attempts=settings.max_infra_attempts,
        avoid_class_for=settings.avoid_class_for,
        job_assignment_interval=settings.job_assignment_interval.total_seconds(),
        priority_assignment_percentage=settings.priority_assignment_percentage,
        max_queue_size=settings.max_queue_size,
        session_expiry_timer_interval=settings.session_expiry_interval.total_seconds(),
        cache_failed_actions=settings.cache_failed_actions,
        metrics_publish_interval=settings.metrics_publish_interval,
        execution_timer_interval=settings.execution_timer_interval.total_seconds(),
        execution_timeout_grace=settings.execution_timeout_grace.total_seconds(),
        lease_start_timeout=settings.lease_start_timeout,
        queue_timeout_options=_aged(settings.queue_timeout),
        pruning_options=_aged(settings.pruning),
        abandoned_operation_timeout=settings.abandoned_operation_timeout,
        accept_new_jobs=settings.accept_new_jobs,
        **integration_options(config.assets, config.log_streams, config.metering),
    )


def reconfigure(scheduler: Scheduler, settings: SchedulerConfig) -> None:
    """Let the reloadable settings hold for all that happens from now on."""
    engine = scheduler.engine
    engine.reconfigure(
        completion_policy(settings),
        replace(
            engine.settings,
            keepalive=settings.bot_session_keepalive_timeout,
            priority_percentage=settings.priority_assignment_percentage,
            max_queue_size=settings.max_queue_size,
            accept_new_jobs=settings.accept_new_jobs,
        ),
    )
    scheduler.timers.reconfigure(
        TimerSettings(
            session_expiry_interval=settings.session_expiry_interval.total_seconds(),
            execution_interval=settings.execution_timer_interval.total_seconds(),
            max_execution_timeout=settings.max_execution_timeout,
            execution_grace=settings.execution_timeout_grace,
            lease_start_timeout=settings.lease_start_timeout,
            queue_timeout=_aged(settings.queue_timeout),
            pruning=_aged(settings.pruning),
            abandoned_operation_timeout=settings.abandoned_operation_timeout,
        )
    )


def _aged(settings: AgedJobsConfig | None) -> AgedJobHandlerOptions | None:
    if settings is None:
        return None
    return AgedJobHandlerOptions(settings.job_max_age, settings.handling_period, settings.max_handling_window)


def completion_policy(settings: SchedulerConfig) -> CompletionPolicy:
    """What decides about the ends of attempts."""
    return CompletionPolicy(
        AttemptLimits(settings.max_job_attempts, settings.max_infra_attempts),
        settings.cache_failed_actions,
        settings.action_browser_url,
        settings.avoid_class_for,
    )
