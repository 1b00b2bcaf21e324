"""A client of the asset service (Remote Asset API, service Push)."""

from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import Self

import grpc
from buildgrid_protos.build.bazel.remote.asset.v1.remote_asset_pb2 import PushBlobRequest, Qualifier
from buildgrid_protos.build.bazel.remote.asset.v1.remote_asset_pb2_grpc import PushStub
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest, DigestFunction

from buildgrid_scheduler.core.clock import to_timestamp


class AssetClient:
    """Synchronous and thread-safe. It owns the channel, which `stop` closes."""

    def __init__(self, channel: grpc.Channel, *, instance: str | None = None, timeout: float = 5.0) -> None:
        """`instance` is the instance name that the service knows; None: that of whoever pushes.

        `timeout`: seconds that one call may take.
        """
        self.instance = instance
        self._channel = channel
        self._stub = PushStub(channel)
        self._timeout = timeout

    def start(self) -> None:
        """Nothing to do: the channel connects on first use."""

    def stop(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._channel.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def push_blob(
        self,
        *,
        uris: Iterable[str],
        blob_digest: Digest,
        qualifiers: Iterable[Qualifier] = (),
        expire_at: datetime | None = None,
        references_blobs: Iterable[Digest] = (),
        references_directories: Iterable[Digest] = (),
        instance_name: str = "",
    ) -> None:
        """Let `uris` stand for a blob in the CAS, and keep it and what it refers to until `expire_at`.

        `expire_at` is aware; None: for as long as the service likes. `instance_name` counts unless the
        client has an `instance` of its own. Raises grpc.RpcError.
        """
        request = PushBlobRequest(
            instance_name=instance_name,
            uris=uris,
            qualifiers=qualifiers,
            expire_at=None if expire_at is None else to_timestamp(expire_at),
            blob_digest=blob_digest,
            references_blobs=references_blobs,
            references_directories=references_directories,
            digest_function=DigestFunction.SHA256,
        )
        self.push(request)

    def push(self, request: PushBlobRequest) -> None:
        """Send a request as it is, but for the client's `instance`. Raises grpc.RpcError."""
        if self.instance is not None:
            request.instance_name = self.instance
        self._stub.PushBlob(request, timeout=self._timeout)
