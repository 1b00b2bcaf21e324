"""Uploads on their way to a storage that is elsewhere: gathered and verified here, then sent in one go.

Nothing that is not verified leaves this process, a client that uploads slowly holds no connection to the
storage, and what was gathered can be sent again when the storage goes away in the middle.
"""

import errno
import hashlib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from buildgrid_scheduler.core.errors import InvalidArgument, ResourceExhausted
from buildgrid_scheduler.storage.abc import BlobWriter, check_digest, too_much, wrong_content

# Up to here an upload stays in memory; above, it is a file without a name, gone when the process dies.
MEMORY_BYTES = 1024 * 1024


class SpoolWriter(BlobWriter):
    """`send(digest, source)` gets the verified content, at its beginning. `folder` None: the system's own."""

    def __init__(
        self, digest: Digest, send: Callable[[Digest, IO[bytes]], None], folder: Path | None
    ) -> None:
        check_digest(digest)
        self._digest = digest
        self._send = send
        self._folder = folder
        self._hash = hashlib.sha256()
        self._committed = 0
        self._spool: IO[bytes] | None = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by `abort`
            max_size=MEMORY_BYTES, dir=None if folder is None else str(folder)
        )

    @property
    def committed(self) -> int:
        return self._committed

    def write(self, data: bytes) -> None:
        spool = self._open_spool()
        try:
            if self._committed + len(data) > self._digest.size_bytes:
                raise too_much(self._digest)
            try:
                spool.write(data)
            except OSError as error:
                raise self._explained(error) from error
        except BaseException:
            self.abort()  # at once: a disk that is full needs the room back
            raise
        self._hash.update(data)
        self._committed += len(data)

    def commit(self) -> None:
        spool = self._open_spool()
        try:
            actual = f"{self._hash.hexdigest()}/{self._committed}"
            if actual != digest_key(self._digest):
                raise wrong_content(self._digest, actual)
            try:
                spool.seek(0)  # writes out what is still buffered
            except OSError as error:
                raise self._explained(error) from error
            if self._committed:
                self._send(self._digest, spool)
        finally:
            self.abort()

    def abort(self) -> None:
        if self._spool is not None:
            spool, self._spool = self._spool, None
            # A full disk does not even take what is still buffered, which nobody wants any more.
            with suppress(OSError):
                spool.close()

    def _open_spool(self) -> IO[bytes]:
        if self._spool is None:
            raise InvalidArgument(f"the upload of {digest_key(self._digest)} has ended")
        return self._spool

    def _explained(self, error: OSError) -> Exception:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return error
        return ResourceExhausted(
            f"the disk that holds uploads under way ({self._folder or tempfile.gettempdir()}) is full "
            f"({error.strerror}): free some space there, or set storage.spool_path to a larger one"
        )
