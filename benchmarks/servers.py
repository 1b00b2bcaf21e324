"""Starts and stops what is measured: ours, the floor, and the peer by its script."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import grpc
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
INSTANCE = "main"

_START_WITHIN = 60
_PEER_START_WITHIN = 600  # the first time it is installed
_STOP_WITHIN = 20
_LAST_LINES = 15
_SERVING = b"\x08\x01"  # HealthCheckResponse with status SERVING, serialized


class ServerError(Exception):
    """A server did not start; says why."""


@dataclass(frozen=True)
class Running:
    """A server under measurement."""

    pid: int
    endpoint: str


def peer_script() -> Path | None:
    """The script that starts BuildGrid (`up DATABASE_URL PORT`, `down`); None where it is absent."""
    named = os.environ.get("BENCH_PEER")
    if not named and (said := REPOSITORY / ".ci" / "peer").is_file():
        named = said.read_text().strip()
    if not named:
        return None
    script = REPOSITORY / named
    return script if script.is_file() else None


@contextlib.contextmanager
def floor() -> Iterator[Running]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.floor", "--port", str(port)]
    with _process(command, port, Path(os.devnull)) as running:
        yield running


@contextlib.contextmanager
def ours(database_url: str, folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`buildgrid-scheduler serve`; its data, configuration and log go to `folder`.

    `environment`: says where the code is, if that is not the working tree.
    """
    port = free_port()
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(_our_config(database_url, port, folder)))
    command = [str(Path(sys.executable).with_name("buildgrid-scheduler")), "serve", "--config", str(config)]
    with _process(command, port, folder / "log", environment) as running:
        yield running


def _our_config(database_url: str, port: int, folder: Path) -> dict[str, object]:
    return {
        "listen": f"127.0.0.1:{port}",
        "monitoring": {"listen": f"127.0.0.1:{free_port()}"},
        "database": {"url": database_url},
        "data": str(folder / "data"),
        "instances": [INSTANCE],
    }


@contextlib.contextmanager
def peer(script: Path, database_url: str) -> Iterator[Running]:
    port = free_port()
    try:
        started = subprocess.run(
            ["bash", str(script), "up", database_url, str(port)],
            stdout=subprocess.PIPE,
            text=True,
            timeout=_PEER_START_WITHIN,
        )
        if started.returncode:
            raise ServerError(f"{script.name} did not start")
        yield Running(int(started.stdout.split()[-1]), f"127.0.0.1:{port}")
    finally:
        subprocess.run(["bash", str(script), "down"], check=False)


def free_port() -> int:
    """A port of the loopback that was free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def _process(
    command: list[str], port: int, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    endpoint = f"127.0.0.1:{port}"
    with log.open("w") as output:
        # A session of its own: an interrupt at the terminal is ours to handle, in order.
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_serving(process, endpoint, log)
        yield Running(process.pid, endpoint)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_serving(process: "subprocess.Popen[bytes]", endpoint: str, log: Path) -> None:
    give_up_at = time.monotonic() + _START_WITHIN
    with grpc.insecure_channel(endpoint) as channel:
        while not _is_serving(channel):
            if process.poll() is not None:
                raise ServerError(f"it ended with {process.returncode}:\n{_tail(log)}")
            if time.monotonic() > give_up_at:
                raise ServerError(f"it does not serve after {_START_WITHIN} s:\n{_tail(log)}")
            time.sleep(0.1)


def _is_serving(channel: grpc.Channel) -> bool:
    """As the health service says; a server without that service serves once it answers."""
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check", request_serializer=bytes, response_deserializer=bytes
    )
    try:
        answer = check(b"", timeout=2, wait_for_ready=True)
    except grpc.RpcError as error:
        return error.code() is grpc.StatusCode.UNIMPLEMENTED
    return answer == _SERVING


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
