"""A server in front of the API server that answers some calls by itself, badly."""

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import urllib3
from kubernetes import client as kubernetes


@dataclass(frozen=True)
class Fault:
    """Instead of an answer. `after`: the API server is asked first, and only its answer is lost."""

    code: int
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    after: bool = False


HANG_UP = 0
"""the code of a fault that ends the connection without an answer"""


class FaultyServer:
    """Passes calls on, except that the next ones get the faults that are in line."""

    def __init__(self, api: kubernetes.ApiClient) -> None:
        self.faults: deque[Fault | None] = deque()
        self.always: Fault | None = None
        self._upstream: urllib3.PoolManager = api.rest_client.pool_manager
        self._host: str = api.configuration.host
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def connection(self) -> kubernetes.ApiClient:
        """A connection through here."""
        settings = kubernetes.Configuration()
        settings.host = f"http://127.0.0.1:{self._server.server_port}"
        settings.retries = False
        return kubernetes.ApiClient(settings)

    def pass_on(self, number: int) -> None:
        """The next calls go through, whatever `always` says."""
        self.faults.extend([None] * number)

    def close(self) -> None:
        """Stop."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _next(self) -> Fault | None:
        return self.faults.popleft() if self.faults else self.always

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fault = outer._next()
                if fault is None or fault.after:
                    names = ("Accept", "Content-Type")
                    headers = {name: self.headers[name] for name in names if name in self.headers}
                    url = outer._host + self.path
                    answer = outer._upstream.request(self.command, url, body=body or None, headers=headers)
                    if fault is None:
                        self._send(
                            answer.status, {"Content-Type": answer.headers["Content-Type"]}, answer.data
                        )
                        return
                assert fault is not None
                if fault.code == HANG_UP:
                    self.close_connection = True
                    return
                status = {"kind": "Status", "apiVersion": "v1", "code": fault.code, **(fault.body or {})}
                self._send(fault.code, fault.headers, json.dumps(status).encode())

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - as the base class asks

            def _send(self, code: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(code)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                pass

        return Handler
