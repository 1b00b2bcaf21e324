"""From what a scheduler is given to its integrations."""

from typing import TYPE_CHECKING

import grpc

from buildgrid_scheduler.assets.client import AssetClient
from buildgrid_scheduler.assets.retention import Retention, RetentionPeriods
from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.metering import MeteringThrottleAction
from buildgrid_scheduler.integrations.integrations import Integrations
from buildgrid_scheduler.logstreams.client import LogStreams
from buildgrid_scheduler.logstreams.lease_streams import LeaseStreams, Store
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.store.provider import SqlProvider

if TYPE_CHECKING:  # needs a package that is optional
    from buildgrid_metering.client import SyncMeteringServiceClient

    from buildgrid_scheduler.metering.metering import Metering


def build_integrations(
    storage: StorageABC,
    provider: SqlProvider,
    store_streams: Store,
    *,
    metering_client: "SyncMeteringServiceClient | None" = None,
    metering_throttle_action: MeteringThrottleAction | None = None,
    throttle_answers_for: float = 5.0,
    throttle_wait: float = 1.0,
    logstream_channel: grpc.Channel | None = None,
    logstream_instance: str | None = None,
    logstream_wait: float = 2.0,
    asset_client: AssetClient | None = None,
    queued_action_retention_hours: float | None = None,
    completed_action_retention_hours: float | None = None,
    action_result_retention_hours: float | None = None,
    clock: Clock = utc_now,
) -> Integrations:
    """The parts whose services are given. `provider`: where the identities of operations are read.

    Seconds: an answer of the metering service counts for `throttle_answers_for`; an action waits for one at
    most `throttle_wait`, and a bot's answer for log streams at most `logstream_wait`. Channel and clients are
    started and stopped with the integrations.
    """
    retention = metering = lease_streams = None
    if asset_client is not None:
        periods = RetentionPeriods.of_hours(
            queued_action_retention_hours, completed_action_retention_hours, action_result_retention_hours
        )
        retention = Retention(asset_client, storage, periods, clock=clock)
    if metering_client is not None:
        metering = _metering(
            metering_client, metering_throttle_action, storage, provider, throttle_answers_for, throttle_wait
        )
    if logstream_channel is not None:
        streams = LogStreams(logstream_channel, logstream_instance, logstream_wait)
        lease_streams = LeaseStreams(streams, store_streams, bound=logstream_wait)
    return Integrations(retention=retention, metering=metering, lease_streams=lease_streams)


def _metering(
    client: "SyncMeteringServiceClient",
    action: MeteringThrottleAction | None,
    storage: StorageABC,
    provider: SqlProvider,
    answers_for: float,
    wait: float,
) -> "Metering":
    from buildgrid_scheduler.metering.metering import Metering  # the package is there: this is its client

    return Metering(client, storage, provider, action=action, fresh_for=answers_for, bound=wait)
