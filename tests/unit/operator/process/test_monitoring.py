"""Health and metrics, as probes and Prometheus see them."""

import urllib.request
from collections.abc import Iterator
from urllib.error import HTTPError

import pytest
from buildgrid_operator.process.metrics import Metrics
from buildgrid_operator.process.monitoring import Health, Heartbeat, MonitoringServer

Answer = tuple[int, str]


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture(params=["127.0.0.1:0", ":0"])
def server(request: pytest.FixtureRequest, health: Health) -> Iterator[MonitoringServer]:
    server = MonitoringServer(request.param, Metrics().registry, health)
    server.start()
    yield server
    server.stop()


def get(server: MonitoringServer, path: str) -> Answer:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_probes_say_ok_or_why_not(server: MonitoringServer, health: Health) -> None:
    assert get(server, "/livez") == (200, "ok\n")
    assert get(server, "/readyz") == (200, "ok\n")
    health.ready_if("watches", lambda: "2 of 9 kinds are not listed yet")
    assert get(server, "/readyz") == (503, "watches: 2 of 9 kinds are not listed yet\n")
    assert get(server, "/livez") == (200, "ok\n")
    health.alive_if("loop", lambda: "it stands still")
    assert get(server, "/livez") == (503, "loop: it stands still\n")
    assert get(server, "/readyz") == (503, "loop: it stands still\n")


def test_metrics_are_served(server: MonitoringServer) -> None:
    code, text = get(server, "/metrics")
    assert code == 200
    assert "buildgrid_operator_leader 0.0" in text


def test_another_path_says_which_there_are(server: MonitoringServer) -> None:
    assert get(server, "/") == (404, "see /livez, /readyz, /metrics\n")


def test_a_server_that_was_not_started_can_be_stopped(health: Health) -> None:
    MonitoringServer("127.0.0.1:0", Metrics().registry, health).stop()


def test_a_port_that_is_taken_names_the_flag(server: MonitoringServer, health: Health) -> None:
    with pytest.raises(
        OSError, match=f"^--monitoring-listen: cannot listen at 127.0.0.1:{server.port}: .*give"
    ):
        MonitoringServer(f"127.0.0.1:{server.port}", Metrics().registry, health)


def test_a_loop_that_stands_still_is_not_alive() -> None:
    now = [0.0]
    heartbeat = Heartbeat(clock=lambda: now[0])
    now[0] = 29.9
    assert heartbeat.check() is None
    now[0] = 31.0
    assert heartbeat.check() == "the event loop has stood still for 31 s"
    heartbeat.beat()
    assert heartbeat.check() is None
