"""The action cache, as the rest of the server sees it: results by instance and action digest."""

from abc import ABC, abstractmethod

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult, Digest


class ActionCacheABC(ABC):
    """Synchronous and thread-safe. Entries say nothing about the CAS: see `storage.completeness` for that."""

    def start(self) -> None:  # noqa: B027 - most caches have nothing to do
        """Makes the cache ready; called once, before anything else."""

    def stop_waiting(self) -> None:  # noqa: B027
        """Ends waits for a cache that is away, as `StorageABC.stop_waiting` does."""

    def stop(self) -> None:  # noqa: B027
        """Lets go of threads and connections."""

    @property
    @abstractmethod
    def allow_updates(self) -> bool:
        """Whether clients may store results (the scheduler itself always may)."""

    @abstractmethod
    def get_many(self, instance: str, digests: list[Digest]) -> list[ActionResult | None]:
        """One result each, in order; None where there is no entry. They count as just used."""

    def get(self, instance: str, digest: Digest) -> ActionResult | None:
        """The result of one action, None if there is no entry."""
        return self.get_many(instance, [digest])[0]

    @abstractmethod
    def update_many(self, instance: str, entries: list[tuple[Digest, ActionResult]]) -> None:
        """Stores results, in place of what was there. The last one wins when a digest comes twice."""

    def update(self, instance: str, digest: Digest, result: ActionResult) -> None:
        """Stores one result."""
        self.update_many(instance, [(digest, result)])
