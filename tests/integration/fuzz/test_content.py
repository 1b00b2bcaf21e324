"""The CAS holds whatever clients put there: what is read as an action, a tree or a result may be anything."""

from collections.abc import Iterator

import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.fuzz import content
from tests.integration.fuzz.effort import CHECK_EVERY, MESSAGES, effort
from tests.integration.fuzz.messages import messages
from tests.integration.fuzz.methods import SERVICES
from tests.integration.fuzz.mutations import mutated, mutated_bytes
from tests.integration.fuzz.target import Call, Target

pytestmark = [pytest.mark.xdist_group("fuzz"), pytest.mark.timeout(120 + MESSAGES // 10)]

_RIGHT: dict[type[Message], list[bytes]] = {
    reapi.Action: content.ACTIONS,
    reapi.Command: [content.COMMAND, content.ESCAPING_COMMAND],
    reapi.Directory: [content.ROOT, content.LOOP, content.ESCAPE, content.BOMB[-1], content.DEEP[-1]],
    reapi.Tree: [content.TREE],
    reapi.ActionResult: [content.RESULT.SerializeToString()],
}


@st.composite
def blobs_of(draw: st.DrawFn, kind: type[Message]) -> bytes:
    """Blobs that are messages of this class, or were."""
    how = draw(st.sampled_from(["made up", "mutated", "broken", "broken"]))
    if how == "made up":
        made: bytes = draw(messages(kind)).SerializeToString()
        return made
    data = draw(st.sampled_from(_RIGHT[kind]))
    if how == "broken":
        return draw(mutated_bytes(data))
    try:
        message = kind.FromString(data)
    except Exception:  # noqa: BLE001 - some are not messages from the beginning
        return data
    changed: bytes = draw(mutated(message)).SerializeToString()
    return changed


@st.composite
def attacks(draw: st.DrawFn) -> tuple[Call, ...]:
    """Uploads, and calls that make the server read them."""
    kind = draw(st.sampled_from(list(_RIGHT)))
    blob = draw(blobs_of(kind))
    calls = [_upload(blob)]
    if kind is reapi.Action:
        calls.append(_execute(blob))
    elif kind is reapi.Command:
        calls += _execute_with(blob, content.ROOT)
    elif kind is reapi.Directory:
        root = reapi.GetTreeRequest(root_digest=digest_of(blob), page_size=draw(st.sampled_from([0, 1, 2])))
        calls += [_call("ContentAddressableStorage", "GetTree", root), *_execute_with(content.COMMAND, blob)]
    elif kind is reapi.Tree:
        result = reapi.ActionResult()
        result.output_directories.add(path="d", tree_digest=digest_of(blob))
        result.output_directories.add(path="e", root_directory_digest=digest_of(blob))
        calls += _store(result, blob)
    else:
        with_fields = reapi.UpdateActionResultRequest(action_digest=digest_of(blob))
        wire = with_fields.SerializeToString() + b"\x1a" + _length(len(blob)) + blob
        calls += [Call(SERVICES["ActionCache"]["UpdateActionResult"], (wire,)), _get(blob)]
    return tuple(calls)


def _call(service: str, method: str, request: Message) -> Call:
    return Call(SERVICES[service][method], (request.SerializeToString(),))


def _upload(blob: bytes) -> Call:
    request = reapi.BatchUpdateBlobsRequest()
    request.requests.add(digest=digest_of(blob), data=blob)
    return _call("ContentAddressableStorage", "BatchUpdateBlobs", request)


def _execute(action: bytes) -> Call:
    return _call("Execution", "Execute", reapi.ExecuteRequest(action_digest=digest_of(action)))


def _execute_with(command: bytes, root: bytes) -> Iterator[Call]:
    action = reapi.Action(command_digest=digest_of(command), input_root_digest=digest_of(root))
    yield _upload(action.SerializeToString())
    yield _execute(action.SerializeToString())


def _store(result: reapi.ActionResult, action: bytes) -> Iterator[Call]:
    request = reapi.UpdateActionResultRequest(action_digest=digest_of(action), action_result=result)
    yield _call("ActionCache", "UpdateActionResult", request)
    yield _get(action)


def _get(action: bytes) -> Call:
    request = reapi.GetActionResultRequest(
        action_digest=digest_of(action), inline_stdout=True, inline_stderr=True, inline_output_files=["a", ""]
    )
    return _call("ActionCache", "GetActionResult", request)


def _length(number: int) -> bytes:
    """As a varint."""
    data = bytearray()
    while number > 127:
        data.append(number & 127 | 128)
        number >>= 7
    data.append(number)
    return bytes(data)


@pytest.mark.parametrize("check_input_tree", [False, True])
def test_whatever_is_in_the_cas_is_read_and_answered(check_input_tree: bool, target: Target) -> None:
    target.check_input_trees(check_input_tree)
    examples = 0

    @effort(share=0.2)
    @given(calls=attacks())
    def fuzz(calls: tuple[Call, ...]) -> None:
        nonlocal examples
        examples += 1
        for call in calls:
            target.send(call)
        if examples % CHECK_EVERY == 0:
            target.check_good_clients()

    fuzz()
    target.check_input_trees(False)
    target.check_good_clients()


@pytest.mark.parametrize(
    ("root", "directories"),
    [(content.BOMB[-1], content.BOMB_LEVELS + 1), (content.DEEP[-1], 1 + content.DEEP_LEVELS)],
)
def test_a_tree_is_told_directory_by_directory_however_many_paths_it_has(
    root: bytes, directories: int, target: Target
) -> None:
    request = reapi.GetTreeRequest(root_digest=digest_of(root))
    told = target.send(_call("ContentAddressableStorage", "GetTree", request)).answers
    assert sum(len(page.directories) for page in told) == directories


def test_an_action_with_such_a_tree_is_queued_when_trees_are_looked_through(target: Target) -> None:
    target.check_input_trees(True)
    for root in (content.BOMB[-1], content.DEEP[-1]):
        for call in _execute_with(content.COMMAND, root):
            assert target.send(call).answers
    target.check_input_trees(False)
