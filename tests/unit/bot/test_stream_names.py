"""Which stream belongs to which lease."""

from buildgrid_bot.stream_names import LEASE_METADATA_KEY, StreamNames, names_of_leases
from buildgrid_client.digests import digest_of_message
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    Digest,
    ExecuteOperationMetadata,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import Lease


def action(name: str) -> Action:
    return Action(command_digest=Digest(hash=name))


def lease(id_: str, of: Action) -> Lease:
    lease = Lease(id=id_)
    lease.payload.Pack(of)
    return lease


def entry(of: Action, stdout: str, stderr: str = "") -> tuple[str, bytes]:
    metadata = ExecuteOperationMetadata(
        action_digest=digest_of_message(of), stdout_stream_name=stdout, stderr_stream_name=stderr
    )
    return LEASE_METADATA_KEY, metadata.SerializeToString()


def test_entries_are_found_by_their_action_in_any_order() -> None:
    one, two = action("1"), action("2")
    trailers = [entry(two, "2/out", "2/err"), entry(one, "1/out", "1/err")]
    assert names_of_leases([lease("a", one), lease("b", two)], trailers) == {
        "a": StreamNames("1/out", "1/err"),
        "b": StreamNames("2/out", "2/err"),
    }


def test_leases_with_one_action_have_streams_of_their_own() -> None:
    same = action("same")
    trailers = [entry(same, "first"), entry(same, "second")]
    found = names_of_leases([lease("a", same), lease("b", same)], trailers)
    assert found == {"a": StreamNames("first", ""), "b": StreamNames("second", "")}


def test_streams_of_leases_that_run_are_not_given_to_new_ones() -> None:
    same = action("same")
    trailers = [entry(same, "running"), entry(same, "new")]
    found = names_of_leases([lease("b", same)], trailers, [StreamNames("running", "")])
    assert found == {"b": StreamNames("new", "")}


def test_a_lease_without_streams_is_left_out() -> None:
    one, two = action("1"), action("2")
    assert names_of_leases([lease("a", one), lease("b", two)], [entry(one, "")]) == {}


def test_what_cannot_be_read_is_passed_over() -> None:
    one = action("1")
    trailers: list[tuple[str, str | bytes]] = [
        (LEASE_METADATA_KEY, b"\xff\xff"),
        (LEASE_METADATA_KEY, "text"),
        ("other-bin", entry(one, "wrong")[1]),
        entry(one, "right"),
    ]
    assert names_of_leases([lease("a", one)], trailers) == {"a": StreamNames("right", "")}
