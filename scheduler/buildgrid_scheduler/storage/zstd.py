"""ZSTD for blobs on the wire. What is stored is always uncompressed, so that ranges can be read."""

from collections.abc import Iterable, Iterator
from typing import IO, cast

import zstandard

from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.storage.abc import MAX_CHUNK_BYTES, BlobWriter

# The fastest level: the server's CPU is shared by all, and most of the gain comes with the first level.
_LEVEL = 1
# Below this the headers of a frame eat the gain.
_MIN_BYTES = 512
# A frame names the memory that its decoder must hold. RFC 8878 asks decoders for 8 MiB; this admits what
# `zstd -19 --long=25` makes, and no more per stream.
_MAX_WINDOW_BYTES = 32 * 1024 * 1024


def compress_if_smaller(data: bytes) -> bytes | None:
    """One ZSTD frame, None if that would not be smaller."""
    if len(data) < _MIN_BYTES:
        return None
    frame = zstandard.ZstdCompressor(level=_LEVEL).compress(data)
    return frame if len(frame) < len(data) else None


def decompress(data: bytes, size: int) -> bytes:
    """The content of ZSTD frames that is expected to be `size` bytes.

    InvalidArgument if it is none. Content that is longer is cut after one byte too many, and then does not
    match its digest: a small message cannot fill the memory.
    """
    reader = _decompressor().stream_reader(data, read_across_frames=True)
    try:
        parts = []
        rest = size + 1
        while rest > 0 and (part := reader.read(rest)):
            parts.append(part)
            rest -= len(part)
        return b"".join(parts)
    except zstandard.ZstdError as error:
        raise InvalidArgument(f"the data is not valid ZSTD: {error}") from error


def compressed(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """One ZSTD frame of the `size` bytes that come in chunks, in pieces of about their size.

    The same chunks always make the same pieces: a broken upload of them can be resumed.
    """
    compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=size)
    for chunk in chunks:
        if piece := compressor.compress(chunk):
            yield piece
    if piece := compressor.flush():
        yield piece


def decompressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The content of ZSTD frames that come in pieces, in chunks of up to 1 MiB, whatever it expands to.

    Raises zstandard.ZstdError for what is none. A frame that is cut off yields what there was of it.
    """
    source = cast(IO[bytes], _Source(iter(pieces)))
    reader = _decompressor().stream_reader(source, read_across_frames=True, closefd=False)
    while chunk := reader.read(MAX_CHUNK_BYTES):
        yield chunk


class DecompressingWriter(BlobWriter):
    """Takes ZSTD frames and hands their content to a writer. `committed` counts uncompressed bytes.

    Decompressed in small pieces: a writer that has got more than its digest's size stops it.
    """

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer
        self.begin_frame()

    def begin_frame(self) -> None:
        """Forgets a frame that was cut off, but not what it held: the next byte begins a new frame."""
        sink = cast(IO[bytes], _Sink(self._writer))
        self._decompressor = _decompressor().stream_writer(sink, closefd=False)

    @property
    def committed(self) -> int:
        return self._writer.committed

    def write(self, data: bytes) -> None:
        try:
            self._decompressor.write(data)
        except zstandard.ZstdError as error:
            raise InvalidArgument(f"the data is not valid ZSTD: {error}") from error

    def commit(self) -> None:
        self._writer.commit()

    def abort(self) -> None:
        self._writer.abort()


class _Sink:
    """As much of a file as the decompressor uses."""

    def __init__(self, writer: BlobWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> int:
        self._writer.write(bytes(data))
        return len(data)


class _Source:
    """As much of a file as the decompressor uses."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int) -> bytes:
        data = self._left or next(self._pieces, b"")
        self._left = data[size:]
        return data[:size]


def _decompressor() -> zstandard.ZstdDecompressor:
    return zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
