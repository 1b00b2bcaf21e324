"""A storage that counts: calls, errors, bytes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from time import perf_counter

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from buildgrid_scheduler.core.errors import SchedulerError
from buildgrid_scheduler.server.metrics import catalogue
from buildgrid_scheduler.storage.abc import BlobReader, BlobWriter, StorageABC


class StorageMetrics:
    """What a `MeasuredStorage` counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        volume = catalogue.CAS_BYTES.counter(registry)
        seconds = catalogue.CAS_SECONDS.histogram(registry)
        self.bytes_read = volume.labels("read")
        self.bytes_written = volume.labels("written")
        self.has = seconds.labels("has")
        self.read = seconds.labels("read")
        self.write = seconds.labels("write")
        self._errors = catalogue.CAS_ERRORS.counter(registry)

    def failed(self, error: SchedulerError) -> None:
        """A call of the storage, or one blob of it, failed."""
        self._errors.labels(error.code.name).inc()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Count what is raised inside."""
        try:
            yield
        except SchedulerError as error:
            self.failed(error)
            raise


class MeasuredStorage(StorageABC):
    """Does what `behind` does."""

    def __init__(self, behind: StorageABC, metrics: StorageMetrics) -> None:
        self._behind = behind
        self._metrics = metrics

    def start(self) -> None:
        """See StorageABC."""
        self._behind.start()

    def stop_waiting(self) -> None:
        """See StorageABC."""
        self._behind.stop_waiting()

    def stop(self) -> None:
        """See StorageABC."""
        self._behind.stop()

    def usage(self) -> tuple[int, int] | None:
        """See StorageABC."""
        return self._behind.usage()

    def has_many(self, digests: Iterable[Digest]) -> set[str]:
        """See StorageABC."""
        with self._metrics.errors(), self._metrics.has.time():
            return self._behind.has_many(digests)

    def read_recent(self, digest: Digest) -> bytes | None:
        """See StorageABC."""
        blob = self._behind.read_recent(digest)
        if blob is not None:
            self._metrics.bytes_read.inc(len(blob))
        return blob

    def read_many(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        """See StorageABC."""
        with self._metrics.errors(), self._metrics.read.time():
            blobs = self._behind.read_many(digests)
        self._metrics.bytes_read.inc(sum(map(len, blobs.values())))
        return blobs

    def stream_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> BlobReader | None:
        """See StorageABC."""
        with self._metrics.errors():
            reader = self._behind.stream_read(digest, offset, limit)
        return None if reader is None else _Reader(reader, self._metrics)

    def begin_write(self, digest: Digest) -> BlobWriter:
        """See StorageABC."""
        with self._metrics.errors():
            return _Writer(self._behind.begin_write(digest), self._metrics)

    def write_many(self, blobs: list[tuple[Digest, bytes]]) -> list[SchedulerError | None]:
        """See StorageABC."""
        with self._metrics.errors(), self._metrics.write.time():
            results = self._behind.write_many(blobs)
        for (_, data), error in zip(blobs, results, strict=True):
            if error is None:
                self._metrics.bytes_written.inc(len(data))
            else:
                self._metrics.failed(error)
        return results


class _Reader(BlobReader):
    def __init__(self, behind: BlobReader, metrics: StorageMetrics) -> None:
        self._behind = behind
        self._metrics = metrics
        self._seconds = 0.0
        self._closed = False

    def __next__(self) -> bytes:
        began = perf_counter()
        try:
            with self._metrics.errors():
                chunk = next(self._behind)
        finally:
            self._seconds += perf_counter() - began
        self._metrics.bytes_read.inc(len(chunk))
        return chunk

    def close(self) -> None:
        """Only what the storage took counts, not what the caller did between two pieces."""
        if not self._closed:
            self._closed = True
            self._metrics.read.observe(self._seconds)
        self._behind.close()


class _Writer(BlobWriter):
    def __init__(self, behind: BlobWriter, metrics: StorageMetrics) -> None:
        self._behind = behind
        self._metrics = metrics
        self._seconds = 0.0

    @property
    def committed(self) -> int:
        return self._behind.committed

    def write(self, data: bytes) -> None:
        with self._timed():
            self._behind.write(data)

    def commit(self) -> None:
        size = self._behind.committed
        with self._timed():
            self._behind.commit()
        self._metrics.bytes_written.inc(size)
        self._metrics.write.observe(self._seconds)

    def abort(self) -> None:
        self._behind.abort()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = perf_counter()
        try:
            with self._metrics.errors():
                yield
        finally:
            self._seconds += perf_counter() - began


class DiskUsage(Collector):
    """How full the local disk is, where blobs are on one."""

    def __init__(self, storage: StorageABC) -> None:
        self._storage = storage

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        usage = self._storage.usage()
        if usage is None:
            return []
        used, limit = catalogue.CAS_STORED.gauges(), catalogue.CAS_LIMIT.gauges()
        used.add_metric([], usage[0])
        limit.add_metric([], usage[1])
        return [used, limit]
