"""What a command left, as a result."""

import os
from pathlib import Path

import pytest
from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.outputs import INLINE_BYTES, Collected, collect, declared_outputs, read_tree
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Command


@pytest.fixture
def streams(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("stdout", "stderr"):
        (tmp_path / name).touch()
    return tmp_path / "stdout", tmp_path / "stderr"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_output_paths_win_over_the_older_fields() -> None:
    command = Command(output_paths=["new"], output_files=["old"], working_directory="w")
    assert [(o.path, o.root_path, o.kind) for o in declared_outputs(command)] == [("new", "w/new", "any")]


def test_equal_directories_give_equal_trees_whatever_the_order_of_their_making(tmp_path: Path) -> None:
    trees = []
    for turn, names in enumerate((["b", "a"], ["a", "b"])):
        where = tmp_path / str(turn)
        for name in names:
            (where / name).mkdir(parents=True)
            (where / name / "file").write_text(name)
        trees.append(read_tree(Collected(), where)[0].SerializeToString(deterministic=True))
    assert trees[0] == trees[1]


def test_unreadable_and_special_files(root: Path, streams: tuple[Path, Path]) -> None:
    (root / "d").mkdir()
    (root / "d" / "dark").write_text("dark")
    (root / "d" / "dark").chmod(0)
    os.mkfifo(root / "d" / "fifo")
    (root / "d").chmod(0)

    collected = collect(root, Command(output_paths=["d"]), *streams)

    assert digest_key(digest_of(b"dark")) in collected.files
    assert len(collected.files) == 1
    assert len(collected.result.output_directories) == 1


def test_what_is_not_there_is_not_in_the_result(root: Path, streams: tuple[Path, Path]) -> None:
    (root / "file").touch()
    collected = collect(root, Command(output_paths=["no", "file/below", "no/way"]), *streams)
    assert collected.result.ByteSize() == 0


def test_small_streams_are_inline_and_large_ones_are_blobs(root: Path, streams: tuple[Path, Path]) -> None:
    streams[0].write_bytes(b"s" * INLINE_BYTES)
    streams[1].write_bytes(b"l" * (INLINE_BYTES + 1))
    collected = collect(root, Command(), *streams)
    assert len(collected.result.stdout_raw) == INLINE_BYTES
    assert not collected.result.HasField("stdout_digest")
    assert collected.result.stderr_digest == digest_of(b"l" * (INLINE_BYTES + 1))


def test_the_working_directory_itself_may_be_the_output(root: Path, streams: tuple[Path, Path]) -> None:
    (root / "w").mkdir()
    (root / "w" / "f").touch()
    collected = collect(root, Command(output_paths=[""], working_directory="w"), *streams)
    assert [directory.path for directory in collected.result.output_directories] == [""]


def test_names_that_the_protocol_cannot_carry_are_refused(root: Path, streams: tuple[Path, Path]) -> None:
    (root / "d").mkdir()
    Path(os.fsdecode(os.fsencode(root / "d") + b"/\xff")).touch()
    with pytest.raises(InvalidAction, match="UTF-8"):
        collect(root, Command(output_paths=["d"]), *streams)
