"""HTTP/2 (RFC 9113) by hand, as far as it takes to be a client that behaves as no library would."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from google.protobuf.message import Message

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_INITIAL_WINDOW_SIZE = 4
_LARGEST_WINDOW = 2**31 - 1
_DEFAULT_WINDOW = 65_535
CANCEL = 8


@dataclass(frozen=True)
class Frame:
    """A frame that the server sent."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class RawConnection:
    """A connection that reads only when it is told to. `window`: bytes that it lets the server send ahead."""

    def __init__(self, address: str, *, window: int = _LARGEST_WINDOW, receive_buffer: int = 0) -> None:
        """`receive_buffer`: of the socket, in bytes; 0: the system's."""
        host, _, port = address.rpartition(":")
        self._socket = socket.socket()
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(30)
        self._socket.connect((host, int(port)))
        self._address = address
        self._next = 1
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, window)
        more = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", _LARGEST_WINDOW - _DEFAULT_WINDOW))
        self.send(_PREFACE + frame(SETTINGS, 0, 0, settings) + more)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def begin(self, path: str) -> int:
        """Begin a call, without a message yet; returns the stream."""
        stream, self._next = self._next, self._next + 2
        self.send(frame(HEADERS, _END_HEADERS, stream, self.headers(path)))
        return stream

    def headers(self, path: str) -> bytes:
        """The header block of a call."""
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": self._address,
            "content-type": "application/grpc",
            "te": "trailers",
        }
        return b"".join(_literal(name, value) for name, value in fields.items())

    def say(self, stream: int, message: Message, *, last: bool = True) -> None:
        """Send a message; `last`: the client has no more."""
        data = grpc_message(message)
        for start in range(0, len(data), 16_384):
            part = data[start : start + 16_384]
            end = last and start + len(part) == len(data)
            self.send(frame(DATA, _END_STREAM if end else 0, stream, part))

    def call(self, path: str, message: Message) -> int:
        """Begin a call with its only message; returns the stream."""
        stream = self.begin(path)
        self.say(stream, message)
        return stream

    def cancel(self, stream: int) -> None:
        """Reset a stream, which cancels its call."""
        self.send(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))

    def frames(self) -> Iterator[Frame]:
        """What the server sends, until it closes. Pings and settings are acknowledged, as HTTP/2 wants it."""
        while (head := self._exactly(9)) is not None:
            size, kind, flags, stream = struct.unpack(">I", b"\0" + head[:3])[0], head[3], head[4], head[5:]
            payload = self._exactly(size) or b""
            if kind in (PING, SETTINGS) and not flags & _ACK:
                self.send(frame(kind, _ACK, 0, payload if kind == PING else b""))
            yield Frame(kind, flags, struct.unpack(">I", stream)[0], payload)

    def until(self, kind: int) -> Frame:
        """The next frame of a kind."""
        return next(frame for frame in self.frames() if frame.kind == kind)

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            more = self._socket.recv(size - len(data))
            if not more:
                return None
            data += more
        return data

    def vanish(self) -> None:
        """Close with RST, as the kernel does for a process that was killed with unread input."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        """Close as usual."""
        self._socket.close()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame, as it is sent."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def grpc_message(message: Message) -> bytes:
    """A message with gRPC's prefix, not compressed."""
    data = message.SerializeToString()
    return struct.pack(">BI", 0, len(data)) + data


def _literal(name: str, value: str) -> bytes:
    """A header that is not indexed (RFC 7541, section 6.2.2), its strings as they are."""
    return b"\0" + _string(name) + _string(value)


def _string(text: str) -> bytes:
    data = text.encode()
    assert len(data) < 127, text
    return bytes([len(data)]) + data
