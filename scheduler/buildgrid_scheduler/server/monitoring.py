"""Health and metrics over HTTP, on a thread of its own."""

import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
Probe = Callable[[], str | None]


class _Quiet(WSGIRequestHandler):
    timeout = 30  # seconds; a client that says nothing holds a thread

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Probes come every few seconds and are not worth a line."""


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request: a slow scrape does not hold up a probe."""

    daemon_threads = True


class Monitoring:
    """/healthz: the process lives. /readyz: it can serve. /metrics: Prometheus."""

    def __init__(self, address: str, registry: CollectorRegistry, ready: Probe, alive: Probe) -> None:
        """`ready` and `alive` return None, or why not."""
        host, _, port = address.rpartition(":")
        metrics = make_wsgi_app(registry)

        def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "/")
            if path == "/metrics":
                result: Iterable[bytes] = metrics(environ, start_response)
                return result
            status, body = "404 Not Found", "see /metrics, /healthz, /readyz"
            if path in ("/healthz", "/readyz"):
                reason = alive() if path == "/healthz" else ready()
                status = "200 OK" if reason is None else "503 Service Unavailable"
                body = reason or ("ok" if path == "/healthz" else "ready")
            start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
            return [f"{body}\n".encode()]

        family, host = _where(host)
        server_class = type("Server", (_Server,), {"address_family": family})
        self._server: WSGIServer = make_server(host, int(port), application, server_class, _Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True)

    @property
    def address(self) -> str:
        """The host that it listens on."""
        return str(self._server.server_address[0])

    @property
    def port(self) -> int:
        """Where it listens, also for one that was asked for port 0."""
        return self._server.server_port

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _where(host: str) -> tuple[int, str]:
    """The address family and the host. All addresses, `[::]`, are those of IPv4 where there is no IPv6."""
    if not host.startswith("["):
        return socket.AF_INET, host
    if host == "[::]" and not _has_ipv6():
        return socket.AF_INET, "0.0.0.0"  # noqa: S104 - as was asked for
    return socket.AF_INET6, host.strip("[]")


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
