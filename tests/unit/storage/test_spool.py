"""Uploads that wait on a disk of their own until they are whole, and that disk when it is full."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from buildgrid_scheduler.core.errors import InvalidArgument, ResourceExhausted
from buildgrid_scheduler.storage.spool import SpoolWriter

from tests.farm.small_disk import small_disk

MB = 1 << 20


class Sent:
    """What arrived beyond the spool."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def __call__(self, digest: Digest, source: IO[bytes]) -> None:
        self.contents.append(source.read())
        assert digest_of(self.contents[-1]) == digest


@pytest.fixture
def sent() -> Sent:
    return Sent()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "spool", megabytes=2) as folder:
        yield folder


def upload(sent: Sent, folder: Path, data: bytes, piece: int) -> None:
    writer = SpoolWriter(digest_of(data), sent, folder)
    for start in range(0, len(data), piece):
        writer.write(data[start : start + piece])
    writer.commit()


@pytest.mark.parametrize("piece", [3000, 64 * 1024, MB, 5 * MB])
def test_an_upload_that_does_not_fit_is_refused_and_makes_room_for_others(
    sent: Sent, disk: Path, piece: int
) -> None:
    with pytest.raises(ResourceExhausted, match=r"disk that holds uploads .* is full .*spool_path") as raised:
        upload(sent, disk, os.urandom(5 * MB), piece)
    assert str(disk) in str(raised.value)
    assert (list(disk.iterdir()), os.statvfs(disk).f_bfree * os.statvfs(disk).f_frsize) == ([], 2 * MB)
    fits = os.urandom(2 * MB)
    upload(sent, disk, fits, piece)
    assert sent.contents == [fits]


def test_what_does_not_fit_by_its_last_byte_is_refused_at_the_end(sent: Sent, disk: Path) -> None:
    data = os.urandom(2 * MB + 1)
    with pytest.raises(ResourceExhausted, match="is full"):
        upload(sent, disk, data, 100_000)
    assert sent.contents == []


def test_a_simulated_full_disk_is_refused_too(
    sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> IO[bytes]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.TemporaryFile", no_room)
    with pytest.raises(ResourceExhausted, match="is full"):
        upload(sent, tmp_path, os.urandom(2 * MB), 64 * 1024)
    small = os.urandom(1000)
    upload(sent, tmp_path, small, 100)
    assert sent.contents == [small]


def test_after_an_error_the_upload_has_ended(sent: Sent, tmp_path: Path) -> None:
    writer = SpoolWriter(digest_of(b"four"), sent, tmp_path)
    with pytest.raises(InvalidArgument, match="more than 4 bytes"):
        writer.write(b"more than four")
    with pytest.raises(InvalidArgument, match="has ended"):
        writer.write(b"four")
    with pytest.raises(InvalidArgument, match="has ended"):
        writer.commit()
    writer.abort()
    assert sent.contents == []
