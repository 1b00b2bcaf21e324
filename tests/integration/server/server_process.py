"""`buildgrid-scheduler serve` with any configuration, which tests may change while it runs."""

import signal
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.farm.replica import Replica

PROGRAM = Path(sys.executable).with_name("buildgrid-scheduler")


class Server(Replica):
    """A Replica whose configuration, signals and metrics are in the test's hands."""

    def __init__(self, folder: Path, database_url: str | None, **settings: Any) -> None:
        """`database_url` None: the configuration names none."""
        super().__init__(folder, database_url or "", **settings)
        self.configuration = yaml.safe_load(self._config.read_text())
        if database_url is None:
            del self.configuration["database"]
        self.write()

    @property
    def config_file(self) -> Path:
        """Where the configuration is."""
        return self._config

    def write(self, **settings: Any) -> None:
        """Put the configuration into the file, with other top-level settings."""
        self.configuration.update(settings)
        whole = self._config.with_suffix(".new")  # a server that looks meanwhile finds no half of it
        whole.write_text(yaml.safe_dump(self.configuration))
        whole.replace(self._config)

    @property
    def pid(self) -> int:
        """Of the process that runs."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def exit_code(self, within: float = 30) -> int:
        """Wait for the process to end by itself."""
        assert self._process is not None
        return self._process.wait(within)

    def seconds_to_stop(self, within: float = 30) -> float:
        """SIGTERM, and how long it takes; the exit code must be 0."""
        began = time.monotonic()
        assert self.terminate(within) == 0, self.describe()
        return time.monotonic() - began

    def liveness(self) -> tuple[int, str]:
        """The status and text of /healthz; 0 when nobody answers."""
        return self._get("/healthz")

    def families(self) -> dict[str, Metric]:
        """All metrics, by the name of their family."""
        return {family.name: family for family in text_string_to_metric_families(self.metrics_text())}

    def metrics_text(self) -> str:
        """All metrics, as /metrics tells them just now."""
        return self._get("/metrics")[1]

    def value(self, sample: str, **labels: str) -> float | None:
        """One sample; None if there is none."""
        for family in self.families().values():
            for found in family.samples:
                if found.name == sample and found.labels == labels:
                    return found.value
        return None
