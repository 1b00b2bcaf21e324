"""Health and metrics over HTTP, on a thread of its own."""

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Probes come every few seconds and are not worth a line."""


class Monitoring:
    """/healthz: the process lives. /readyz: it can serve. /metrics: Prometheus."""

    def __init__(self, address: str, registry: CollectorRegistry, ready: Callable[[], str | None]) -> None:
        """`ready` returns None, or why the server is not ready."""
        host, _, port = address.rpartition(":")
        metrics = make_wsgi_app(registry)

        def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "/")
            if path == "/metrics":
                result: Iterable[bytes] = metrics(environ, start_response)
                return result
            status, body = "404 Not Found", "see /metrics, /healthz, /readyz\n"
            if path == "/healthz":
                status, body = "200 OK", "ok\n"
            elif path == "/readyz":
                reason = ready()
                status = "200 OK" if reason is None else "503 Service Unavailable"
                body = "ready\n" if reason is None else f"{reason}\n"
            start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
            return [body.encode()]

        server_class = type("Server", (WSGIServer,), {"address_family": _family(host)})
        self._server: WSGIServer = make_server(host.strip("[]"), int(port), application, server_class, _Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True)

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def _family(host: str) -> int:
    return socket.AF_INET6 if host.startswith("[") else socket.AF_INET
