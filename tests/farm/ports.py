"""Ports for servers that tests start, that nobody else is given meanwhile."""

import socket


class ReservedPort:
    """A port of the loopback interface, from now until `close`.

    It is bound but not listened on: connections are refused until a server that reuses addresses, as gRPC's
    and Python's do, listens on it, and again when that server is gone. The kernel gives it to nobody else,
    neither to another test nor to an outgoing connection; a port that merely was free a moment ago may be
    anybody's by now.
    """

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]
        self.address = f"127.0.0.1:{self.number}"

    def close(self) -> None:
        """Give it back."""
        self._socket.close()

    def __enter__(self) -> "ReservedPort":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
