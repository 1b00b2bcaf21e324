"""Walks a directory tree in the CAS for GetTree.

The order is breadth first, children in the order of their parent, each directory once however often it is
referred to. Since content fixes the order, a page token is a position in it, and any replica can go on from
there. Directories that are missing below the root are left out, with all below them (REAPI, GetTree: "If part
of the tree is missing from the CAS, the server will return the portion present and omit the rest").
"""

import base64
import binascii
from collections import deque

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Digest,
    Directory,
    GetTreeResponse,
)
from google.protobuf.message import DecodeError

from buildgrid_scheduler.core.errors import InvalidArgument, NotFound
from buildgrid_scheduler.services.limits import MAX_BATCH_BYTES, MAX_DIRECTORY_BYTES
from buildgrid_scheduler.storage.abc import StorageABC, check_digest
from buildgrid_scheduler.storage.completeness import groups

MAX_PAGE_SIZE = 1000


class TreeWalk:
    """One walk, page by page. Blocking; one thread at a time.

    `page_size` is the number of directories on a page (0: as many as the server likes, at most 1,000 or one
    message). The constructor raises InvalidArgument for what is malformed.
    """

    def __init__(self, storage: StorageABC, root: Digest, page_size: int, page_token: str) -> None:
        check_digest(root)
        if root.size_bytes > MAX_DIRECTORY_BYTES:
            raise InvalidArgument(
                f"root_digest {digest_key(root)} is larger than any Directory may be here "
                f"({MAX_DIRECTORY_BYTES} bytes)"
            )
        if page_size < 0:
            raise InvalidArgument(f"page_size is {page_size}, must not be negative")
        self._storage = storage
        self._root = root
        self._page_size = min(page_size or MAX_PAGE_SIZE, MAX_PAGE_SIZE)
        self._skip = _position(page_token, root) if page_token else 0
        self._visited = 0
        # Found and not read yet; read and not sent yet, both in the walk's order.
        self._queue: list[Digest] = [root]
        self._seen = {digest_key(root)}
        self._ready: deque[Directory] = deque()
        self._at_root = True
        self._sent = False

    def next_page(self) -> GetTreeResponse | None:
        """The next page, None after the last. NotFound when the root is not here.

        The first page comes even when it is empty. The last has no token.
        """
        page = GetTreeResponse()
        size = 0
        while len(page.directories) < self._page_size:
            if not self._ready and not self._read_more():
                break
            directory = self._ready[0]
            size += directory.ByteSize() + 8
            if page.directories and size > MAX_BATCH_BYTES:
                break
            page.directories.append(self._ready.popleft())
            self._visited += 1
        if not page.directories and self._sent:
            return None
        self._sent = True
        if self._ready or self._read_more():
            page.next_page_token = _token(self._visited, self._root)
        return page

    def _read_more(self) -> bool:
        """Reads on until there is a directory to send; False at the end."""
        while self._queue and not self._ready:
            group = next(groups(self._queue[:MAX_PAGE_SIZE], MAX_BATCH_BYTES))
            del self._queue[: len(group)]
            blobs = self._storage.read_many(group)
            for digest in group:
                directory = self._parse(digest, blobs.get(digest_key(digest)))
                if directory is None:
                    continue
                self._enqueue(directory)
                if self._skip:
                    self._skip -= 1
                    self._visited += 1
                else:
                    self._ready.append(directory)
        return bool(self._ready)

    def _parse(self, digest: Digest, data: bytes | None) -> Directory | None:
        at_root, self._at_root = self._at_root, False
        if data is None:
            if at_root:
                raise NotFound(f"root_digest {digest_key(digest)} is not here")
            return None
        try:
            return Directory.FromString(data)
        except DecodeError:
            if at_root:
                raise InvalidArgument(f"root_digest {digest_key(digest)} is not a Directory") from None
            return None

    def _enqueue(self, directory: Directory) -> None:
        for node in directory.directories:
            key = digest_key(node.digest)
            if key in self._seen:
                continue
            self._seen.add(key)
            try:
                check_digest(node.digest)
            except InvalidArgument:
                continue  # cannot be here, so it is missing
            if node.digest.size_bytes <= MAX_DIRECTORY_BYTES:
                self._queue.append(node.digest)


def _token(position: int, root: Digest) -> str:
    return base64.urlsafe_b64encode(f"{position}:{root.hash[:16]}".encode()).decode()


def _position(token: str, root: Digest) -> int:
    try:
        position, _, of_root = base64.urlsafe_b64decode(token.encode()).decode().partition(":")
        if of_root == root.hash[:16] and position.isascii() and position.isdecimal() and len(position) < 19:
            return int(position)
    except (binascii.Error, ValueError):
        pass  # told below
    raise InvalidArgument(f"page_token {token[:80]!r} is not one of an earlier answer for this root")
