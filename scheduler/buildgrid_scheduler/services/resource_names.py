"""Resource names of the ByteStream service (REAPI, ContentAddressableStorage).

    [INSTANCE/]blobs/HASH/SIZE                              read
    [INSTANCE/]uploads/UUID/blobs/HASH/SIZE[/ANYTHING]      write

with `compressed-blobs/zstd` instead of `blobs` for ZSTD streams, and optionally the digest function
(`sha256/`) before HASH. Instance names may hold slashes, but none of the keywords as a segment, says REAPI:
so the first keyword ends the instance name. All functions raise InvalidArgument.
"""

from dataclasses import dataclass

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.storage.abc import check_digest

READ_FORM = "[INSTANCE/]blobs/HASH/SIZE or [INSTANCE/]compressed-blobs/zstd/HASH/SIZE"
UPLOAD_FORM = (
    "[INSTANCE/]uploads/UUID/blobs/HASH/SIZE or [INSTANCE/]uploads/UUID/compressed-blobs/zstd/HASH/SIZE"
)
_BLOBS = "blobs"
_COMPRESSED = "compressed-blobs"
_UPLOADS = "uploads"
_MAX_UUID_LENGTH = 128


@dataclass(frozen=True, slots=True)
class BlobName:
    """What a blob's name says. `zstd`: it travels compressed; the digest is that of the uncompressed blob."""

    instance: str
    hash: str
    size: int
    zstd: bool

    @property
    def digest(self) -> Digest:
        """The digest as a message."""
        return Digest(hash=self.hash, size_bytes=self.size)

    @property
    def key(self) -> str:
        """`HASH/SIZE`."""
        return digest_key(self.digest)


@dataclass(frozen=True, slots=True)
class UploadName:
    """What an upload's name says. Equal names mean the same upload, whatever comes after SIZE."""

    blob: BlobName
    uuid: str


def parse_blob_name(name: str) -> BlobName:
    """Parses a name to read from."""
    segments = name.split("/")
    start = next((i for i, segment in enumerate(segments) if segment in (_BLOBS, _COMPRESSED)), None)
    if start is None:
        raise _malformed(name, READ_FORM)
    blob, rest = _parse_blob("/".join(segments[:start]), segments[start:], name, READ_FORM)
    if rest:
        raise _malformed(name, READ_FORM)
    return blob


def parse_upload_name(name: str) -> UploadName:
    """Parses a name to write to."""
    segments = name.split("/")
    start = next((i for i, segment in enumerate(segments) if segment == _UPLOADS), None)
    if start is None or len(segments) < start + 3 or not 0 < len(segments[start + 1]) <= _MAX_UUID_LENGTH:
        raise _malformed(name, UPLOAD_FORM)
    blob, _ = _parse_blob("/".join(segments[:start]), segments[start + 2 :], name, UPLOAD_FORM)
    return UploadName(blob, segments[start + 1])


def _parse_blob(instance: str, segments: list[str], name: str, form: str) -> tuple[BlobName, list[str]]:
    """The blob at the start of the segments, and the segments after it."""
    keyword, *rest = segments
    if keyword == _COMPRESSED:
        if rest[:1] != ["zstd"]:
            raise InvalidArgument(f"resource_name {name[:300]!r}: the only compressor is zstd")
        rest = rest[1:]
    elif keyword != _BLOBS:
        raise _malformed(name, form)
    if rest[:1] == ["sha256"]:
        rest = rest[1:]
    if len(rest) < 2 or not (rest[1].isascii() and rest[1].isdecimal() and len(rest[1]) < 19):
        raise _malformed(name, form)
    blob = BlobName(instance, rest[0], int(rest[1]), keyword == _COMPRESSED)
    check_digest(blob.digest)
    return blob, rest[2:]


def _malformed(name: str, form: str) -> InvalidArgument:
    return InvalidArgument(f"resource_name {name[:300]!r} is not {form}")
