"""What is pushed names all that an action or a result cannot do without."""

from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.assets import requests
from buildgrid_scheduler.assets.requests import (
    action_request,
    result_request,
    tree_digests,
    uri_of,
)
from buildgrid_scheduler.assets.retention import RetentionPeriods

EXPIRY = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def blob(word: str) -> re_pb2.Digest:
    return digest_of(word.encode())


def test_a_blob_is_named_by_its_hash() -> None:
    digest = blob("a")
    assert uri_of(digest) == f"nih:sha-256;{digest.hash}"


def test_an_action_is_kept_with_its_command_and_input_root() -> None:
    action = re_pb2.Action(command_digest=blob("command"), input_root_digest=blob("root"))
    request = action_request("main/team", blob("action"), action, EXPIRY)
    assert request.instance_name == "main/team"
    assert list(request.uris) == [uri_of(blob("action"))]
    assert [(q.name, q.value) for q in request.qualifiers] == [("resource_type", "application/x-protobuf")]
    assert request.blob_digest == blob("action")
    assert list(request.references_blobs) == [blob("command")]
    assert list(request.references_directories) == [blob("root")]
    assert request.expire_at.ToDatetime(UTC) == EXPIRY
    assert request.digest_function == re_pb2.DigestFunction.SHA256


def result() -> re_pb2.ActionResult:
    return re_pb2.ActionResult(
        output_files=[
            re_pb2.OutputFile(path="a", digest=blob("a")),
            re_pb2.OutputFile(path="same as a", digest=blob("a")),
        ],
        output_directories=[
            re_pb2.OutputDirectory(path="d", tree_digest=blob("tree")),
            re_pb2.OutputDirectory(path="e", root_directory_digest=blob("directory")),
        ],
        stdout_digest=blob("out"),
        stderr_digest=blob("err"),
    )


def test_a_result_is_kept_with_files_trees_and_what_is_in_them_stdout_and_stderr() -> None:
    serialized = result().SerializeToString()
    tree = re_pb2.Tree(
        root=re_pb2.Directory(files=[re_pb2.FileNode(name="b", digest=blob("b"))]),
        children=[re_pb2.Directory(files=[re_pb2.FileNode(name="c", digest=blob("c"))])],
    )
    request, left_out = result_request("", serialized, result(), [tree], EXPIRY)
    assert request.blob_digest == digest_of(serialized)
    assert list(request.uris) == [uri_of(digest_of(serialized))]
    assert [d.hash for d in request.references_blobs] == [
        blob(word).hash for word in ("a", "out", "err", "tree", "b", "c")
    ]
    assert list(request.references_directories) == [blob("directory")]
    assert left_out == 0


def test_only_trees_that_have_a_digest_are_to_be_read() -> None:
    assert tree_digests(result()) == [blob("tree")]


def test_what_a_result_does_not_have_or_has_malformed_is_not_referred_to() -> None:
    odd = re_pb2.ActionResult(stdout_digest=re_pb2.Digest(hash="not a hash", size_bytes=1))
    request, _ = result_request("", b"", odd, [], EXPIRY)
    assert not request.references_blobs
    assert not request.references_directories


def test_a_result_with_too_many_files_is_pushed_with_the_first_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "MOST_REFERENCES", 2)
    files = [re_pb2.OutputFile(path=str(n), digest=blob(str(n))) for n in range(5)]
    request, left_out = result_request("", b"", re_pb2.ActionResult(output_files=files), [], EXPIRY)
    assert list(request.references_blobs) == [blob("0"), blob("1")]
    assert left_out == 3


def test_no_hours_and_zero_hours_are_no_retention() -> None:
    periods = RetentionPeriods.of_hours(queued_action=1.5, completed_action=0)
    assert periods == RetentionPeriods(timedelta(minutes=90), None, None)
