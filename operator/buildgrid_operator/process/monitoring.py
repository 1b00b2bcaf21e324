"""Health and metrics over HTTP, on a thread of its own."""

import socket
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Check = Callable[[], str | None]
"""None, or why not"""
STALL = timedelta(seconds=30)


class Heartbeat:
    """Whether the event loop still turns: it beats there, and is asked elsewhere."""

    def __init__(self, stall: timedelta = STALL, clock: Callable[[], float] = time.monotonic) -> None:
        self._stall = stall.total_seconds()
        self._clock = clock
        self._last = clock()

    def beat(self) -> None:
        """To be called every few seconds."""
        self._last = self._clock()

    def check(self) -> str | None:
        """Why the process is to be restarted."""
        age = self._clock() - self._last
        return None if age < self._stall else f"the event loop has stood still for {age:.0f} s"


class Health:
    """Checks by name. Alive: when one fails, a restart helps. Ready: when one fails, it cannot work now."""

    def __init__(self) -> None:
        self._alive: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}

    def alive_if(self, name: str, check: Check) -> None:
        """Add a check for /livez."""
        self._alive[name] = check

    def ready_if(self, name: str, check: Check) -> None:
        """Add a check for /readyz."""
        self._ready[name] = check

    def alive(self) -> str | None:
        """None, or why not."""
        return _first(self._alive)

    def ready(self) -> str | None:
        """None, or why not. What is not alive is not ready either."""
        return _first({**self._alive, **self._ready})


def _first(checks: dict[str, Check]) -> str | None:
    for name, check in checks.items():
        if (reason := check()) is not None:
            return f"{name}: {reason}"
    return None


class _Quiet(WSGIRequestHandler):
    timeout = 30  # seconds; a client that says nothing holds a thread

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Probes come every few seconds and are not worth a line."""


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request: a slow scrape does not hold up a probe."""

    daemon_threads = True


class _DualStack(_Server):
    """All addresses of both families, as a pod in an IPv6 cluster is probed at its IPv6 address."""

    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


class _IPv6(_Server):
    address_family = socket.AF_INET6


class MonitoringServer:
    """/livez, /readyz and /metrics."""

    def __init__(self, address: str, registry: CollectorRegistry, health: Health) -> None:
        """`address` is HOST:PORT; all addresses with an empty host. Port 0: any that is free.

        Raises OSError for one that cannot be listened at.
        """
        host, _, port = address.rpartition(":")
        metrics = make_wsgi_app(registry)

        def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "/")
            if path == "/metrics":
                result: Iterable[bytes] = metrics(environ, start_response)
                return result
            checks = {"/livez": health.alive, "/readyz": health.ready}
            if path in checks:
                reason = checks[path]()
                status = "200 OK" if reason is None else "503 Service Unavailable"
                body = reason or "ok"
            else:
                status, body = "404 Not Found", "see /livez, /readyz, /metrics"
            start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{body}\n".encode()]

        try:
            self._server = _listen(host, int(port), application)
        except OSError as error:
            words = (
                f"--monitoring-listen: cannot listen at {address}: {error.strerror}; give another HOST:PORT"
            )
            raise OSError(words) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving, if it was started."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _listen(host: str, port: int, application: Callable[..., Iterable[bytes]]) -> WSGIServer:
    if host:
        server: type[WSGIServer] = _IPv6 if host.startswith("[") else _Server
        return make_server(host.strip("[]"), port, application, server, _Quiet)
    if socket.has_dualstack_ipv6():
        return make_server("::", port, application, _DualStack, _Quiet)
    return make_server("0.0.0.0", port, application, _Server, _Quiet)  # noqa: S104 - probes come from outside
