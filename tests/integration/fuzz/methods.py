"""Every method of every service: its messages, and the codes that it may answer with, whatever it is sent."""

from collections.abc import Iterable
from dataclasses import dataclass

import grpc
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2
from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2
from buildgrid_protos.google.bytestream import bytestream_pb2
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2
from google.longrunning import operations_proto_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

_ALWAYS = frozenset({StatusCode.OK, StatusCode.INVALID_ARGUMENT, StatusCode.RESOURCE_EXHAUSTED})
_MISSING_INPUTS, _UNKNOWN_PROPERTY = StatusCode.FAILED_PRECONDITION, StatusCode.FAILED_PRECONDITION
_NOT_OFFERED = frozenset({StatusCode.UNIMPLEMENTED})
_ALSO: dict[str, Iterable[StatusCode]] = {
    "Execute": [_MISSING_INPUTS, _UNKNOWN_PROPERTY],
    "WaitExecution": [StatusCode.NOT_FOUND],
    "GetActionResult": [StatusCode.NOT_FOUND],
    "UpdateActionResult": [],
    "FindMissingBlobs": [],
    "BatchUpdateBlobs": [],
    "BatchReadBlobs": [],
    "GetTree": [StatusCode.NOT_FOUND],
    "SplitBlob": _NOT_OFFERED,
    "SpliceBlob": _NOT_OFFERED,
    "GetChunkMapping": _NOT_OFFERED,
    "RegisterChunkMapping": _NOT_OFFERED,
    "Read": [StatusCode.NOT_FOUND, StatusCode.OUT_OF_RANGE],
    # Another call writes to the upload that this one wants to go on with.
    "Write": [StatusCode.UNAVAILABLE],
    "QueryWriteStatus": [],
    "GetCapabilities": [],
    "GetOperation": [StatusCode.NOT_FOUND],
    "ListOperations": [],
    "CancelOperation": [StatusCode.NOT_FOUND],
    "DeleteOperation": [StatusCode.NOT_FOUND, StatusCode.FAILED_PRECONDITION],
    "WaitOperation": _NOT_OFFERED,
    "CreateBotSession": [],
    "UpdateBotSession": [StatusCode.DATA_LOSS],
    "PostBotEventTemp": _NOT_OFFERED,
    "GetState": [],
    "Watch": [],
    "Drain": [],
    "Undrain": [],
    "ExportHistory": [],
}


@dataclass(frozen=True)
class Method:
    """A method as the wire knows it."""

    service: str
    name: str
    request: type[Message]
    response: type[Message]
    streams_requests: bool
    streams_responses: bool
    codes: frozenset[grpc.StatusCode]
    """all that it may answer"""

    def __repr__(self) -> str:
        return self.name

    @property
    def offered(self) -> bool:
        """Whether it does anything."""
        return StatusCode.UNIMPLEMENTED not in self.codes

    @property
    def path(self) -> str:
        """Of the HTTP/2 request."""
        return f"/{self.service}/{self.name}"


def _methods(file: FileDescriptor, service_name: str) -> dict[str, Method]:
    service = file.services_by_name[service_name]
    return {
        method.name: Method(
            service.full_name,
            method.name,
            GetMessageClass(method.input_type),
            GetMessageClass(method.output_type),
            method.client_streaming,
            method.server_streaming,
            _ALWAYS | frozenset(_ALSO[method.name]),
        )
        for method in service.methods
    }


SERVICES: dict[str, dict[str, Method]] = {
    name: _methods(file, name)
    for file, name in [
        (remote_execution_pb2.DESCRIPTOR, "Execution"),
        (remote_execution_pb2.DESCRIPTOR, "ActionCache"),
        (remote_execution_pb2.DESCRIPTOR, "ContentAddressableStorage"),
        (bytestream_pb2.DESCRIPTOR, "ByteStream"),
        (remote_execution_pb2.DESCRIPTOR, "Capabilities"),
        (operations_proto_pb2.DESCRIPTOR, "Operations"),
        (bots_pb2.DESCRIPTOR, "Bots"),
        (fleet_pb2.DESCRIPTOR, "Fleet"),
    ]
}
"""by the service's and the method's name"""
