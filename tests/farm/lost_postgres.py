"""A way to PostgreSQL over TCP on which a machine can be lost: no packet is answered, and no end is told."""

import contextlib
import ctypes
import selectors
import socket
import struct
import threading

import psycopg
from sqlalchemy import make_url

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_CHUNK = 65536
# A filter of one instruction, which returns 0: every packet is dropped before TCP sees it.
_INSTRUCTION = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
_DROP_ALL = struct.pack("HL", 1, ctypes.addressof(_INSTRUCTION))


class LostPostgres:
    """Forwards to the server of a URL; `url` is the same database by this way. Start and close it."""

    def __init__(self, url: str) -> None:
        with psycopg.connect(url) as connection:
            host, port = connection.info.host, connection.info.port
        unix = host.startswith("/")
        self._family = socket.AF_UNIX if unix else socket.AF_INET
        self._server = f"{host}/.s.PGSQL.{port}" if unix else (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listening, selectors.EVENT_READ)
        self._other: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._lost: list[socket.socket] = []
        self._lock = threading.Lock()
        self._stopping = False
        self._thread = threading.Thread(target=self._forward, daemon=True)
        parsed = make_url(url).difference_update_query(["host", "port", "sslmode"])
        parsed = parsed.set(host="127.0.0.1", port=self._listening.getsockname()[1])
        self.url = parsed.update_query_dict({"sslmode": "disable"}).render_as_string(hide_password=False)

    def start(self) -> None:
        """Forward."""
        self._thread.start()

    def vanish(self) -> None:
        """The machine is gone: whoever is connected, or tries to be, hears nothing at all any more."""
        with self._lock:
            for each in (self._listening, *self._clients):
                each.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, _DROP_ALL)
            for client in list(self._clients):
                self._leave(client)
                self._lost.append(client)  # open for good: closing it would tell the other end

    def come_back(self) -> None:
        """Another machine has the address. It knows none of the old connections, and does not say so."""
        self._listening.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def close(self) -> None:
        """End all."""
        self._stopping = True
        with contextlib.suppress(OSError):  # it is back
            self.come_back()
        socket.create_connection(("127.0.0.1", self._listening.getsockname()[1])).close()  # wakes it
        self._thread.join()
        for each in (self._listening, *self._other, *self._lost):
            each.close()
        self._selector.close()

    def _forward(self) -> None:
        while not self._stopping:
            for key, _ in self._selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._listening:
                    self._accept()
                    continue
                with self._lock:
                    if source in self._other:
                        self._pass_on(source)

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        server = socket.socket(self._family)
        server.connect(self._server)
        with self._lock:
            self._clients.add(client)
            for one, other in ((client, server), (server, client)):
                self._other[one] = other
                self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        other = self._other[source]
        try:
            data = source.recv(_CHUNK)
            other.sendall(data)
        except OSError:
            data = b""
        if not data:
            client = source if source in self._clients else other
            self._leave(client)
            client.close()

    def _leave(self, client: socket.socket) -> None:
        """Forget a client, and end what it was connected to, as the end of the machine did."""
        server = self._other[client]
        for each in (client, server):
            self._selector.unregister(each)
            del self._other[each]
        self._clients.discard(client)
        server.close()
