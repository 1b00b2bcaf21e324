"""The settings of services around the scheduler."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest
from buildgrid_scheduler.config import ConfigError
from buildgrid_scheduler.config.integrations import AssetsConfig, LogStreamsConfig, MeteringConfig
from buildgrid_scheduler.core.metering import MeteringThrottleAction
from buildgrid_scheduler.server.integrations import integration_options
from pydantic import ValidationError

ENDPOINT = "grpc://127.0.0.1:1"


def test_nothing_is_configured_by_default() -> None:
    assert integration_options(None, None, None) == {}


def test_retention_is_told_in_hours() -> None:
    config = AssetsConfig.model_validate(
        {"endpoint": ENDPOINT, "queued_action_retention": "36h", "action_result_retention": "7d"}
    )
    options = integration_options(config, None, None)
    options["asset_client"].stop()
    assert options["queued_action_retention_hours"] == 36
    assert options["completed_action_retention_hours"] is None
    assert options["action_result_retention_hours"] == 168


def test_log_streams_wait_two_seconds_at_first() -> None:
    config = LogStreamsConfig.model_validate({"endpoint": ENDPOINT, "instance_name": "logs"})
    options = integration_options(None, config, None)
    options["logstream_channel"].close()
    assert (options["logstream_instance"], options["logstream_wait"]) == ("logs", 2.0)


def test_throttled_clients_stand_back_unless_they_are_to_be_refused() -> None:
    for text, action in (
        ({}, MeteringThrottleAction.DEPRIORITIZE),
        ({"throttle_action": "reject"}, MeteringThrottleAction.REJECT),
    ):
        config = MeteringConfig.model_validate({"url": "http://127.0.0.1:1", **text})
        options = integration_options(None, None, config)
        assert options["metering_throttle_action"] is action
        assert options["throttle_answers_for"] == 5.0


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (AssetsConfig, {"endpoint": "127.0.0.1:1"}),
        (AssetsConfig, {"endpoint": ENDPOINT, "ca_file": "/ca.pem"}),
        (AssetsConfig, {"endpoint": ENDPOINT, "queued_action_retention": "1m"}),
        (LogStreamsConfig, {"endpoint": ENDPOINT, "wait": timedelta(minutes=1)}),
        (MeteringConfig, {"url": "127.0.0.1:1"}),
        (MeteringConfig, {"url": "http://127.0.0.1:1", "throttle_action": "ignore"}),
    ],
)
def test_what_cannot_work_is_refused(
    model: type[AssetsConfig | LogStreamsConfig | MeteringConfig], values: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(values)


def test_a_token_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "token"
    assets = AssetsConfig(endpoint=ENDPOINT, token_file=missing)
    with pytest.raises(ConfigError, match=f"assets: .*{missing}"):
        integration_options(assets, None, None)
    metering = MeteringConfig(url="http://127.0.0.1:1", token_file=missing)
    with pytest.raises(ConfigError, match=rf"metering\.token_file: .*{missing}"):
        integration_options(None, None, metering)


def test_metering_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "buildgrid_metering.client", None)
    monkeypatch.delitem(sys.modules, "buildgrid_scheduler.metering.package", raising=False)
    with pytest.raises(ConfigError, match=r"metering: .*pip install 'buildgrid-kubernetes\[metering\]'"):
        integration_options(None, None, MeteringConfig(url="http://127.0.0.1:1"))
