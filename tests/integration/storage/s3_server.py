"""An S3 server on loopback, and a proxy before it that can be told to fail."""

import http.client
import threading
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from buildgrid_scheduler.storage.object_store import ObjectStoreLocation
from moto.server import ThreadedMotoServer

BUCKET = "builds"
_OPTIONS = {"region": "us-east-1", "access_key_id": "id", "secret_access_key": "secret"}


class S3Server:
    """moto, as a real HTTP server, with one bucket."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.address = f"{host}:{port}"
        self.request("PUT", f"/{BUCKET}")

    def close(self) -> None:
        self._server.stop()

    def request(self, method: str, path: str, body: bytes = b"") -> int:
        """A request of the test's own; its status."""
        with closing(http.client.HTTPConnection(self.address, timeout=30)) as connection:
            connection.request(method, path, body)
            return connection.getresponse().status


def location(
    address: str, *, prefix: str = "", bucket: str = BUCKET, options: Mapping[str, str] | None = None
) -> ObjectStoreLocation:
    """A place of its own in the bucket, unless a prefix is given."""
    return ObjectStoreLocation(
        f"s3://{bucket}/{prefix or uuid.uuid4().hex}",
        {**_OPTIONS, "endpoint": f"http://{address}", **(options or {})},
        allow_http=True,
    )


class Proxy:
    """Hands requests on to a server, except those that a test wants to fail. Can go away and come back."""

    def __init__(self, behind: str) -> None:
        self.behind = behind
        self.requests: Counter[str] = Counter()
        """by method"""
        self.statuses: dict[str, list[int]] = {}
        """by method (`*`: any), what the next requests of it are answered with instead"""
        self.bodies: list[bytes] = []
        """what the next GETs that succeed are answered with instead"""
        self.authorizations: list[str] = []
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def fail(self, method: str, *statuses: int) -> None:
        self.statuses.setdefault(method, []).extend(statuses)

    def start(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_request(self) -> None:
                proxy._handle(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self._server = server

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _handle(self, handler: BaseHTTPRequestHandler) -> None:
        method = handler.command
        self.requests[method] += 1
        self.authorizations.append(handler.headers.get("authorization", ""))
        body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
        statuses = self.statuses.get(method) or self.statuses.get("*")
        if statuses:
            _answer(handler, statuses.pop(0), {}, b"<Error><Code>Wanted</Code></Error>")
            return
        headers = {key: value for key, value in handler.headers.items() if key.lower() != "connection"}
        with closing(http.client.HTTPConnection(self.behind, timeout=30)) as connection:
            connection.request(method, handler.path, body, headers)
            response = connection.getresponse()
            data = response.read()
        if method == "GET" and response.status < 300 and self.bodies:
            data = self.bodies.pop(0)
        _answer(handler, response.status, dict(response.getheaders()), data)


def _answer(handler: BaseHTTPRequestHandler, status: int, headers: Mapping[str, str], data: bytes) -> None:
    handler.send_response(status)
    length = str(len(data))
    for key, value in headers.items():
        if key.lower() == "content-length":
            length = value if handler.command == "HEAD" else length
        elif key.lower() not in ("connection", "transfer-encoding", "server", "date"):
            handler.send_header(key, value)
    handler.send_header("content-length", length)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(data)
