"""Actions that nobody has executed before, in the server's CAS before anyone asks for them."""

import asyncio
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    BatchUpdateBlobsRequest,
    Command,
    Digest,
    Platform,
)

from benchmarks.options import LoadOptions

if TYPE_CHECKING:
    from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
        ContentAddressableStorageAsyncStub,
    )

PROPERTIES = {"ISA": "x86-64", "OSFamily": "linux"}
"""What every action asks for and every bot offers, in the order that REAPI demands."""

_BATCH = 1000
_LATE_BATCH = 200
_UPLOAD_TIMEOUT = 120


class ActionPool:
    """Unique actions with one command, uploaded ahead; more are uploaded when it runs dry."""

    def __init__(self, cas: "ContentAddressableStorageAsyncStub", options: LoadOptions) -> None:
        self._cas = cas
        self._options = options
        self._made = 0
        self._ready: deque[Digest] = deque()
        self._refill = asyncio.Lock()
        self._platform = Platform(
            properties=[Platform.Property(name=n, value=v) for n, v in PROPERTIES.items()]
        )
        self._command = Command(arguments=["/bin/true"], platform=self._platform).SerializeToString()
        self.late_uploads = 0
        """Actions that had to be uploaded while the run was on."""

    async def fill(self) -> None:
        """Uploads the command, the empty input root and the whole pool."""
        await self._upload([self._command, b""])
        remaining = self._options.pool_size
        while remaining > 0:
            count = min(_BATCH, remaining)
            await self._add(count)
            remaining -= count

    async def take(self) -> Digest:
        """An action in CAS that was not taken before."""
        while not self._ready:
            async with self._refill:
                if not self._ready:
                    await self._add(_LATE_BATCH)
                    self.late_uploads += _LATE_BATCH
        return self._ready.popleft()

    async def _add(self, count: int) -> None:
        blobs = [self._action(number) for number in range(self._made, self._made + count)]
        self._made += count
        await self._upload(blobs)
        self._ready.extend(map(digest_of, blobs))

    def _action(self, number: int) -> bytes:
        return Action(
            command_digest=digest_of(self._command),
            input_root_digest=digest_of(b""),
            salt=f"{self._options.run}/{number}".encode(),
            platform=self._platform,
        ).SerializeToString()

    async def _upload(self, blobs: list[bytes]) -> None:
        pending = iter(blobs)
        while batch := list(islice(pending, _BATCH)):
            request = BatchUpdateBlobsRequest(instance_name=self._options.instance)
            for blob in batch:
                request.requests.add(digest=digest_of(blob), data=blob)
            answer = await self._cas.BatchUpdateBlobs(request, timeout=_UPLOAD_TIMEOUT, wait_for_ready=True)
            refused = [response.status for response in answer.responses if response.status.code]
            if refused:
                raise RuntimeError(f"the server refused {len(refused)} blobs: {refused[0].message}")
