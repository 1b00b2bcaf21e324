"""Input trees of shapes that are rare or hostile, as Directory messages and digests."""

from collections.abc import Iterable, Mapping

from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest, Directory


def directory(
    files: Mapping[str, Digest] | None = None,
    directories: Mapping[str, Digest] | None = None,
    symlinks: Mapping[str, str] | None = None,
) -> Directory:
    """A Directory in canonical form, as far as the names let it be."""
    made = Directory()
    for name, digest in sorted((files or {}).items()):
        made.files.add(name=name, digest=digest)
    for name, digest in sorted((directories or {}).items()):
        made.directories.add(name=name, digest=digest)
    for name, target in sorted((symlinks or {}).items()):
        made.symlinks.add(name=name, target=target)
    return made


def packed(made: Directory) -> bytes:
    """A Directory as the CAS has it."""
    return made.SerializeToString(deterministic=True)


def chain(levels: int, leaf: Directory, name: str = "d") -> list[bytes]:
    """`leaf` below so many directories that hold nothing else; the root is the last."""
    return _stacked(leaf, [(name,)] * levels)


def bomb(levels: int, leaf: Directory) -> list[bytes]:
    """2^levels paths to `leaf` in as many directories as levels; the root is the last."""
    return _stacked(leaf, [("a", "b")] * levels)


def wide(files: Iterable[tuple[str, Digest]], folders: int) -> list[bytes]:
    """Files spread over so many folders of one root, which is the last."""
    parts = [Directory() for _ in range(folders)]
    for number, (name, digest) in enumerate(files):
        parts[number % folders].files.add(name=name, digest=digest)
    blobs = [packed(part) for part in parts]
    root = directory(directories={f"folder-{n:05}": digest_of(blob) for n, blob in enumerate(blobs)})
    return [*blobs, packed(root)]


def _stacked(leaf: Directory, levels: list[tuple[str, ...]]) -> list[bytes]:
    blobs = [packed(leaf)]
    for names in levels:
        below = digest_of(blobs[-1])
        blobs.append(packed(directory(directories=dict.fromkeys(names, below))))
    return blobs
