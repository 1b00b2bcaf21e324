"""The CAS of any server that speaks REAPI."""

import logging
import time
from collections.abc import Callable, Generator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO

import grpc
from buildgrid_client.batching import chunked, plan_batches
from buildgrid_client.digests import digest_key
from buildgrid_client.retries import OUTAGE_CODES
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    BatchReadBlobsRequest,
    BatchReadBlobsResponse,
    BatchUpdateBlobsRequest,
    Compressor,
    Digest,
    FindMissingBlobsRequest,
    GetCapabilitiesRequest,
)

from buildgrid_scheduler.core.errors import FailedPrecondition, InvalidArgument, SchedulerError
from buildgrid_scheduler.storage.abc import check_content
from buildgrid_scheduler.storage.network import NetworkStorage
from buildgrid_scheduler.storage.outages import DEFAULT_TOLERANCE, CallFailed, Outages
from buildgrid_scheduler.storage.remote.capabilities import RemoteCapabilities, capabilities_of
from buildgrid_scheduler.storage.remote.connection import UNARY_DEADLINE, RemoteConnection, RemoteEndpoint
from buildgrid_scheduler.storage.remote.streams import RemoteStreams
from buildgrid_scheduler.storage.zstd import compress_if_smaller, decompress

# At start a server that is away is not waited for: it may be this one's turn to restart first.
_FIRST_DEADLINE = 5.0
# Seconds after which it is asked again what it offers: it may have been upgraded.
_CAPABILITIES_AGE = 600.0
_OK = grpc.StatusCode.OK.value[0]
_ALREADY_EXISTS = grpc.StatusCode.ALREADY_EXISTS.value[0]
_NOT_FOUND = grpc.StatusCode.NOT_FOUND.value[0]
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

_log = logging.getLogger(__name__)


class RemoteStorage(NetworkStorage):
    """Blobs of one instance of another server; all of ours share it.

    Small blobs travel in batches, larger ones through ByteStream, with ZSTD where the server offers it and
    `compression` is on. `spool` is the folder for uploads under way, `outage_tolerance` how long the server
    may be away before calls fail, and `call_timeout` how long one call with one answer may take.
    """

    def __init__(
        self,
        remote: RemoteEndpoint,
        *,
        instance_name: str = "",
        compression: bool = True,
        spool: Path | None = None,
        outage_tolerance: timedelta = DEFAULT_TOLERANCE,
        call_timeout: timedelta = timedelta(seconds=UNARY_DEADLINE),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(Outages(f"the CAS at {remote.endpoint}", outage_tolerance, clock=clock), spool)
        self._connection = RemoteConnection(remote, self._outages, deadline=call_timeout.total_seconds())
        self._streams = RemoteStreams(self._connection, instance_name)
        self._instance = instance_name
        self._compression = compression
        self._known: RemoteCapabilities | None = None
        self._known_until = 0.0

    def start(self) -> None:
        """FailedPrecondition when the server answers, but not as a CAS that can be used."""
        super().start()
        try:
            self._connection.start()
            self._ask_capabilities(_FIRST_DEADLINE)
        except CallFailed as failure:
            if failure.code in OUTAGE_CODES:
                _log.warning("%s does not answer yet: %s", self._outages.name, failure.details)
                return
            self.stop()
            raise FailedPrecondition(
                f"{self._outages.name} cannot be used for instance {self._instance!r} there: "
                f"{failure.code.name}: {failure.details}"
            ) from failure
        except SchedulerError:
            self.stop()
            raise

    def stop(self) -> None:
        self._connection.stop()
        super().stop()

    def _present(self, digests: list[Digest]) -> set[str]:
        present = {digest_key(digest) for digest in digests}
        for part in chunked(digests):
            response = self._connection.call(
                "find missing blobs",
                lambda stubs: stubs.cas.FindMissingBlobs,
                FindMissingBlobsRequest(instance_name=self._instance, blob_digests=part),
            )
            present.difference_update(map(digest_key, response.missing_blob_digests))
        return present

    def _contents(self, digests: list[Digest]) -> dict[str, bytes]:
        blobs: dict[str, bytes] = {}
        batches, large = plan_batches(digests, self._capabilities().batch_bytes)
        for batch in batches:
            blobs.update(self._outages.retrying("read blobs", partial(self._read_batch, batch)))
        for digest in large:
            pieces = self._pieces(digest, 0, digest.size_bytes)
            if pieces is not None:
                blob = b"".join(pieces)
                self._check_received(digest, blob)
                blobs[digest_key(digest)] = blob
        return blobs

    def _read_batch(self, batch: list[Digest]) -> dict[str, bytes]:
        """One try. Damage is a failure of the try: it may have happened on the way."""
        request = BatchReadBlobsRequest(instance_name=self._instance, digests=batch)
        if self._capabilities().zstd_streams:
            request.acceptable_compressors.append(Compressor.ZSTD)
        response = self._connection.try_call(lambda stubs: stubs.cas.BatchReadBlobs, request)
        asked = {digest_key(digest): digest for digest in batch}
        blobs: dict[str, bytes] = {}
        for item in response.responses:
            digest = asked.pop(digest_key(item.digest), None)
            if digest is None or item.status.code == _NOT_FOUND:
                continue
            if item.status.code != _OK:
                raise _failure(item.status.code, f"blob {digest_key(digest)}: {item.status.message}")
            try:
                blob = _uncompressed(item, digest)
                self._check_received(digest, blob)
            except SchedulerError as error:
                raise CallFailed(grpc.StatusCode.DATA_LOSS, str(error)) from error
            blobs[digest_key(digest)] = blob
        if asked:
            raise CallFailed(grpc.StatusCode.INTERNAL, f"no answer for blob {min(asked)}")
        return blobs

    def _pieces(self, digest: Digest, offset: int, size: int) -> Generator[bytes] | None:
        return self._streams.read(digest, offset, size, zstd=self._capabilities().zstd_streams)

    def _send(self, digest: Digest, source: IO[bytes]) -> None:
        batches, _ = plan_batches([digest], self._capabilities().batch_bytes)
        if not batches:
            self._streams.write(digest, source, zstd=self._capabilities().zstd_streams)
            return
        [error] = self._update([(digest, source.read())])
        if error is not None:
            raise error

    def write_many(self, blobs: list[tuple[Digest, bytes]]) -> list[SchedulerError | None]:
        results: list[SchedulerError | None] = [None] * len(blobs)
        places: dict[str, list[int]] = {}
        data: dict[str, bytes] = {}
        for place, (digest, blob) in enumerate(blobs):
            try:
                check_content(digest, blob)
            except InvalidArgument as error:
                results[place] = error
                continue
            if blob:
                places.setdefault(digest_key(digest), []).append(place)
                data[digest_key(digest)] = blob
        distinct = [blobs[found[0]][0] for found in places.values()]
        for key, outcome in self._store(distinct, data).items():
            for place in places[key]:
                results[place] = outcome
        return results

    def _store(self, digests: list[Digest], data: dict[str, bytes]) -> dict[str, SchedulerError]:
        """Errors by key, of those that could not be stored."""
        errors: dict[str, SchedulerError] = {}
        try:
            batches, large = plan_batches(digests, self._capabilities().batch_bytes)
        except SchedulerError as error:
            return {digest_key(digest): error for digest in digests}
        for batch in batches:
            outcomes = self._update([(digest, data[digest_key(digest)]) for digest in batch])
            for digest, outcome in zip(batch, outcomes, strict=True):
                if outcome is not None:
                    errors[digest_key(digest)] = outcome
        for digest in large:
            try:
                self._write_one(digest, data[digest_key(digest)])
            except SchedulerError as error:
                errors[digest_key(digest)] = error
        return errors

    def _update(self, batch: list[tuple[Digest, bytes]]) -> list[SchedulerError | None]:
        """Stores what fits one message; one result each."""
        try:
            failures = self._outages.retrying("store blobs", lambda: self._try_update(batch))
        except SchedulerError as error:
            return [error] * len(batch)
        results: list[SchedulerError | None] = []
        for digest, blob in batch:
            failure = failures.get(digest_key(digest))
            results.append(None if failure is None else self._update_again(digest, blob, failure))
        return results

    def _update_again(self, digest: Digest, blob: bytes, failure: CallFailed) -> SchedulerError | None:
        """Goes on with a blob whose own status, within an answer, was a failure."""

        def update() -> None:
            for failure in self._try_update([(digest, blob)]).values():
                raise failure

        try:
            self._outages.retrying(f"store blob {digest_key(digest)}", update, failure=failure)
        except SchedulerError as error:
            return error
        return None

    def _try_update(self, batch: list[tuple[Digest, bytes]]) -> dict[str, CallFailed]:
        """One try; what the answer says of those blobs that it has not taken, by key."""
        request = BatchUpdateBlobsRequest(instance_name=self._instance)
        zstd = self._capabilities().zstd_updates
        for digest, blob in batch:
            frame = compress_if_smaller(blob) if zstd else None
            if frame is None:
                request.requests.add(digest=digest, data=blob)
            else:
                request.requests.add(digest=digest, data=frame, compressor=Compressor.ZSTD)
        response = self._connection.try_call(lambda stubs: stubs.cas.BatchUpdateBlobs, request)
        codes = {digest_key(item.digest): item.status for item in response.responses}
        failures: dict[str, CallFailed] = {}
        for digest, _ in batch:
            key = digest_key(digest)
            status = codes.get(key)
            if status is None:
                failures[key] = CallFailed(grpc.StatusCode.INTERNAL, f"no answer for blob {key}")
            elif status.code not in (_OK, _ALREADY_EXISTS):
                failures[key] = _failure(status.code, status.message)
        return failures

    def _capabilities(self) -> RemoteCapabilities:
        """What the server offers; asked once, and again now and then."""
        known = self._known
        if known is None:
            self._outages.retrying("ask for its capabilities", self._ask_capabilities)
        elif self._outages.clock() >= self._known_until:
            try:
                self._ask_capabilities(_FIRST_DEADLINE)
            except CallFailed:
                self._know(known)  # the call that wanted to know will see for itself
        return self._known or RemoteCapabilities()

    def _ask_capabilities(self, deadline: float | None = None) -> None:
        try:
            told = self._connection.try_call(
                lambda stubs: stubs.capabilities.GetCapabilities,
                GetCapabilitiesRequest(instance_name=self._instance),
                deadline,
            )
        except CallFailed as failure:
            if failure.code != grpc.StatusCode.UNIMPLEMENTED:
                raise
            self._know(RemoteCapabilities())
        else:
            self._know(capabilities_of(told, self._outages.name, compression=self._compression))

    def _know(self, capabilities: RemoteCapabilities) -> None:
        self._known = capabilities
        self._known_until = self._outages.clock() + _CAPABILITIES_AGE


def _uncompressed(item: BatchReadBlobsResponse.Response, digest: Digest) -> bytes:
    return decompress(item.data, digest.size_bytes) if item.compressor == Compressor.ZSTD else item.data


def _failure(code: int, message: str) -> CallFailed:
    return CallFailed(_CODES.get(code, grpc.StatusCode.UNKNOWN), message)
