"""Requests that are right, for every method: what mutations begin with."""

from collections.abc import Sequence

from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2
from buildgrid_protos.google.bytestream.bytestream_pb2 import (
    QueryWriteStatusRequest,
    ReadRequest,
    WriteRequest,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2
from google.longrunning import operations_proto_pb2 as lr_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tests.integration.fuzz import content
from tests.integration.fuzz.names import BOT_ID, LEASES, OPERATIONS, SESSION

LEASE_STATES = [bots_pb2.PENDING, bots_pb2.ACTIVE, bots_pb2.COMPLETED, bots_pb2.CANCELLED]


def blob_name(blob: bytes) -> str:
    """As ByteStream reads it."""
    digest = digest_of(blob)
    return f"blobs/{digest.hash}/{digest.size_bytes}"


def _execute() -> Sequence[Message]:
    requests = [reapi.ExecuteRequest(action_digest=digest_of(action)) for action in content.ACTIONS]
    for number, request in enumerate(requests):
        request.skip_cache_lookup = number % 2 == 0
        request.execution_policy.priority = number - 2
        request.results_cache_policy.priority = 1
    return requests


def _updates() -> Sequence[Message]:
    """Reports of the session, with its leases in all states."""
    found = []
    for state in LEASE_STATES:
        session = bots_pb2.BotSession(name=SESSION, bot_id=BOT_ID, status=bots_pb2.OK)
        session.worker.devices.add(handle=BOT_ID)
        for name in LEASES:
            lease = session.leases.add(id=name, state=state)
            lease.payload.Pack(reapi.Action.FromString(content.ACTION))
            if state == bots_pb2.COMPLETED:
                lease.result.Pack(content.RESULT)
        found.append(bots_pb2.UpdateBotSessionRequest(name=session.name, bot_session=session))
    return found


def _create() -> Sequence[Message]:
    session = bots_pb2.BotSession(bot_id=BOT_ID, status=bots_pb2.OK, version="1")
    session.worker.configs.add(key="capacity", value="4")
    session.worker.properties.add(key="capacity-class", value="spot")
    device = session.worker.devices.add(handle="a device")
    device.properties.add(key="OSFamily", value="linux")
    device.properties.add(key="Pool", value="x")
    return [
        bots_pb2.CreateBotSessionRequest(parent=parent, bot_session=session) for parent in ("", "fuzz/one")
    ]


def _batch() -> Sequence[Message]:
    request = reapi.BatchUpdateBlobsRequest()
    for blob in (content.SMALL, content.EMPTY, content.COMPRESSIBLE):
        request.requests.add(digest=digest_of(blob), data=blob)
    zstd = reapi.BatchUpdateBlobsRequest()
    frame = b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello"
    zstd.requests.add(digest=digest_of(content.SMALL), data=frame, compressor=reapi.Compressor.ZSTD)
    return [request, zstd]


def _trees() -> Sequence[Message]:
    roots = (content.ROOT, content.BOMB[-1], content.DEEP[-1], content.LOOP, content.NOISE, content.COMMAND)
    return [reapi.GetTreeRequest(root_digest=digest_of(root), page_size=3) for root in roots]


def _writes() -> Sequence[Message]:
    blob = b"to be written"
    name = f"uploads/u/{blob_name(blob)}"
    return [
        WriteRequest(resource_name=name, data=blob, finish_write=True),
        WriteRequest(resource_name=name, data=blob[:5]),
        WriteRequest(data=blob[5:], write_offset=5, finish_write=True),
    ]


def _drains() -> Sequence[Message]:
    if_idle, when_idle = fleet_pb2.DrainRequest.IF_IDLE, fleet_pb2.DrainRequest.WHEN_IDLE
    return [
        fleet_pb2.DrainRequest(mode=when_idle, bot_ids=["a bot"], disrupted=True, owner="a cluster"),
        fleet_pb2.DrainRequest(instance_name="fuzz/one", mode=if_idle, bot_ids=["a bot", "another"]),
        fleet_pb2.DrainRequest(instance_name="fuzz/one", mode=if_idle, number=2, owner="a cluster"),
    ]


OPERATION_NAMES = [OPERATIONS[0], f"fuzz/one/{OPERATIONS[1]}", OPERATIONS[2]]
_ACTION = digest_of(content.ACTION)
RIGHT: dict[str, Sequence[Message]] = {
    "Execute": _execute(),
    "WaitExecution": [reapi.WaitExecutionRequest(name=name) for name in OPERATION_NAMES],
    "GetActionResult": [
        reapi.GetActionResultRequest(
            action_digest=_ACTION, inline_stdout=True, inline_stderr=True, inline_output_files=["a"]
        )
    ],
    "UpdateActionResult": [
        reapi.UpdateActionResultRequest(action_digest=_ACTION, action_result=content.RESULT)
    ],
    "FindMissingBlobs": [reapi.FindMissingBlobsRequest(blob_digests=content.DIGESTS)],
    "BatchUpdateBlobs": _batch(),
    "BatchReadBlobs": [
        reapi.BatchReadBlobsRequest(digests=content.DIGESTS, acceptable_compressors=[reapi.Compressor.ZSTD])
    ],
    "GetTree": _trees(),
    "SplitBlob": [reapi.SplitBlobRequest(blob_digest=_ACTION)],
    "SpliceBlob": [reapi.SpliceBlobRequest(blob_digest=_ACTION, chunk_digests=[_ACTION])],
    "GetChunkMapping": [reapi.GetChunkMappingRequest()],
    "RegisterChunkMapping": [reapi.RegisterChunkMappingRequest()],
    "Read": [
        ReadRequest(resource_name=blob_name(blob), read_offset=3, read_limit=2)
        for blob in (content.SMALL, content.NOISE, content.COMPRESSIBLE)
    ],
    "Write": _writes(),
    "QueryWriteStatus": [QueryWriteStatusRequest(resource_name=f"uploads/u/{blob_name(content.SMALL)}")],
    "Watch": [fleet_pb2.WatchRequest(), fleet_pb2.WatchRequest(instance_names=["", "fuzz/one"])],
    "Drain": _drains(),
    "Undrain": [
        fleet_pb2.UndrainRequest(instance_name=instance, bot_ids=["a bot", BOT_ID], owner=owner)
        for instance, owner in (("", ""), ("fuzz/one", "a cluster"))
    ],
    "ExportHistory": [
        fleet_pb2.ExportHistoryRequest(),
        fleet_pb2.ExportHistoryRequest(
            instance_names=["", "fuzz/one"],
            start_time=Timestamp(seconds=1),
            end_time=Timestamp(seconds=2**33),
        ),
    ],
    "GetState": [fleet_pb2.GetStateRequest(), fleet_pb2.GetStateRequest(instance_names=["", "x"])],
    "GetCapabilities": [reapi.GetCapabilitiesRequest(), reapi.GetCapabilitiesRequest(instance_name="x")],
    "GetOperation": [lr_pb2.GetOperationRequest(name=name) for name in OPERATION_NAMES],
    "ListOperations": [lr_pb2.ListOperationsRequest(filter="stage=queued", page_size=5)],
    "CancelOperation": [lr_pb2.CancelOperationRequest(name=name) for name in OPERATION_NAMES],
    "DeleteOperation": [lr_pb2.DeleteOperationRequest(name=name) for name in OPERATION_NAMES],
    "WaitOperation": [lr_pb2.WaitOperationRequest(name=name) for name in OPERATION_NAMES],
    "CreateBotSession": _create(),
    "UpdateBotSession": _updates(),
    "PostBotEventTemp": [bots_pb2.PostBotEventTempRequest(name=SESSION)],
}
