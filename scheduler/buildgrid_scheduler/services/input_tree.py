"""What an input tree needs of the CAS, worked out directory by directory. Pure; see `input_tree_check`.

Rules of a Directory (REAPI, message Directory) and what becomes of those who break them:

- Names are one path segment each, and unique among files, directories and symlinks together: InvalidArgument
  otherwise, since no two machines would agree on what such a tree is.
- Digests are well formed, negative sizes included: InvalidArgument otherwise.
- Symlinks may lead anywhere. SymlinkNode allows `..` anywhere in a target, even out of the root, because only
  the machine that follows the link knows where it leads, and our Capabilities allow absolute targets; what a
  link may reach is for the sandbox to decide. Only a target that no file system can hold (empty, or with a
  NUL) is an InvalidArgument.
- Entries should be sorted by their UTF-8 bytes. That is for the client's sake, so that equal trees have equal
  digests; a tree in another order is no less clear, and clients that sort by UTF-16 units (as languages of
  that school do) differ in good faith for rare names. So the order is not looked at.
"""

from collections import deque
from collections.abc import Callable, Iterable

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest, Directory
from google.protobuf.message import DecodeError

from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.services.limits import MAX_DIRECTORY_BYTES
from buildgrid_scheduler.storage.abc import check_digest

MAX_ENTRIES = 1_000_000
"""Files, directories and symlinks in the distinct directories of a tree; each takes 110 bytes of memory."""
MAX_NAMED = 1000
"""Missing blobs that are named; further ones are only counted."""

# What is read, and asked for, in one go.
_READ_DIRECTORIES = 1000
_READ_BYTES = 4 * 1024 * 1024
_ASK_DIGESTS = 10_000

Key = bytes
"""A digest in 40 bytes: the hash, then the size. A tree of a million entries is kept as these."""


class InputTreeWalk:
    """One tree, breadth first. Each distinct directory is read once and each distinct file asked for once,
    however many paths lead there: two directories that both name the next one twice, thirty times over, are
    thirty directories here and a billion paths on a disk.

    The owner reads what `unread` names and tells it with `add`, asks for what `unasked` names and tells it
    with `note`, until `done`. `known_until` says up to when a directory and all below it are known to be
    there, None where that is not known; what is known is not walked again.
    """

    def __init__(
        self,
        root: Digest,
        known_until: Callable[[Key], float | None] = lambda _: None,
        *,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        check_digest(root)
        self._root = digest_key(root)
        self._known_until = known_until
        self._max_entries = max_entries
        self._directories: set[Key] = set()
        self._files: set[Key] = set()
        self._to_read: deque[Key] = deque()
        self._to_ask: deque[Key] = deque()
        self.entries = 0
        """Entries of the directories read so far."""
        self.known_until = float("inf")
        """Up to when those parts hold that were not walked because they were known."""
        self.missing: list[str] = []
        """`HASH/SIZE` of the first blobs that turned out to be missing; at most MAX_NAMED."""
        self.missing_count = 0
        self._want_directory(root)

    @property
    def done(self) -> bool:
        """Whether everything is known: then `missing` is the answer."""
        return not self._to_read and not self._to_ask

    @property
    def directories(self) -> Iterable[Key]:
        """The distinct directories that were walked."""
        return self._directories

    def want_file(self, digest: Digest) -> None:
        """Asks for one more blob. InvalidArgument for a malformed digest."""
        check_digest(digest)
        key = _packed(digest)
        if digest.size_bytes and key not in self._files:  # the empty blob is always there
            self._files.add(key)
            self._to_ask.append(key)

    def unread(self) -> list[Digest]:
        """The directories to read next, a bounded batch; [] when there are none at the moment."""
        batch: list[Digest] = []
        size = 0
        while self._to_read and len(batch) < _READ_DIRECTORIES:
            digest = _unpacked(self._to_read[0])
            size += digest.size_bytes
            if batch and size > _READ_BYTES:
                break
            self._to_read.popleft()
            batch.append(digest)
        return batch

    def add(self, digest: Digest, data: bytes | None) -> None:
        """What a directory holds; None when it is missing, and with it all knowledge of what is below.

        Raises InvalidArgument naming the directory and the entry.
        """
        if data is None:
            self._miss(digest)
            return
        directory = parse_directory(digest, data)
        self.entries += len(directory.files) + len(directory.directories) + len(directory.symlinks)
        if self.entries > self._max_entries:
            raise InvalidArgument(
                f"input tree {self._root} holds more than {self._max_entries} files, directories and "
                f"symlinks, counting each distinct directory once; this server takes no larger ones"
            )
        for node in directory.files:
            self.want_file(node.digest)
        for child in directory.directories:
            self._want_directory(child.digest)

    def unasked(self) -> list[Digest]:
        """The files to ask for next: a full batch, or the rest once there is nothing more to read."""
        if self._to_read and len(self._to_ask) < _ASK_DIGESTS:
            return []
        return [_unpacked(self._to_ask.popleft()) for _ in range(min(_ASK_DIGESTS, len(self._to_ask)))]

    def note(self, asked: Iterable[Digest], present: set[str]) -> None:
        """Which of the files that were asked for are there."""
        for digest in asked:
            if digest_key(digest) not in present:
                self._miss(digest)

    def _want_directory(self, digest: Digest) -> None:
        key = _packed(digest)
        if key in self._directories:
            return
        until = self._known_until(key)
        if until is not None:
            self.known_until = min(self.known_until, until)
            return
        if digest.size_bytes > MAX_DIRECTORY_BYTES:
            raise InvalidArgument(
                f"{_place(digest)}: Directory messages of more than {MAX_DIRECTORY_BYTES} bytes are not read "
                f"by this server; spread the entries over several directories"
            )
        self._directories.add(key)
        if digest.size_bytes:  # the empty blob is an empty directory, and always there
            self._to_read.append(key)

    def _miss(self, digest: Digest) -> None:
        self.missing_count += 1
        if len(self.missing) < MAX_NAMED:
            self.missing.append(digest_key(digest))


def parse_directory(digest: Digest, data: bytes) -> Directory:
    """The Directory in a blob.

    Raises InvalidArgument, naming the digest and the entry, for one that breaks the rules.
    """
    try:
        directory = Directory.FromString(data)
    except DecodeError as error:
        raise InvalidArgument(f"{_place(digest)}: the blob is not a Directory") from error
    names: set[str] = set()
    for kind, nodes in (
        ("file", directory.files),
        ("directory", directory.directories),
        ("symlink", directory.symlinks),
    ):
        for node in nodes:
            if problem := _name_problem(node.name, names):
                raise _malformed(digest, kind, node.name, problem)
            names.add(node.name)
    for file in directory.files:
        _check_entry(digest, "file", file.name, file.digest)
    for child in directory.directories:
        _check_entry(digest, "directory", child.name, child.digest)
    for link in directory.symlinks:
        if not link.target or "\0" in link.target:
            raise _malformed(digest, "symlink", link.name, "its target is empty or holds a NUL byte")
    return directory


def _name_problem(name: str, others: set[str]) -> str | None:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        return "its name is not a path of one segment"
    if name in others:
        return "another entry has the same name"
    return None


def _check_entry(directory: Digest, kind: str, name: str, digest: Digest) -> None:
    try:
        check_digest(digest)
    except InvalidArgument as error:
        raise _malformed(directory, kind, name, str(error)) from error


def _malformed(directory: Digest, kind: str, name: str, problem: str) -> InvalidArgument:
    # Names come from outside, and may be as long as a message.
    short = repr(name) if len(name) <= 100 else f"{name[:100]!r}..."
    return InvalidArgument(f"{_place(directory)}: {kind} {short}: {problem}")


def _place(digest: Digest) -> str:
    return f"input tree, directory {digest_key(digest)}"


def _packed(digest: Digest) -> Key:
    return bytes.fromhex(digest.hash) + digest.size_bytes.to_bytes(8, "big")


def _unpacked(key: Key) -> Digest:
    return Digest(hash=key[:-8].hex(), size_bytes=int.from_bytes(key[-8:], "big"))
