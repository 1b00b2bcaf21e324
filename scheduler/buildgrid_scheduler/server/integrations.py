"""From the settings to the clients of services around the scheduler."""

from typing import TYPE_CHECKING, TypedDict

import grpc
from buildgrid_client.credentials import BearerToken, TlsFiles

from buildgrid_scheduler.assets.client import AssetClient
from buildgrid_scheduler.config import ConfigError
from buildgrid_scheduler.config.integrations import AssetsConfig, LogStreamsConfig, MeteringConfig
from buildgrid_scheduler.config.storage import RemoteServerConfig
from buildgrid_scheduler.core.metering import MeteringThrottleAction
from buildgrid_scheduler.outgoing.channel import ReloadingChannel

if TYPE_CHECKING:  # needs a package that is optional
    from buildgrid_metering.client import SyncMeteringServiceClient

_HOUR = 3600.0


class IntegrationOptions(TypedDict, total=False):
    """Parameters of `Scheduler`."""

    asset_client: AssetClient
    queued_action_retention_hours: float | None
    completed_action_retention_hours: float | None
    action_result_retention_hours: float | None
    logstream_channel: grpc.Channel
    logstream_instance: str | None
    logstream_wait: float
    metering_client: "SyncMeteringServiceClient"
    metering_throttle_action: MeteringThrottleAction
    throttle_answers_for: float
    throttle_wait: float


def integration_options(
    assets: AssetsConfig | None, log_streams: LogStreamsConfig | None, metering: MeteringConfig | None
) -> IntegrationOptions:
    """What `Scheduler` is given for the services that are configured.

    Raises ConfigError for a file that cannot be used, and for metering without its package. The services
    themselves need not be there.
    """
    options = IntegrationOptions()
    if assets is not None:
        options["asset_client"] = AssetClient(
            _channel("assets", assets), instance=assets.instance_name, timeout=assets.timeout.total_seconds()
        )
        for field in ("queued_action", "completed_action", "action_result"):
            kept = getattr(assets, f"{field}_retention")
            hours = None if kept is None else kept.total_seconds() / _HOUR
            options[f"{field}_retention_hours"] = hours  # type: ignore[literal-required]
    if log_streams is not None:
        options["logstream_channel"] = _channel("log_streams", log_streams)
        options["logstream_instance"] = log_streams.instance_name
        options["logstream_wait"] = log_streams.wait.total_seconds()
    if metering is not None:
        options["metering_client"] = _metering_client(metering)
        options["metering_throttle_action"] = MeteringThrottleAction(metering.throttle_action)
        options["throttle_answers_for"] = metering.throttle_answers_for.total_seconds()
        options["throttle_wait"] = metering.throttle_wait.total_seconds()
    return options


def _channel(field: str, config: RemoteServerConfig) -> grpc.Channel:
    tls = TlsFiles(config.ca_file, config.client_certificate_file, config.client_key_file)
    token = None if config.token_file is None else BearerToken(config.token_file)
    try:
        return ReloadingChannel(config.endpoint, tls, token)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{field}: {error}") from error


def _metering_client(config: MeteringConfig) -> "SyncMeteringServiceClient":
    try:
        from buildgrid_scheduler.metering.package import service_client
    except ImportError as error:
        raise ConfigError(f"metering: {error}") from error
    try:
        return service_client(config.url, config.token_file, config.timeout.total_seconds())
    except (OSError, ValueError) as error:
        raise ConfigError(f"metering.token_file: {error}") from error
