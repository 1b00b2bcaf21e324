"""ZSTD on the wire."""

import os

import pytest
import zstandard
from buildgrid_client.digests import digest_of
from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.storage.zstd import (
    DecompressingWriter,
    compress_if_smaller,
    compressed,
    decompress,
)

TEXT = b"text that compresses well " * 1000


def frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def test_what_was_compressed_comes_out_again() -> None:
    packed = compress_if_smaller(TEXT)
    assert packed is not None
    assert decompress(packed, len(TEXT)) == TEXT


@pytest.mark.parametrize("data", [b"", b"short", os.urandom(10_000)], ids=["empty", "short", "noise"])
def test_what_does_not_become_smaller_stays_as_it_is(data: bytes) -> None:
    assert compress_if_smaller(data) is None


def test_decompression_stops_one_byte_after_the_promised_size() -> None:
    assert decompress(frame(bytes(1_000_000)), 5) == bytes(6)


def test_frames_that_want_too_much_memory_are_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = compressor.compress(TEXT) + compressor.flush()
    with pytest.raises(InvalidArgument, match="not valid ZSTD"):
        decompress(packed, len(TEXT))


def test_a_stream_is_one_frame_that_tells_its_size() -> None:
    storage = MemoryStorage()
    data = TEXT * 100
    storage.stream_write(digest_of(data), [data])
    reader = storage.stream_read(digest_of(data))
    assert reader is not None
    packed = b"".join(compressed(reader, len(data)))
    assert zstandard.frame_content_size(packed) == len(data)
    assert decompress(packed, len(data)) == data


def test_frames_may_arrive_byte_by_byte() -> None:
    storage = MemoryStorage()
    writer = DecompressingWriter(storage.begin_write(digest_of(TEXT)))
    packed = frame(TEXT)
    for place in range(len(packed)):
        writer.write(packed[place : place + 1])
    assert writer.committed == len(TEXT)
    writer.commit()
    assert storage.read_one(digest_of(TEXT)) == TEXT
