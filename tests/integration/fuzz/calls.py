"""Calls at random: made up, mutated, or not messages at all; now and then with strange headers."""

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ExecutedActionMetadata,
    RequestMetadata,
)
from hypothesis import strategies as st

from tests.integration.fuzz.messages import messages
from tests.integration.fuzz.methods import SERVICES, Method
from tests.integration.fuzz.mutations import mutated, mutated_bytes
from tests.integration.fuzz.names import LEASES
from tests.integration.fuzz.requests import RIGHT
from tests.integration.fuzz.target import Call, Headers

_REQUEST_METADATA = "build.bazel.remote.execution.v2.requestmetadata-bin"


@st.composite
def calls(draw: st.DrawFn, service: str) -> Call:
    """A call of one of the methods of a service, seldom of one that is not offered."""
    often = [method for method in SERVICES[service].values() for _ in range(5 if method.offered else 1)]
    method = draw(st.sampled_from(often))
    number = draw(st.sampled_from([1, 2, 0, 3])) if method.streams_requests else 1
    requests = tuple(draw(_request(method)) for _ in range(number))
    return Call(method, requests, draw(_headers()) if draw(st.integers(0, 7)) == 0 else ())


@st.composite
def _request(draw: st.DrawFn, method: Method) -> bytes:
    how = draw(st.sampled_from(["made up", "mutated", "mutated", "broken", "right"]))
    if how == "made up":
        data: bytes = draw(messages(method.request)).SerializeToString()
        return data
    request = draw(st.sampled_from(RIGHT[method.name]))
    if how == "mutated":
        request = draw(mutated(request))
    data = request.SerializeToString()
    return draw(mutated_bytes(data)) if how == "broken" else data


@st.composite
def _headers(draw: st.DrawFn) -> Headers:
    found: list[tuple[str, bytes]] = []
    if draw(st.booleans()):
        metadata: bytes = draw(messages(RequestMetadata)).SerializeToString()
        found.append((_REQUEST_METADATA, draw(st.one_of(st.just(metadata), mutated_bytes(metadata)))))
    for lease in LEASES:
        partial: bytes = draw(messages(ExecutedActionMetadata)).SerializeToString()
        value = draw(st.one_of(st.just(partial), mutated_bytes(partial)))
        found.append((f"partial-execution-metadata-{lease}-bin", value))
    return tuple((key, value[:2000]) for key, value in found)
