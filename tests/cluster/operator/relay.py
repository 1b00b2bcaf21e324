"""A relay in front of the API server whose connections can be cut, as if it restarted."""

import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

_CHUNK = 65536


class Relay:
    """Passes bytes on; TLS is between the two ends."""

    def __init__(self, server: str) -> None:
        """`server` is https://HOST:PORT."""
        parts = urlsplit(server)
        self._upstream = (parts.hostname or "", parts.port or 443)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._down = False
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections, and take no more."""
        with self._lock:
            self._down = True
            connections, self._open = self._open, set()
        for connection in connections:
            _end(connection)

    def mend(self) -> None:
        """Take connections again."""
        self._down = False

    def close(self) -> None:
        """For good."""
        self.cut()
        _end(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._down:
                _end(client)
                continue
            self.accepted += 1
            upstream = socket.create_connection(self._upstream)
            with self._lock:
                self._open |= {client, upstream}
            for pair in ((client, upstream), (upstream, client)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                sink.sendall(data)
        for end in (source, sink):
            _end(end)
            with self._lock:
                self._open.discard(end)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
