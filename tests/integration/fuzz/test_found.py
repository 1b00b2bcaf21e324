"""What fuzzing found: each request that once harmed the server, or got an answer that was none."""

import random
from typing import Any

import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from buildgrid_protos.google.bytestream.bytestream_pb2 import WriteRequest
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2
from google.longrunning.operations_proto_pb2 import WaitOperationRequest
from google.protobuf.message import Message
from grpc import StatusCode

from tests.integration.fuzz import content
from tests.integration.fuzz.effort import MESSAGES
from tests.integration.fuzz.methods import SERVICES
from tests.integration.fuzz.requests import blob_name
from tests.integration.fuzz.target import Call, Headers, Outcome, Target

pytestmark = [pytest.mark.xdist_group("fuzz"), pytest.mark.timeout(120 + MESSAGES // 10)]

MIB = 1024 * 1024
TOO_LONG_FOR_AN_INDEX = random.Random(4).randbytes(2000).hex()
"""and too random to be compressed"""


def send(target: Target, service: str, method: str, *requests: Message, headers: Headers = ()) -> Outcome:
    data = tuple(request.SerializeToString() for request in requests)
    return target.send(Call(SERVICES[service][method], data, headers))


def upload(target: Target, blob: bytes) -> reapi.Digest:
    """Through ByteStream, whatever its size."""
    name = f"uploads/u/{blob_name(blob)}"
    pieces = [
        WriteRequest(
            resource_name=name,
            write_offset=at,
            data=blob[at : at + MIB],
            finish_write=at + MIB >= len(blob),
        )
        for at in range(0, len(blob), MIB)
    ]
    target.ask("ByteStream", "Write", *pieces)
    return digest_of(blob)


def execute(target: Target, action: reapi.Action, headers: Headers = ()) -> Outcome:
    digest = upload(target, action.SerializeToString())
    return send(target, "Execution", "Execute", reapi.ExecuteRequest(action_digest=digest), headers=headers)


def action(pool: str = "", salt: bytes = b"found") -> reapi.Action:
    made = reapi.Action.FromString(content.ACTION)
    made.salt = salt
    if pool:
        made.platform.properties.add(name="Pool", value=pool)
    return made


@pytest.mark.parametrize(
    ("service", "method"),
    # RegisterChunkMapping is refused before anything is read.
    [(s, m) for s, methods in SERVICES.items() for m in methods if m != "RegisterChunkMapping"],
)
def test_bytes_that_are_no_message_are_an_invalid_argument(service: str, method: str, target: Target) -> None:
    outcome = target.send(Call(SERVICES[service][method], (b"\x0a\xff",)))  # UNKNOWN, with a trace in the log
    assert outcome.code is StatusCode.INVALID_ARGUMENT
    assert method in outcome.message and "cannot be read" in outcome.message


def test_a_message_that_can_not_be_read_in_the_midst_of_a_stream_is_an_invalid_argument(
    target: Target,
) -> None:
    blob = b"the stream breaks off here"
    begun = WriteRequest(resource_name=f"uploads/u/{blob_name(blob)}", data=blob[:5]).SerializeToString()
    outcome = target.send(Call(SERVICES["ByteStream"]["Write"], (begun, b"\x0a\xff")))
    assert outcome.code is StatusCode.INVALID_ARGUMENT


def test_a_status_message_in_another_script_is_cut_to_what_headers_hold(target: Target) -> None:
    name = "\U0001f400" * 1024  # once 12 KiB of header, which clients take for a broken stream
    outcome = send(
        target, "Capabilities", "GetCapabilities", reapi.GetCapabilitiesRequest(instance_name=name)
    )
    assert outcome.code is StatusCode.INVALID_ARGUMENT
    assert name[:5] in outcome.message and "known instances" in outcome.message


def test_wait_operation_is_not_offered_and_that_is_no_error_in_the_log(target: Target) -> None:
    outcome = send(target, "Operations", "WaitOperation", WaitOperationRequest(name="x"))
    assert outcome.code is StatusCode.UNIMPLEMENTED and "WaitExecution" in outcome.message


def test_a_label_that_no_index_takes_is_refused_at_the_door(target: Target) -> None:
    outcome = execute(target, action(pool=TOO_LONG_FOR_AN_INDEX))  # an outage of the database, for 10 s
    assert outcome.code is StatusCode.INVALID_ARGUMENT
    assert "'Pool'" in outcome.message and "500" in outcome.message


def test_a_nul_in_a_platform_property_is_told_by_the_name_of_the_property(target: Target) -> None:
    outcome = execute(target, action(pool="a\0b"))
    assert outcome.code is StatusCode.INVALID_ARGUMENT and "'Pool'" in outcome.message


def test_an_invocation_id_that_no_index_takes_is_cut(target: Target) -> None:
    metadata = reapi.RequestMetadata(
        tool_invocation_id=TOO_LONG_FOR_AN_INDEX, correlated_invocations_id=TOO_LONG_FOR_AN_INDEX[:2900]
    )
    header = ("build.bazel.remote.execution.v2.requestmetadata-bin", metadata.SerializeToString())
    outcome = execute(target, action(salt=b"invocation"), headers=(header,))  # an outage, as above
    assert outcome.code is StatusCode.OK


@pytest.mark.parametrize(
    ("service", "method"),
    [("Operations", "GetOperation"), ("Execution", "WaitExecution"), ("Bots", "UpdateBotSession")],
)
def test_a_nul_in_a_name_is_told_as_that_and_not_in_the_words_of_the_database(
    service: str, method: str, target: Target
) -> None:
    request: Any = SERVICES[service][method].request(name="a\0b")
    if method == "UpdateBotSession":
        request.bot_session.name = request.name
    outcome = send(target, service, method, request)
    assert outcome.code is StatusCode.INVALID_ARGUMENT and "'a\\x00b' has a NUL" in outcome.message


def test_a_capacity_of_thousands_of_digits_is_an_invalid_argument(target: Target) -> None:
    session = bots_pb2.BotSession(bot_id="many slots", status=bots_pb2.OK)
    session.worker.configs.add(key="capacity", value="9" * 5000)  # INTERNAL
    outcome = send(target, "Bots", "CreateBotSession", bots_pb2.CreateBotSessionRequest(bot_session=session))
    assert outcome.code is StatusCode.INVALID_ARGUMENT and "capacity" in outcome.message


def test_an_action_that_no_bot_could_be_sent_is_refused(target: Target) -> None:
    outcome = execute(target, action(salt=bytes(64 * 1024)))  # each bot that asked for work got an error
    assert outcome.code is StatusCode.INVALID_ARGUMENT and "action_digest" in outcome.message


@pytest.mark.parametrize("field", ["action_digest", "command_digest", "root_digest"])
def test_a_blob_that_is_too_large_for_a_message_is_not_read(field: str, target: Target) -> None:
    large = reapi.Digest(hash="a" * 64, size_bytes=2**40)
    if field == "action_digest":
        outcome = send(target, "Execution", "Execute", reapi.ExecuteRequest(action_digest=large))
    elif field == "command_digest":
        with_command = action()
        with_command.command_digest.CopyFrom(large)
        outcome = execute(target, with_command)
    else:
        request = reapi.GetTreeRequest(root_digest=large)
        outcome = send(target, "ContentAddressableStorage", "GetTree", request)
    assert outcome.code is StatusCode.INVALID_ARGUMENT
    assert field in outcome.message and "larger than any" in outcome.message


def test_a_directory_that_is_larger_than_a_message_is_told_as_such(target: Target) -> None:
    directory = reapi.Directory()
    directory.symlinks.add(name="large", target="x" * (17 * MIB))
    root = upload(target, directory.SerializeToString())
    request = reapi.GetTreeRequest(root_digest=root)
    outcome = send(target, "ContentAddressableStorage", "GetTree", request)  # with a trace in the log
    assert outcome.code is StatusCode.RESOURCE_EXHAUSTED and "max_message_size" in outcome.message


def test_a_result_that_no_client_could_be_sent_is_not_cached(target: Target) -> None:
    request = reapi.UpdateActionResultRequest(
        action_digest=digest_of(b"large result"), action_result=reapi.ActionResult(stdout_raw=bytes(5 * MIB))
    )
    outcome = send(target, "ActionCache", "UpdateActionResult", request)
    assert outcome.code is StatusCode.INVALID_ARGUMENT and "action_result" in outcome.message
