"""Every method that a server offers: what one must be to call it, and what becomes of the call then."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import grpc
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2
from buildgrid_protos.google.bytestream import bytestream_pb2
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2
from buildgrid_scheduler.auth.policy import Right
from google.longrunning import operations_proto_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2


class Needs(Enum):
    """What is not a right."""

    NOTHING = "no credentials"
    IDENTITY = "any identity"


@dataclass(frozen=True)
class Method:
    """`passes`: what those get who may; the request is for the instance main where it names one."""

    needs: Right | Needs
    request: Message
    passes: StatusCode = StatusCode.OK


def _message(name: str) -> Message:
    """An empty message that the type stubs do not know."""
    made: Message = GetMessageClass(Default().FindMessageTypeByName(name))()
    return made


_EMPTY = digest_of(b"")
_BLOB = f"blobs/{_EMPTY.hash}/0"
_ABSENT = digest_of(b"never uploaded")
_OPERATION = "main/00000000-0000-4000-8000-000000000000"
_NOT_OFFERED = StatusCode.UNIMPLEMENTED
_REAPI = "build.bazel.remote.execution.v2."
_CAS = f"{_REAPI}ContentAddressableStorage/"
_OPERATIONS = "google.longrunning.Operations/"
_BOTS = "google.devtools.remoteworkers.v1test2.Bots/"

# An unhealthy bot is given nothing, and not held.
_SICK = bots_pb2.BotSession(bot_id="table", status=bots_pb2.UNHEALTHY)
_UNKNOWN = bots_pb2.BotSession(name=_OPERATION, bot_id="table", status=bots_pb2.UNHEALTHY)

METHODS = {
    f"{_REAPI}Execution/Execute": Method(
        Right.EXECUTE,
        reapi.ExecuteRequest(instance_name="main", action_digest=_ABSENT),
        StatusCode.FAILED_PRECONDITION,
    ),
    f"{_REAPI}Execution/WaitExecution": Method(
        Right.EXECUTE, reapi.WaitExecutionRequest(name=_OPERATION), StatusCode.NOT_FOUND
    ),
    f"{_OPERATIONS}GetOperation": Method(
        Right.EXECUTE, operations_proto_pb2.GetOperationRequest(name=_OPERATION), StatusCode.NOT_FOUND
    ),
    f"{_OPERATIONS}ListOperations": Method(
        Right.EXECUTE, operations_proto_pb2.ListOperationsRequest(name="main")
    ),
    f"{_OPERATIONS}CancelOperation": Method(
        Right.EXECUTE, operations_proto_pb2.CancelOperationRequest(name=_OPERATION), StatusCode.NOT_FOUND
    ),
    f"{_OPERATIONS}DeleteOperation": Method(
        Right.EXECUTE, operations_proto_pb2.DeleteOperationRequest(name=_OPERATION), StatusCode.NOT_FOUND
    ),
    f"{_OPERATIONS}WaitOperation": Method(
        Needs.IDENTITY, operations_proto_pb2.WaitOperationRequest(name=_OPERATION), _NOT_OFFERED
    ),
    f"{_BOTS}CreateBotSession": Method(
        Right.RUN_BOTS, bots_pb2.CreateBotSessionRequest(parent="main", bot_session=_SICK)
    ),
    f"{_BOTS}UpdateBotSession": Method(
        Right.RUN_BOTS,
        bots_pb2.UpdateBotSessionRequest(name=_OPERATION, bot_session=_UNKNOWN),
        StatusCode.INVALID_ARGUMENT,
    ),
    f"{_BOTS}PostBotEventTemp": Method(Needs.IDENTITY, bots_pb2.PostBotEventTempRequest(), _NOT_OFFERED),
    f"{_CAS}FindMissingBlobs": Method(
        Right.CACHE_READ, reapi.FindMissingBlobsRequest(instance_name="main", blob_digests=[_ABSENT])
    ),
    f"{_CAS}BatchUpdateBlobs": Method(
        Right.CAS_WRITE, reapi.BatchUpdateBlobsRequest(instance_name="main", requests=[])
    ),
    f"{_CAS}BatchReadBlobs": Method(
        Right.CACHE_READ, reapi.BatchReadBlobsRequest(instance_name="main", digests=[_EMPTY])
    ),
    f"{_CAS}GetTree": Method(
        Right.CACHE_READ, reapi.GetTreeRequest(instance_name="main", root_digest=_EMPTY)
    ),
    f"{_CAS}SplitBlob": Method(Needs.IDENTITY, reapi.SplitBlobRequest(instance_name="main"), _NOT_OFFERED),
    f"{_CAS}SpliceBlob": Method(Needs.IDENTITY, reapi.SpliceBlobRequest(instance_name="main"), _NOT_OFFERED),
    f"{_CAS}GetChunkMapping": Method(
        Needs.IDENTITY, reapi.GetChunkMappingRequest(instance_name="main"), _NOT_OFFERED
    ),
    f"{_CAS}RegisterChunkMapping": Method(Needs.IDENTITY, reapi.RegisterChunkMappingRequest(), _NOT_OFFERED),
    "google.bytestream.ByteStream/Read": Method(
        Right.CACHE_READ, bytestream_pb2.ReadRequest(resource_name=f"main/{_BLOB}")
    ),
    "google.bytestream.ByteStream/Write": Method(
        Right.CAS_WRITE,
        bytestream_pb2.WriteRequest(resource_name=f"main/uploads/one/{_BLOB}", finish_write=True),
    ),
    "google.bytestream.ByteStream/QueryWriteStatus": Method(
        Right.CAS_WRITE, bytestream_pb2.QueryWriteStatusRequest(resource_name=f"main/uploads/one/{_BLOB}")
    ),
    f"{_REAPI}ActionCache/GetActionResult": Method(
        Right.CACHE_READ,
        reapi.GetActionResultRequest(instance_name="main", action_digest=_ABSENT),
        StatusCode.NOT_FOUND,
    ),
    f"{_REAPI}ActionCache/UpdateActionResult": Method(
        Right.ACTION_CACHE_UPDATE,
        reapi.UpdateActionResultRequest(
            instance_name="main",
            action_digest=digest_of(b"the table's"),
            action_result=reapi.ActionResult(exit_code=1),
        ),
    ),
    f"{_REAPI}Capabilities/GetCapabilities": Method(
        Right.CACHE_READ, reapi.GetCapabilitiesRequest(instance_name="main")
    ),
    "buildgrid.fleet.v1.Fleet/GetState": Method(
        Right.ADMINISTER, fleet_pb2.GetStateRequest(instance_names=["main"])
    ),
    "buildgrid.fleet.v1.Fleet/Watch": Method(
        Right.ADMINISTER, fleet_pb2.WatchRequest(instance_names=["main"])
    ),
    "buildgrid.fleet.v1.Fleet/Drain": Method(
        Right.ADMINISTER,
        fleet_pb2.DrainRequest(
            instance_name="main", mode=fleet_pb2.DrainRequest.WHEN_IDLE, bot_ids=["the table's"]
        ),
    ),
    "buildgrid.fleet.v1.Fleet/Undrain": Method(
        Right.ADMINISTER, fleet_pb2.UndrainRequest(instance_name="main", bot_ids=["the table's"])
    ),
    "buildgrid.fleet.v1.Fleet/ExportHistory": Method(
        Right.ADMINISTER, fleet_pb2.ExportHistoryRequest(instance_names=["main"])
    ),
    "grpc.health.v1.Health/Check": Method(Needs.NOTHING, health_pb2.HealthCheckRequest()),
    "grpc.health.v1.Health/List": Method(
        Needs.NOTHING, _message("grpc.health.v1.HealthListRequest"), _NOT_OFFERED
    ),
    "grpc.health.v1.Health/Watch": Method(Needs.NOTHING, health_pb2.HealthCheckRequest()),
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Method(
        Needs.IDENTITY, reflection_pb2.ServerReflectionRequest(list_services="")
    ),
}


def methods_of(service: str) -> Iterator[MethodDescriptor]:
    """The methods of a service, by its name."""
    yield from Default().FindServiceByName(service).methods


def call(
    channel: grpc.Channel, path: str, request: Message, token: str | None = None
) -> tuple[StatusCode, str, Message | None]:
    """Call a method (`SERVICE/METHOD`) of any kind: the status, its message, and the first answer, if any."""
    service, method = path.split("/")
    descriptor = Default().FindServiceByName(service).methods_by_name[method]
    answer_class = GetMessageClass(descriptor.output_type)
    # On the wire, all kinds are streams both ways. (Those of grpc.aio may hide the status of a call that is
    # refused before its request was sent: https://github.com/grpc/grpc/issues/36066)
    invoke = channel.stream_stream(f"/{path}", type(request).SerializeToString, answer_class.FromString)
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    stream = invoke(iter([request]), metadata=metadata, timeout=20)
    try:
        return StatusCode.OK, "", next(stream, None)
    except grpc.RpcError:
        return stream.code(), stream.details() or "", None
    finally:
        stream.cancel()
