"""A server process that tests may kill."""

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.farm.ports import ReservedPort
from tests.farm.waiting import eventually, eventually_sync

START_WITHIN = 40.0
_CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
    ("grpc.use_local_subchannel_pool", 1),
]


class Replica:
    """`buildgrid-scheduler serve` with a configuration in `folder`; restarts keep ports and data."""

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        instances: tuple[str, ...] = ("",),
        scheduler: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        """`scheduler` and `settings` go to the configuration as they are."""
        folder.mkdir(parents=True, exist_ok=True)
        self._ports = ReservedPort(), ReservedPort()
        self.endpoint, self.monitoring = (port.address for port in self._ports)
        self._log = folder / "log"
        self._config = folder / "config.yaml"
        configuration = {
            "listen": self.endpoint,
            "monitoring": {"listen": self.monitoring},
            "database": {"url": database_url},
            "data": str(folder / "data"),
            "instances": list(instances),
            "scheduler": scheduler or {},
            **settings,
        }
        self._config.write_text(yaml.safe_dump(configuration))
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start the process, and return at once."""
        program = Path(sys.executable).with_name("buildgrid-scheduler")
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [str(program), "serve", "--config", str(self._config)],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def start(self) -> "Replica":
        """Start the process; returns when it is ready."""
        self.launch()
        self.wait_ready()
        return self

    def wait_ready(self, within: float = START_WITHIN) -> None:
        """Return when /readyz says so."""
        eventually_sync(lambda: self.readiness()[0] == 200 or self._assert_alive(), within, self.describe)

    def _assert_alive(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.describe()
        return False

    def describe(self) -> str:
        """For failures: the end of its log."""
        return f"replica {self.endpoint}, readiness {self.readiness()}:\n{self.log[-3000:]}"

    @property
    def log(self) -> str:
        """All that it logged so far, over restarts."""
        return self._log.read_text(errors="replace")

    def readiness(self) -> tuple[int, str]:
        """The status and text of /readyz; 0 when nobody answers."""
        return self._get("/readyz")

    def metric(self, name: str) -> float:
        """A metric without labels, as /metrics tells it just now."""
        _, text = self._get("/metrics")
        for line in text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
        raise AssertionError(f"no metric {name}")

    async def until_held(self, calls: int) -> None:
        """Return when exactly this many calls of bots are held."""

        def held() -> bool:
            return self.metric("buildgrid_held_bot_calls") == calls

        await eventually(held, 10, lambda: f"{self.metric('buildgrid_held_bot_calls')} calls are held")

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{self.monitoring}{path}", timeout=15) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            return 0, str(error)

    def open_channel(self) -> grpc.aio.Channel:
        """A connection of its own, that is quick to come back."""
        return grpc.aio.insecure_channel(self.endpoint, options=_CHANNEL_OPTIONS)

    async def health(self) -> str:
        """What the gRPC health service says: SERVING, NOT_SERVING, or the error's code."""
        async with self.open_channel() as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.aio.AioRpcError as error:
                return error.code().name
            return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self, within: float = 20) -> int:
        """SIGTERM, as in a rolling update; returns the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(within)

    def close(self) -> None:
        """Whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        for port in self._ports:
            port.close()
