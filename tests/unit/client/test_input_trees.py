"""Input trees are canonical, complete, and never larger than what was asked for."""

import os
from pathlib import Path

import pytest
from buildgrid_client.digests import EMPTY_HASH, digest_key, digest_of
from buildgrid_client.tree import (
    EmptyDirectory,
    Input,
    InputTree,
    MemoryFile,
    RemoteFile,
    Symlink,
    build_tree,
)
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest, Directory


def directory(tree: InputTree, *names: str) -> Directory:
    """The Directory message at a path of the tree."""
    message = Directory.FromString(tree.blobs[digest_key(tree.root_digest)])
    for name in names:
        node = next(node for node in message.directories if node.name == name)
        message = Directory.FromString(tree.blobs[digest_key(node.digest)])
    return message


def test_no_inputs_are_the_empty_directory() -> None:
    tree = build_tree({})
    assert (tree.root_digest.hash, tree.root_digest.size_bytes) == (EMPTY_HASH, 0)


def test_a_known_tree_has_the_digest_that_other_clients_compute() -> None:
    # FileNode{name: "a", digest{hash, size 1}, is_executable} by hand: tags and lengths as the wire format
    # has them.
    digest = digest_of(b"x")
    inner = b"\x0a\x40" + digest.hash.encode() + b"\x10\x01"
    node = b"\x0a\x01a" + b"\x12" + bytes([len(inner)]) + inner + b"\x20\x01"
    expected = b"\x0a" + bytes([len(node)]) + node
    tree = build_tree({"a": MemoryFile(b"x", is_executable=True)})
    assert tree.root_digest == digest_of(expected)


def test_the_order_of_inputs_does_not_matter() -> None:
    inputs = {"b/z": b"1", "b/a": b"2", "a": b"3", "B": b"4", "ä": b"5"}
    backwards = dict(reversed(inputs.items()))
    assert build_tree(inputs).root_digest == build_tree(backwards).root_digest


def test_names_are_sorted_in_each_list() -> None:
    tree = build_tree(
        {"b": b"", "a": b"", "B": b"", "l2": Symlink("a"), "l1": Symlink("a"), "d/x": b"", "c/x": b""}
    )
    root = directory(tree)
    assert [node.name for node in root.files] == ["B", "a", "b"]
    assert [node.name for node in root.symlinks] == ["l1", "l2"]
    assert [node.name for node in root.directories] == ["c", "d"]


def test_disk_and_memory_make_the_same_tree(tmp_path: Path) -> None:
    (tmp_path / "src/deep").mkdir(parents=True)
    (tmp_path / "src/main.c").write_bytes(b"int main;")
    (tmp_path / "src/deep/tool").write_bytes(b"#!")
    (tmp_path / "src/deep/tool").chmod(0o755)
    (tmp_path / "src/link").symlink_to("./main.c")
    (tmp_path / "src/empty").mkdir()
    from_memory: dict[str, Input] = {
        "src/main.c": b"int main;",
        "src/deep/tool": MemoryFile(b"#!", is_executable=True),
        "src/link": Symlink("./main.c"),
        "src/empty": EmptyDirectory(),
    }
    on_disk = build_tree({"src": tmp_path / "src"})
    assert on_disk.root_digest == build_tree(from_memory).root_digest
    assert build_tree({".": tmp_path}).root_digest == on_disk.root_digest


def test_files_on_disk_stay_there_and_each_content_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"same")
    (tmp_path / "two").write_bytes(b"same")
    tree = build_tree({".": tmp_path})
    key = digest_key(digest_of(b"same"))
    assert list(tree.files) == [key]
    assert tree.files[key][1].read_bytes() == b"same"
    assert key not in tree.blobs


def test_a_named_symlink_is_followed_and_those_below_are_kept(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/dangling").symlink_to("nowhere")
    (tmp_path / "alias").symlink_to("real")
    tree = build_tree({"in": tmp_path / "alias"})
    assert [(link.name, link.target) for link in directory(tree, "in").symlinks] == [("dangling", "nowhere")]


def test_blobs_of_earlier_actions_are_referred_to_and_not_uploaded() -> None:
    digest = Digest(hash="ab" * 32, size_bytes=7)
    tree = build_tree({"obj/a.o": RemoteFile(digest), "obj/tool": RemoteFile(digest, is_executable=True)})
    assert tree.remote == {digest_key(digest)}
    assert [node.is_executable for node in directory(tree, "obj").files] == [False, True]


def test_a_blob_that_is_also_here_is_uploaded_after_all() -> None:
    tree = build_tree({"a": RemoteFile(digest_of(b"x")), "b": b"x"})
    assert tree.remote == frozenset()


def test_overlapping_folders_are_merged(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    tree = build_tree({"d": tmp_path, "d/b": b"2", "d/a": b"1"})
    assert [node.name for node in directory(tree, "d").files] == ["a", "b"]


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"../a": b""}, "leaves the tree"),
        ({"/a": b""}, "is absolute"),
        ({"a\0b": b""}, "NUL"),
        ({".": b""}, "root of the tree must be a folder"),
        ({"a": b"", "a/b": b""}, "'a' is both a folder and something else"),
        ({"a/b": b"1", "./a//b": b"2"}, "'a/b' is named twice"),
    ],
)
def test_impossible_inputs_are_refused(inputs: dict[str, bytes], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        build_tree(dict(inputs))


def test_special_files_are_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="pipe is neither a file nor a folder"):
        build_tree({".": tmp_path})


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    with pytest.raises(ValueError, match="is not UTF-8"):
        build_tree({".": tmp_path})
