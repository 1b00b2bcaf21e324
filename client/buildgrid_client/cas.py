"""A client of ContentAddressableStorage and ByteStream: whole sets of blobs, in as few calls as they need.

Everything that arrives is verified. An outage of the server is waited out up to `outage_tolerance`.
"""

import asyncio
import hashlib
import io
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import BinaryIO

import grpc
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    BatchReadBlobsRequest,
    BatchUpdateBlobsRequest,
    Digest,
    FindMissingBlobsRequest,
)
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
    ContentAddressableStorageStub,
)

from buildgrid_client.batching import BATCH_BYTES, chunked, plan_batches
from buildgrid_client.byte_streams import ByteStreams, download_to
from buildgrid_client.digests import EMPTY_HASH, digest_key, digest_of
from buildgrid_client.errors import BlobCorrupt, BlobsMissing, CasRefused, CasUnavailable
from buildgrid_client.retries import OUTAGE_CODES, retry_delay

_log = logging.getLogger(__name__)

_UNARY_DEADLINE = 60.0
# Enough to fill a fast network, few enough that one client does not crowd out others.
_CALLS_AT_ONCE = 8


class CasClient:
    """The CAS of one instance.

    Digests may come in any order and more than once; a blob moves once. All methods raise CasUnavailable when
    the server stays away for longer than `outage_tolerance` seconds, and CasRefused for errors that waiting
    does not mend. `batch_bytes` is how much data goes into one message; larger blobs are streamed.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        instance_name: str = "",
        *,
        outage_tolerance: float = 300.0,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._stub = ContentAddressableStorageStub(channel)
        self._streams = ByteStreams(channel, instance_name, self._retrying)
        self._instance = instance_name
        self._outage_tolerance = outage_tolerance
        self._batch_bytes = batch_bytes
        self._calls = asyncio.Semaphore(_CALLS_AT_ONCE)

    async def find_missing(self, digests: Iterable[Digest]) -> set[str]:
        """Keys (HASH/SIZE) of those blobs that the CAS lacks; it keeps the others for a while longer.

        The empty blob is never missing (REAPI, ContentAddressableStorage), and not asked for.
        """
        wanted = [digest for digest in _distinct(digests).values() if not _is_empty(digest)]
        missing: set[str] = set()

        async def ask(part: Iterable[Digest]) -> None:
            request = FindMissingBlobsRequest(instance_name=self._instance, blob_digests=part)
            response = await self._stub.FindMissingBlobs(request, timeout=_UNARY_DEADLINE)
            missing.update(map(digest_key, response.missing_blob_digests))

        await self._all(self._limited("find missing blobs", partial(ask, part)) for part in chunked(wanted))
        return missing

    async def read_blobs(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        """Blobs by key (HASH/SIZE), all in memory. Raises BlobsMissing with all that are not there."""
        wanted = _distinct(digests)
        blobs: dict[str, bytes] = {}
        missing: set[str] = set()
        for key in [key for key, digest in wanted.items() if _is_empty(digest)]:
            blobs[key] = b""
            del wanted[key]
        batches, large = plan_batches(wanted.values(), self._batch_bytes)

        async def read_batch(batch: list[Digest]) -> None:
            request = BatchReadBlobsRequest(instance_name=self._instance, digests=batch)
            response = await self._stub.BatchReadBlobs(request, timeout=_UNARY_DEADLINE)
            asked = set(map(digest_key, batch))
            for item in response.responses:
                key = digest_key(item.digest)
                if key not in asked:
                    continue
                if item.status.code == grpc.StatusCode.NOT_FOUND.value[0]:
                    missing.add(key)
                elif item.status.code:
                    raise _StatusError(item.status.code, f"blob {key}: {item.status.message}")
                else:
                    _verify(item.data, item.digest)
                    blobs[key] = item.data
            if silent := asked - blobs.keys() - missing:
                raise CasRefused(f"the CAS did not answer for blob {min(silent)}", grpc.StatusCode.INTERNAL)

        async def read_large(digest: Digest) -> None:
            sink = io.BytesIO()
            try:
                async with self._calls:
                    await self._streams.read(digest, sink)
            except BlobsMissing as error:
                missing.update(error.keys)
            else:
                blobs[digest_key(digest)] = sink.getvalue()

        await self._all(
            [
                *(self._limited("read blobs", partial(read_batch, batch)) for batch in batches),
                *(read_large(digest) for digest in large),
            ]
        )
        if missing:
            raise BlobsMissing(missing)
        return blobs

    async def download_file(self, digest: Digest, path: Path) -> None:
        """The blob as a file at `path`, streamed and verified; it appears whole or not at all."""
        async with self._calls:
            await download_to(self._streams, digest, path)

    async def upload_blobs(self, blobs: Iterable[bytes]) -> list[Digest]:
        """Stores those blobs that the CAS lacks. The digests of all, in the order of the blobs."""
        return await self.upload(blobs, {})

    async def upload_files(self, files: Mapping[str, tuple[Digest, Path]]) -> None:
        """Stores those files that the CAS lacks, each by the digest the caller computed; keys are HASH/SIZE.

        Raises BlobCorrupt when a file changed since.
        """
        await self.upload((), files)

    async def upload(self, blobs: Iterable[bytes], files: Mapping[str, tuple[Digest, Path]]) -> list[Digest]:
        """`upload_blobs` and `upload_files` in one, and in fewer calls.

        The digests of the blobs, in order.
        """
        digests = []
        data: dict[str, bytes] = {}
        for blob in blobs:
            digest = digest_of(blob)
            digests.append(digest)
            data[digest_key(digest)] = blob

        def load(digest: Digest) -> bytes:
            key = digest_key(digest)
            return data[key] if key in data else files[key][1].read_bytes()

        def open_(digest: Digest) -> BinaryIO:
            key = digest_key(digest)
            return io.BytesIO(data[key]) if key in data else files[key][1].open("rb")

        await self._upload([*digests, *(digest for digest, _ in files.values())], load, open_)
        return digests

    async def _upload(
        self, digests: list[Digest], load: Callable[[Digest], bytes], open_: Callable[[Digest], BinaryIO]
    ) -> None:
        distinct = _distinct(digests)
        missing = [
            distinct[key] for key in sorted(await self.find_missing(distinct.values())) if key in distinct
        ]
        batches, large = plan_batches(missing, self._batch_bytes)

        async def send_batch(batch: list[Digest]) -> None:
            request = BatchUpdateBlobsRequest(instance_name=self._instance)
            for digest, data in zip(batch, await asyncio.to_thread(_load_all, load, batch), strict=True):
                request.requests.add(digest=digest, data=data)
            response = await self._stub.BatchUpdateBlobs(request, timeout=_UNARY_DEADLINE)
            for item in response.responses:
                if item.status.code:
                    raise _StatusError(
                        item.status.code, f"blob {digest_key(item.digest)}: {item.status.message}"
                    )

        async def send_large(digest: Digest) -> None:
            with open_(digest) as source:
                async with self._calls:
                    await self._streams.write(digest, source)

        await self._all(
            [
                *(self._limited("upload blobs", partial(send_batch, batch)) for batch in batches),
                *(send_large(digest) for digest in large),
            ]
        )

    async def _limited(self, what: str, call: Callable[[], Awaitable[None]]) -> None:
        async with self._calls:
            await self._retrying(what, call)

    @staticmethod
    async def _all(calls: Iterable[Awaitable[None]]) -> None:
        """All calls at once; the first failure cancels the others and is raised as it is."""
        tasks = [asyncio.ensure_future(call) for call in calls]
        try:
            await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _retrying(
        self, what: str, call: Callable[[], Awaitable[None]], progress: Callable[[], int] = lambda: 0
    ) -> None:
        failures = 0
        first_failure = 0.0
        reached = 0
        while True:
            try:
                return await call()
            except (grpc.aio.AioRpcError, _StatusError) as error:
                code, details = error.code(), error.details()
                if progress() > reached:
                    # A long transfer may live through several outages: each has the whole tolerance.
                    reached, failures, first_failure = progress(), 0, 0.0
                failures += 1
                now = time.monotonic()
                first_failure = first_failure or now
                delay = retry_delay(code, failures, now - first_failure, self._outage_tolerance)
                if delay is None:
                    message = f"cannot {what}: {code.name}: {details}"
                    if code in OUTAGE_CODES:
                        raise CasUnavailable(message) from error
                    raise CasRefused(message, code) from error
                _log.log(
                    logging.WARNING if failures == 1 else logging.DEBUG,
                    "cannot %s (%s: %s); trying again for up to %.0f s",
                    what,
                    code.name,
                    details,
                    self._outage_tolerance,
                )
                await asyncio.sleep(delay)


class _StatusError(Exception):
    """The status of one blob within a batch that as a whole was answered."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self._code = _CODES.get(code, grpc.StatusCode.UNKNOWN)

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return str(self)


_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def _is_empty(digest: Digest) -> bool:
    return digest.hash == EMPTY_HASH and not digest.size_bytes


def _distinct(digests: Iterable[Digest]) -> dict[str, Digest]:
    return {digest_key(digest): digest for digest in digests}


def _load_all(load: Callable[[Digest], bytes], batch: list[Digest]) -> list[bytes]:
    blobs = []
    for digest in batch:
        data = load(digest)
        _verify(data, digest)
        blobs.append(data)
    return blobs


def _verify(data: bytes, digest: Digest) -> None:
    if len(data) != digest.size_bytes or hashlib.sha256(data).hexdigest() != digest.hash:
        raise BlobCorrupt(f"blob {digest_key(digest)} has {len(data)} bytes that do not match its digest")
