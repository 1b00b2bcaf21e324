"""What a command left, as a result."""

import errno
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.outputs import INLINE_BYTES, Collected, collect, declared_outputs, read_tree
from buildgrid_bot.removal import remove_tree
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Command, Tree

from tests.farm.deep_folders import nest


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


# What hostile commands leave


def test_symlink_loops_and_long_paths_hold_no_outputs(root: Path, streams: tuple[Path, Path]) -> None:
    (root / "loop").symlink_to("loop")
    (root / "ping").symlink_to("pong")
    (root / "pong").symlink_to("ping")
    (root / "file").touch()
    outputs = ["loop/x", "ping/x", "n" * 300, "n" * 300 + "/x", "d/" * 3000 + "x", "file"]
    collected = collect(root, Command(output_paths=outputs), *streams)
    assert [file.path for file in collected.result.output_files] == ["file"]
    assert not collected.result.output_symlinks


def test_loops_in_an_output_directory_are_kept_and_not_followed(
    root: Path, streams: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("of the machine")
    (root / "d").mkdir()
    for name, target in {"self": ".", "up": "..", "loop": "loop", "out": str(tmp_path)}.items():
        (root / "d" / name).symlink_to(target)
    tree, _ = read_tree(Collected(), root / "d")
    assert {link.name: link.target for link in tree.root.symlinks} == {
        "self": ".",
        "up": "..",
        "loop": "loop",
        "out": str(tmp_path),
    }
    assert not tree.children and not tree.root.files
    collected = collect(root, Command(output_paths=["d/self", "d/out/secret", "d/up/d"]), *streams)
    assert [link.path for link in collected.result.output_symlinks] == ["d/self"]
    assert [directory.path for directory in collected.result.output_directories] == ["d/up/d"]
    assert not collected.result.output_files and not collected.files


def test_a_deep_output_directory_is_collected(root: Path, streams: tuple[Path, Path]) -> None:
    levels = (4000 - len(str(root))) // 2
    assert levels > sys.getrecursionlimit()
    nest(root, levels)
    collected = collect(root, Command(output_paths=["d"]), *streams)
    tree = Tree.FromString(collected.blobs[0])
    assert len(tree.children) == levels - 1
    assert [file.name for file in tree.children[-1].files] == ["file"]
    remove_tree(root)


def test_an_output_directory_that_is_too_deep_is_refused(root: Path, streams: tuple[Path, Path]) -> None:
    nest(root, 2100)
    with pytest.raises(InvalidAction, match=r"nested too deeply.*4095 bytes"):
        collect(root, Command(output_paths=["d"]), *streams)
    remove_tree(root)


@pytest.mark.parametrize(
    ("disk", "full"),
    [
        ({}, False),
        ({"f_bfree": 0, "f_bavail": 0}, True),
        ({"f_bfree": 1, "f_bavail": 1}, True),
        ({"f_ffree": 0}, True),
        ({"f_blocks": 0, "f_bfree": 0, "f_bavail": 0, "f_files": 0, "f_ffree": 0}, False),
    ],
    ids=["room", "no blocks", "a block", "no files", "no bounds"],
)
def test_outputs_of_a_full_disk_are_not_believed(
    root: Path,
    streams: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    disk: dict[str, int],
    full: bool,
) -> None:
    usual = {"f_frsize": 4096, "f_blocks": 99, "f_bfree": 99, "f_bavail": 99, "f_files": 99, "f_ffree": 99}
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**{**usual, **disk}))
    if not full:
        collect(root, Command(), *streams)
        return
    with pytest.raises(OSError, match="disk was full when the command ended") as raised:
        collect(root, Command(), *streams)
    assert raised.value.errno == errno.ENOSPC
