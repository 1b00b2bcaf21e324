"""Streams in both directions, in every order, and given up at every point."""

import re
from typing import Any

import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import WatchRequest
from buildgrid_protos.google.bytestream.bytestream_pb2 import ReadRequest, WriteRequest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.fuzz import content
from tests.integration.fuzz.effort import CHECK_EVERY, MESSAGES, effort
from tests.integration.fuzz.methods import SERVICES
from tests.integration.fuzz.names import OPERATIONS
from tests.integration.fuzz.requests import blob_name
from tests.integration.fuzz.target import Call, Target

pytestmark = [pytest.mark.xdist_group("fuzz"), pytest.mark.timeout(120 + MESSAGES // 10)]

_FRAME = b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello"
_OFFSETS = [0, 1, 4, 5, 6, -1, 19_999, 20_000, 20_001, 2**63 - 1, -(2**63)]


@st.composite
def writes(draw: st.DrawFn) -> Call:
    """Pieces of a blob in some order, some twice or not at all, under one name or under several."""
    number = draw(st.integers(0, 999_999))
    blob = f"blob {number}".encode() * draw(st.sampled_from([1, 10, 1000]))
    zstd = draw(st.integers(0, 4)) == 0
    keyword = "compressed-blobs/zstd" if zstd else "blobs"
    name = f"uploads/u{number % 3}/{keyword}/{digest_of(blob).hash}/{len(blob)}"
    data = draw(st.sampled_from([blob, blob, _FRAME, blob + b"x", blob[:-1]]))
    step = max(1, len(data) // draw(st.integers(1, 4)))
    pieces = [(at, data[at : at + step]) for at in range(0, len(data), step)]
    requests: list[bytes] = []
    for at, piece in draw(st.one_of(st.just(pieces), st.permutations(pieces))):
        odd = draw(st.sampled_from(["", "", "", "offset", "name", "finish", "twice", "leave out"]))
        if odd == "leave out":
            continue
        request = WriteRequest(
            resource_name=name if not requests else draw(st.sampled_from(["", "", name])),
            write_offset=draw(st.sampled_from(_OFFSETS)) if odd == "offset" else at,
            finish_write=at + step >= len(data) or odd == "finish",
            data=piece,
        )
        if odd == "name":
            request.resource_name = draw(
                st.sampled_from([f"uploads/v/{blob_name(blob)}", name + "/x", "x", "\0"])
            )
        requests += [request.SerializeToString()] * (2 if odd == "twice" else 1)
    return Call(SERVICES["ByteStream"]["Write"], tuple(requests))


@st.composite
def reads(draw: st.DrawFn) -> tuple[bytes, ReadRequest]:
    """Of blobs that are there, from anywhere to anywhere."""
    blob = draw(st.sampled_from([content.EMPTY, content.SMALL, content.COMPRESSIBLE, content.NOISE]))
    limit = draw(st.sampled_from([*_OFFSETS, 0, 0]))
    return blob, ReadRequest(
        resource_name=blob_name(blob), read_offset=draw(st.sampled_from(_OFFSETS)), read_limit=limit
    )


def test_writes_in_any_order_never_store_anything_but_the_blob(target: Target) -> None:
    examples = 0

    @effort(share=0.3)
    @given(call=writes())
    def fuzz(call: Call) -> None:
        nonlocal examples
        examples += 1
        outcome = target.send(call)
        sent = [WriteRequest.FromString(request) for request in call.requests]
        # Without a finish_write it may be resumed, and is not stored yet.
        if outcome.code is StatusCode.OK and any(request.finish_write for request in sent):
            ((hash_, size),) = re.findall(r"([0-9a-f]{64})/(\d+)", sent[0].resource_name)
            target.check_blob(hash_, int(size))
        if examples % CHECK_EVERY == 0:
            target.check_good_clients()

    fuzz()
    target.check_good_clients()


def test_reads_tell_the_range_that_was_asked_for_or_that_there_is_none(target: Target) -> None:
    @effort(share=0.3)
    @given(asked=reads())
    def fuzz(asked: tuple[bytes, ReadRequest]) -> None:
        blob, request = asked
        outcome = target.send(Call(SERVICES["ByteStream"]["Read"], (request.SerializeToString(),)))
        offset, limit = request.read_offset, request.read_limit
        if limit < 0:
            assert outcome.code is StatusCode.INVALID_ARGUMENT
        elif not 0 <= offset <= len(blob):
            assert outcome.code is StatusCode.OUT_OF_RANGE
        else:
            wanted = blob[offset : offset + limit] if limit else blob[offset:]
            assert b"".join(answer.data for answer in outcome.answers) == wanted

    fuzz()
    target.check_good_clients()


def test_streams_that_are_given_up_at_any_point_leave_the_server_as_it_was(target: Target) -> None:
    execute = reapi.ExecuteRequest(action_digest=digest_of(content.NOBODYS_ACTION), skip_cache_lookup=True)
    wait = reapi.WaitExecutionRequest(name=OPERATIONS[0])
    read = ReadRequest(resource_name=blob_name(content.NOISE))
    tree = reapi.GetTreeRequest(root_digest=digest_of(content.DEEP[-1]), page_size=1)
    streams: list[tuple[str, str, Any]] = [
        ("Execution", "Execute", execute),
        ("Execution", "WaitExecution", wait),
        ("ByteStream", "Read", read),
        ("ContentAddressableStorage", "GetTree", tree),
        ("Fleet", "Watch", WatchRequest()),
    ]

    @effort(share=0.3)
    @given(which=st.sampled_from(streams), answers=st.integers(0, 3), at_once=st.booleans())
    def fuzz(which: tuple[str, str, Any], answers: int, at_once: bool) -> None:
        service, method, request = which
        most = 1 if service in ("Execution", "Fleet") else answers
        call = Call(SERVICES[service][method], (request.SerializeToString(),))
        target.give_up(call, after=0 if at_once else most)

    fuzz()
    target.check_good_clients()
