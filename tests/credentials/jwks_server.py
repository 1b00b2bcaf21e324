"""An issuer's HTTP server, which tests may break."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self


class JwksServer:
    """Serves `content` with `status` on loopback, and counts requests.

    `hold()` makes requests wait for `release()`. `bearer`: requests with another token get 401.
    """

    def __init__(self, content: bytes = b"", certificate: tuple[Path, Path] | None = None) -> None:
        self.content = content
        self.status = 200
        self.headers: dict[str, str] = {}
        self.bearer: str | None = None
        self.requests = 0
        self._counted = threading.Condition()
        self._open = threading.Event()
        self._open.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._answer(self)

            def log_message(self, *_args: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/jwks"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """From now on connections are refused."""
        self.release()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def hold(self) -> None:
        """Let requests wait."""
        self._open.clear()

    def release(self) -> None:
        """Answer them."""
        self._open.set()

    def until_asked(self, times: int, within: float = 20) -> None:
        """Return when this many requests have come."""
        with self._counted:
            assert self._counted.wait_for(lambda: self.requests >= times, within), self.requests

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        with self._counted:
            self.requests += 1
            self._counted.notify_all()
        self._open.wait(20)
        status = self.status
        if self.bearer is not None and handler.headers.get("Authorization") != f"Bearer {self.bearer}":
            status = 401
        try:
            handler.send_response(status)
            for name, value in self.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(self.content)))
            handler.end_headers()
            handler.wfile.write(self.content)
        except OSError:
            handler.close_connection = True  # the client did not want to wait
