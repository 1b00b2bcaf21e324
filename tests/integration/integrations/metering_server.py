"""A small metering service, on loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote_plus

from tests.integration.integrations.mood import Mood


class MeteringServer:
    """Remembers usage, and throttles whom it is told to. Identities are `instance/workflow/actor/subject`."""

    def __init__(self) -> None:
        self.mood = Mood()
        self.throttled: set[str] = set()
        self.asked: list[str] = []
        self.usages: list[tuple[str, str, dict[str, Any]]] = []
        """(identity, operation, usage)"""
        self.tokens: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if (identity := self._admit("/v1/throttling/")) is not None:
                    service.asked.append(identity)
                    self._answer(200, {"throttled": identity in service.throttled})

            def do_PUT(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if (identity := self._admit("/v1/usage/")) is not None:
                    body = json.loads(content)
                    service.usages.append((identity, body["operation_name"], body["usage"]))
                    self._answer(204)

            def _admit(self, prefix: str) -> str | None:
                service.tokens.append(self.headers.get("Authorization", ""))
                service.mood.before_answer()
                if isinstance(service.mood.refusal, int):
                    self._answer(service.mood.refusal, {"detail": "not today"})
                    return None
                if not self.path.startswith(prefix):
                    self._answer(404)
                    return None
                return unquote_plus(self.path.removeprefix(prefix))

            def _answer(self, status: int, body: object = None) -> None:
                content = b"" if body is None else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Tests look at what was asked instead."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Callers that did not wait for the answer."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self._up = True

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        """Go down."""
        self.mood.release()
        if self._up:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._up = False
