"""Where health and metrics are listened for."""

import urllib.error
import urllib.request

import pytest
from buildgrid_scheduler.server import monitoring
from buildgrid_scheduler.server.monitoring import Monitoring
from prometheus_client import CollectorRegistry


def answer(served: Monitoring, host: str) -> str:
    served.start()
    try:
        with urllib.request.urlopen(f"http://{host}:{served.port}/healthz", timeout=20) as response:
            text: str = response.read().decode().strip()
            return text
    finally:
        served.stop()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::]:0"])
def test_it_answers_on_the_address(address: str) -> None:
    assert answer(Monitoring(address, CollectorRegistry(), lambda: None, lambda: None), "127.0.0.1") == "ok"


def test_all_addresses_are_those_of_ipv4_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "_has_ipv6", lambda: False)
    served = Monitoring("[::]:0", CollectorRegistry(), lambda: None, lambda: "it hangs")
    assert served.address == "0.0.0.0"  # noqa: S104
    with pytest.raises(urllib.error.HTTPError, match="503"):
        answer(served, "127.0.0.1")
