"""Blobs as objects: one object a blob, named by its hash, written whole or not at all."""

import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, ParamSpec, TypeVar

import grpc
from buildgrid_client.digests import digest_key
from buildgrid_client.retries import OUTAGE_CODES
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.errors import (
    FailedPrecondition,
    NotFound,
    OutOfRange,
    SchedulerError,
    Unavailable,
)
from buildgrid_scheduler.storage.network import NetworkStorage
from buildgrid_scheduler.storage.object_store.failures import failure_of
from buildgrid_scheduler.storage.object_store.location import REQUEST_SECONDS, ObjectStoreLocation, OpenStore
from buildgrid_scheduler.storage.object_store.refresher import Refresher
from buildgrid_scheduler.storage.outages import DEFAULT_TOLERANCE, CallFailed, Outages

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# What travels in one request, in bytes: below this the round trips cost more than the bytes.
PART_BYTES = 8 * 1024 * 1024
# S3 takes 10,000 parts an upload.
_MOST_PARTS = 9_000
_PARTS_AT_ONCE = 4
# S3 copies no more in one request.
_LARGEST_COPY = 5 * 1024**3
DEFAULT_REFRESH_AFTER = timedelta(days=7)
DEFAULT_REQUESTS_AT_ONCE = 32

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class ObjectStorage(NetworkStorage):
    """Objects `cas/xx/HASH` under the location's prefix.

    `has_many` is one HEAD a blob, `requests_at_once` of them at a time; a disk tier that remembers what was
    confirmed (`TieredStorage`) saves most. Nothing is ever deleted: that is the bucket's lifecycle rule, by
    age, and objects that are asked for when they are older than `refresh_after` are made young again (None:
    never, for a bucket without a rule). Blobs above 5 GiB are not: they live from their upload on.
    `request_seconds` bounds one request, `outage_tolerance` how long the store may be away before calls fail.
    """

    def __init__(
        self,
        location: ObjectStoreLocation,
        *,
        spool: Path | None = None,
        outage_tolerance: timedelta = DEFAULT_TOLERANCE,
        refresh_after: timedelta | None = DEFAULT_REFRESH_AFTER,
        requests_at_once: int = DEFAULT_REQUESTS_AT_ONCE,
        request_seconds: float = REQUEST_SECONDS,
        part_bytes: int = PART_BYTES,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Clock = utc_now,
    ) -> None:
        super().__init__(Outages(location.name, outage_tolerance, clock=clock), spool)
        self._store = OpenStore(location, request_seconds, clock)
        self._refresh_after = refresh_after
        self._requests_at_once = requests_at_once
        self._part_bytes = part_bytes
        self._wall_clock = wall_clock
        self._pool: ThreadPoolExecutor | None = None
        self._refresher = Refresher(self._refresh)

    def start(self) -> None:
        """FailedPrecondition when the store answers, but not as one that can be used."""
        super().start()
        self._pool = ThreadPoolExecutor(self._requests_at_once, "object-store")
        try:
            self._check_access()
        except SchedulerError:
            self._pool.shutdown()
            raise
        if self._refresh_after is not None:
            self._refresher.start()

    def stop(self) -> None:
        super().stop()
        self._refresher.stop()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _check_access(self) -> None:
        """Finds out what HEAD does not tell: a bucket that is not there looks empty. Waits for nothing."""
        try:
            self._try(lambda store: next(iter(store.list("cas", chunk_size=1)), None))
        except CallFailed as failure:
            if failure.code in OUTAGE_CODES:
                return
            if failure.code != grpc.StatusCode.PERMISSION_DENIED:
                raise self._unusable(failure, "check the URL, the region and the credentials") from failure
            self._check_access_without_list()

    def _check_access_without_list(self) -> None:
        try:
            self._try(lambda store: store.head("cas/not-there"))
        except CallFailed as failure:
            if failure.code == grpc.StatusCode.NOT_FOUND or failure.code in OUTAGE_CODES:
                return
            raise self._unusable(
                failure,
                "allow to read, write and list (without s3:ListBucket, S3 says 403 of what is missing)",
            ) from failure

    def _unusable(self, failure: CallFailed, remedy: str) -> FailedPrecondition:
        return FailedPrecondition(f"{self._outages.name} cannot be used: {failure.details}; {remedy}")

    def _present(self, digests: list[Digest]) -> set[str]:
        found = self._together(self._is_there, digests)
        return {digest_key(digest) for digest, there in zip(digests, found, strict=True) if there}

    def _is_there(self, digest: Digest) -> bool:
        name = _name(digest)
        try:
            meta = self._request(f"look for blob {digest_key(digest)}", lambda store: store.head(name))
        except NotFound:
            return False
        if meta["size"] != digest.size_bytes:
            return False
        age = self._wall_clock() - meta["last_modified"]
        if self._refresh_after is not None and age > self._refresh_after and meta["size"] <= _LARGEST_COPY:
            self._refresher.note(name)
        return True

    def _refresh(self, names: list[str]) -> None:
        self._together(self._refresh_one, names)

    def _refresh_one(self, name: str) -> None:
        # Two replicas may do this at once: both copy the same bytes, and one finds the copy gone.
        aside = f"refresh/{name.rpartition('/')[2]}"
        try:
            self._request("refresh", lambda store: store.copy(name, aside))
            self._request("refresh", lambda store: store.copy(aside, name))
            self._request("refresh", lambda store: store.delete(aside))
        except NotFound:
            return

    def _contents(self, digests: list[Digest]) -> dict[str, bytes]:
        found = self._together(self._content, digests)
        return {
            digest_key(digest): blob for digest, blob in zip(digests, found, strict=True) if blob is not None
        }

    def _content(self, digest: Digest) -> bytes | None:
        if digest.size_bytes <= self._part_bytes:
            return self._part(digest, 0, digest.size_bytes)
        parts = []
        for start in range(0, digest.size_bytes, self._part_bytes):
            part = self._part(digest, start, min(digest.size_bytes - start, self._part_bytes))
            if part is None:
                return None
            parts.append(part)
        blob = b"".join(parts)
        self._check_received(digest, blob)
        return blob

    def _pieces(self, digest: Digest, offset: int, size: int) -> Generator[bytes] | None:
        first = self._part(digest, offset, min(size, self._part_bytes))
        return None if first is None else self._following(digest, offset, offset + size, first)

    def _following(self, digest: Digest, position: int, end: int, part: bytes) -> Generator[bytes]:
        """The parts from the first one on; each is requested while the one before is used."""
        while True:
            position += len(part)
            if position == end:
                yield part
                return
            ahead = self._submit(self._part, digest, position, min(end - position, self._part_bytes))
            try:
                yield part
                following = _result(ahead)
            finally:
                ahead.cancel()
            if following is None:
                raise Unavailable(f"blob {digest_key(digest)} was deleted while it was read: ask again")
            part = following

    def _part(self, digest: Digest, start: int, length: int) -> bytes | None:
        what = f"read blob {digest_key(digest)}"
        try:
            return self._request(what, lambda store: self._get(store, digest, start, length))
        except (NotFound, OutOfRange):
            return None  # nothing, or another size and therefore another blob

    def _get(self, store: "ObjectStore", digest: Digest, start: int, length: int) -> bytes | None:
        """One try. A whole blob is verified: damage may have happened on the way."""
        result = store.get(_name(digest), options={"range": (start, start + length)})
        if result.meta["size"] != digest.size_bytes:
            return None
        data = bytes(result.bytes())
        if len(data) != length:
            raise CallFailed(grpc.StatusCode.DATA_LOSS, f"{len(data)} bytes came instead of {length}")
        if length == digest.size_bytes:
            try:
                self._check_received(digest, data)
            except SchedulerError as error:
                raise CallFailed(grpc.StatusCode.DATA_LOSS, str(error)) from error
        return data

    def _send(self, digest: Digest, source: IO[bytes]) -> None:
        what = f"store blob {digest_key(digest)}"
        if digest.size_bytes <= self._part_bytes:
            data = source.read()
            self._request(what, lambda store: store.put(_name(digest), data, use_multipart=False))
            return

        def put(store: "ObjectStore") -> None:
            source.seek(0)
            part = max(self._part_bytes, -(-digest.size_bytes // _MOST_PARTS))
            store.put(_name(digest), source, chunk_size=part, max_concurrency=_PARTS_AT_ONCE)

        self._request(what, put)

    def write_many(self, blobs: list[tuple[Digest, bytes]]) -> list[SchedulerError | None]:
        return self._together(self._outcome_of_write, blobs)

    def _outcome_of_write(self, blob: tuple[Digest, bytes]) -> SchedulerError | None:
        try:
            self._write_one(*blob)
        except SchedulerError as error:
            return error
        return None

    def _request(self, what: str, call: Callable[["ObjectStore"], T]) -> T:
        return self._outages.retrying(what, partial(self._try, call))

    def _try(self, call: Callable[["ObjectStore"], T]) -> T:
        """One try. Raises CallFailed."""
        from obstore.exceptions import BaseError

        store = self._store.current()
        try:
            return call(store)
        except (BaseError, FileNotFoundError) as error:
            raise failure_of(error) from error

    def _together(self, call: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The results, in order, of calls that run beside each other; the first error is raised.

        The calls must not wait for other work of the pool.
        """
        if len(items) == 1:
            return [call(items[0])]
        futures = [self._submit(call, item) for item in items]
        try:
            return [_result(future) for future in futures]
        finally:
            for future in futures:
                future.cancel()

    def _submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        if self._pool is None:
            raise RuntimeError("the object storage has not been started")
        try:
            return self._pool.submit(call, *args, **kwargs)
        except RuntimeError:
            self._outages.check_running()
            raise


def _result(future: "Future[T]") -> T:
    try:
        return future.result()
    except CancelledError as error:
        raise Unavailable("the object storage is not used any more: this server is stopping") from error


def _name(digest: Digest) -> str:
    return f"cas/{digest.hash[:2]}/{digest.hash}"
