"""Replicas, bots and a PostgreSQL as processes of their own, to be built on and killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import grpc
import psycopg
import yaml
from buildgrid_scheduler.store.embedded import EmbeddedPostgres
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.longrunning.operations_proto_pb2 import (
    CancelOperationRequest,
    GetOperationRequest,
    ListOperationsRequest,
    Operation,
)
from grpc_health.v1 import health_pb2
from sqlalchemy.engine import make_url

from tests.farm.ports import ReservedPort

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
LOG_TAIL_LINES = 30
# What a bot logs of each action.
_EXECUTED = re.compile(r"action \S+ lease \S+ exit (\S+) status", re.ASCII)
_STOPPED = re.compile(r"action \S+ lease \S+ stopped$", re.ASCII | re.MULTILINE)


class FarmProcess:
    """A program of the farm. It can be started again after its end; the log goes on in the same file."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, without waiting for anything."""
        # The farm's databases are its own; DATABASE_URL may mean one that is not for us.
        environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL, to the process alone: what it started must cope."""
        process = self._running()
        process.kill()
        process.wait()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self._running().terminate()

    def wait(self) -> int:
        """The exit code, once it has ended."""
        return self._running().wait(STOP_SECONDS)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to all that is left. Not started, or ended before: no harm."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self.name} does not stop:\n{self.tail()}") from error
        finally:
            with suppress(ProcessLookupError):  # as it should be: it left nothing behind
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process = None

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])

    def check(self) -> None:
        """Fail, with the log, if it has ended."""
        code = self._running().poll()
        assert code is None, f"{self.name} ended with exit code {code}:\n{self.tail()}"

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} is not started"
        return self._process


class Replica(FarmProcess):
    """A server. `start` returns when it serves."""

    def __init__(self, name: str, folder: Path, address: str, config: Mapping[str, Any]) -> None:
        self.address = address
        self.data = folder / f"{name}.data"
        file = folder / f"{name}.yaml"
        file.write_text(
            yaml.safe_dump(
                {
                    "listen": self.address,
                    "data": str(self.data),
                    "monitoring": {"listen": None},
                    **config,
                }
            )
        )
        program = str(Path(sys.executable).parent / "buildgrid-scheduler")
        super().__init__(name, [program, "serve", "--config", str(file)], folder)

    @property
    def endpoint(self) -> str:
        """For clients and bots."""
        return f"grpc://{self.address}"

    def operations(self, instance: str = "") -> list[Operation]:
        """The unfinished operations of an instance."""
        with grpc.insecure_channel(self.address) as channel:
            request = ListOperationsRequest(name=instance)
            return list(OperationsStub(channel).ListOperations(request, timeout=READY_SECONDS).operations)

    def cancel_all(self, instance: str = "") -> None:
        """Cancel the unfinished operations of an instance."""
        for operation in self.operations(instance):
            with grpc.insecure_channel(self.address) as channel:
                request = CancelOperationRequest(name=operation.name)
                OperationsStub(channel).CancelOperation(request, timeout=READY_SECONDS)

    def operation(self, name: str) -> Operation:
        """An operation as it is now."""
        with grpc.insecure_channel(self.address) as channel:
            request = GetOperationRequest(name=name)
            operation: Operation = OperationsStub(channel).GetOperation(request, timeout=READY_SECONDS)
            return operation

    def start(self) -> None:
        """Start it, and wait until its health is SERVING."""
        super().start()
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
        give_up = time.monotonic() + READY_SECONDS
        with grpc.insecure_channel(self.address, options=options) as channel:
            while True:
                try:
                    grpc.channel_ready_future(channel).result(timeout=1)
                    break
                except grpc.FutureTimeoutError:
                    self.check()
                    assert time.monotonic() < give_up, f"{self.name} does not start:\n{self.tail()}"
            watch = channel.unary_stream(
                "/grpc.health.v1.Health/Watch",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )(health_pb2.HealthCheckRequest(), timeout=READY_SECONDS)
            for health in watch:
                if health.status == health_pb2.HealthCheckResponse.SERVING:
                    watch.cancel()
                    return


class Bot(FarmProcess):
    """A bot of one slot, unless told otherwise."""

    def __init__(
        self,
        name: str,
        folder: Path,
        replica: Replica,
        *,
        gates: Path,
        cas: Replica | None = None,
        slots: int = 1,
        options: Sequence[str] = (),
    ) -> None:
        """`gates` is a folder that its actions can see. `cas`: if it is not the replica's own. `options`:
        further ones of its command line.
        """
        arguments = [
            *(str(Path(sys.executable).parent / "buildgrid-bot"), "run"),
            *("--endpoint", replica.endpoint, "--slots", str(slots), "--bot-id", name),
            *("--cache-dir", str(folder / f"{name}.cache"), "--sandbox-path", str(gates)),
            *options,
        ]
        if cas is not None:
            arguments += ["--cas-endpoint", cas.endpoint]
        super().__init__(name, arguments, folder)

    def executed(self) -> list[str]:
        """The exit code of each action that it has run to its end; `-` for one without a result."""
        return _EXECUTED.findall(self.log.read_text(errors="replace"))

    def stopped(self) -> int:
        """How many actions it has stopped because nobody wanted them any more."""
        return len(_STOPPED.findall(self.log.read_text(errors="replace")))


class Farm:
    """Some replicas and bots, that are stopped in the opposite order of their start."""

    def __init__(self, folder: Path, gates: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._gates = gates
        self._stack = ExitStack()

    def __enter__(self) -> "Farm":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def replica(self, name: str = "server", **config: Any) -> Replica:
        """Start a replica; `config` are fields of the configuration."""
        port = self._stack.enter_context(ReservedPort())
        replica = Replica(name, self._folder, port.address, config)
        self._stack.callback(replica.stop)
        replica.start()
        return replica

    def bot(
        self,
        name: str,
        replica: Replica,
        *,
        cas: Replica | None = None,
        slots: int = 1,
        options: Sequence[str] = (),
    ) -> Bot:
        """Start a bot."""
        bot = Bot(name, self._folder, replica, gates=self._gates, cas=cas, slots=slots, options=options)
        self._stack.callback(bot.stop)
        bot.start()
        return bot


class Postgres:
    """A PostgreSQL for the whole run; each farm gets a database of its own."""

    def __init__(self, folder: Path) -> None:
        self._embedded = EmbeddedPostgres(folder)
        self._url = self._embedded.start()
        self._databases = 0

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._databases += 1
        name = f"acceptance_{self._databases}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return make_url(self._url).set(database=name).render_as_string(hide_password=False)

    def stop(self) -> None:
        """Stop it."""
        self._embedded.stop()
