"""Uploads that can be resumed: what ByteStream.Write leaves behind when its stream breaks.

They belong to this process. A client that comes back to another replica is told that nothing has arrived, and
starts again, which is correct and only slower. Used on the event loop only, hence no locks.
"""

import asyncio
from dataclasses import dataclass

from buildgrid_scheduler.core.errors import InvalidArgument, Unavailable
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.resource_names import UploadName
from buildgrid_scheduler.storage.abc import BlobWriter, StorageABC
from buildgrid_scheduler.storage.zstd import DecompressingWriter

# A parked upload holds an open file, and its bytes count towards the storage's bound.
MAX_PARKED = 256


@dataclass(eq=False)
class Upload:
    """One upload; its writer is used by one call at a time."""

    name: UploadName
    writer: BlobWriter
    # Stored, or failed: there is nothing to resume.
    is_over: bool = False
    expiry: asyncio.TimerHandle | None = None

    @property
    def is_parked(self) -> bool:
        """Whether no call is writing."""
        return self.expiry is not None


class Uploads:
    """The uploads of one server by name. Those that nobody resumes within `idle_seconds` are dropped."""

    def __init__(self, storage: StorageABC, blocking: Blocking, idle_seconds: float) -> None:
        self._storage = storage
        self._blocking = blocking
        self._idle_seconds = idle_seconds
        self._uploads: dict[UploadName, Upload] = {}

    def committed(self, name: UploadName) -> int | None:
        """Bytes of the blob that have arrived; None when the upload is not known."""
        upload = self._uploads.get(name)
        return None if upload is None else upload.writer.committed

    async def open(self, name: UploadName, offset: int) -> Upload:
        """The upload to go on with at this offset.

        At 0 it starts afresh, even if there is one by this name: a client whose connection broke may return
        before we have noticed, and the call that lost its client goes on with a writer of its own.
        InvalidArgument for an offset that is not the committed size, Unavailable while another call writes.
        """
        known = self._uploads.get(name)
        if offset and (known is None or known.writer.committed != offset):
            committed = 0 if known is None else known.writer.committed
            raise InvalidArgument(
                f"write_offset is {offset}, but {committed} bytes of this upload are here: "
                "ask QueryWriteStatus and go on from there"
            )
        if known is not None and offset:
            if not known.is_parked:
                raise Unavailable("another call is still writing this upload: try again")
            self._unpark(known)
            if isinstance(known.writer, DecompressingWriter):
                # REAPI: the offset is one in the blob. The client compresses what is left of it anew.
                known.writer.begin_frame()
            return known
        if known is not None and known.is_parked:
            self.drop(known)
        writer = await self._blocking(self._storage.begin_write, name.blob.digest)
        upload = Upload(name, DecompressingWriter(writer) if name.blob.zstd else writer)
        self._uploads[name] = upload
        return upload

    def put_back(self, upload: Upload) -> None:
        """Ends a call's use of an upload. What is unfinished is kept for its client to resume."""
        replaced = self._uploads.get(upload.name) is not upload
        if upload.is_over or replaced or not upload.writer.committed:
            self.drop(upload)
            return
        # To the end of the dictionary, which is thereby in the order of parking.
        self._uploads[upload.name] = self._uploads.pop(upload.name)
        loop = asyncio.get_running_loop()
        upload.expiry = loop.call_later(self._idle_seconds, self.drop, upload)
        parked = [other for other in self._uploads.values() if other.is_parked]
        if len(parked) > MAX_PARKED:
            self.drop(parked[0])

    def drop(self, upload: Upload) -> None:
        """Forgets an upload: it is finished, or has failed, or nobody came back."""
        self._unpark(upload)
        if self._uploads.get(upload.name) is upload:
            del self._uploads[upload.name]
        self._blocking.submit(upload.writer.abort)

    def drop_parked(self) -> None:
        """Forgets all that wait to be resumed."""
        for upload in [upload for upload in self._uploads.values() if upload.is_parked]:
            self.drop(upload)

    def _unpark(self, upload: Upload) -> None:
        if upload.expiry is not None:
            upload.expiry.cancel()
            upload.expiry = None
