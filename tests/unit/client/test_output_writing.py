"""Outputs land where they belong, whatever a result claims."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from buildgrid_client.digests import digest_key, digest_of, digest_of_message
from buildgrid_client.outputs import plan_outputs, write_outputs
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    Digest,
    Directory,
    Tree,
)


class MemoryCas:
    """A CAS of this process that notes what was asked for."""

    def __init__(self, *blobs: bytes) -> None:
        self._blobs = {digest_key(digest_of(blob)): blob for blob in blobs}
        self.read: list[str] = []
        self.downloaded: list[str] = []

    async def read_blobs(self, digests: Iterable[Digest], /) -> dict[str, bytes]:
        keys = [digest_key(digest) for digest in digests]
        self.read += keys
        return {key: self._blobs[key] for key in keys}

    async def download_file(self, digest: Digest, path: Path, /) -> None:
        self.downloaded.append(digest_key(digest))
        path.write_bytes(self._blobs[digest_key(digest)])


def tree_with(*, files: dict[str, bytes], below: dict[str, dict[str, bytes]]) -> Tree:
    """A Tree of files at the root and one level of directories."""
    tree = Tree()
    for name, content in files.items():
        tree.root.files.add(name=name, digest=digest_of(content))
    for folder, inner in below.items():
        child = tree.children.add()
        for name, content in inner.items():
            child.files.add(name=name, digest=digest_of(content))
        tree.root.directories.add(name=folder, digest=digest_of_message(child))
    return tree


async def test_files_directories_and_symlinks_are_written(tmp_path: Path) -> None:
    tree = tree_with(files={"top": b"1"}, below={"sub": {"leaf": b"2"}, "empty": {}})
    blob = tree.SerializeToString(deterministic=True)
    result = ActionResult()
    result.output_files.add(path="bin/tool", digest=digest_of(b"#!"), is_executable=True)
    result.output_directories.add(path="out", tree_digest=digest_of(blob))
    result.output_symlinks.add(path="bin/latest", target="tool")
    written = await write_outputs(result, tmp_path, MemoryCas(blob, b"#!", b"1", b"2"))
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        "bin/latest",
        "bin/tool",
        "out/sub/leaf",
        "out/top",
    ]
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/top").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "bin/latest").read_bytes() == b"#!"
    assert (tmp_path / "out/sub/leaf").read_bytes() == b"2"
    assert (tmp_path / "out/empty").is_dir()


async def test_small_files_come_together_and_large_ones_straight_to_disk(tmp_path: Path) -> None:
    large = hashlib.shake_256(b"seed").digest(200_000)
    result = ActionResult()
    result.output_files.add(path="large", digest=digest_of(large))
    for number in range(3):
        result.output_files.add(path=f"small{number}", digest=digest_of(b"same"))
    cas = MemoryCas(large, b"same")
    await write_outputs(result, tmp_path, cas)
    assert cas.downloaded == [digest_key(digest_of(large))]
    assert cas.read == [digest_key(digest_of(b"same"))]
    assert (tmp_path / "large").read_bytes() == large
    assert (tmp_path / "small2").read_bytes() == b"same"


async def test_inlined_contents_are_not_fetched(tmp_path: Path) -> None:
    result = ActionResult()
    result.output_files.add(path="a", digest=digest_of(b"inline"), contents=b"inline")
    result.output_files.add(path="empty", digest=digest_of(b""))
    cas = MemoryCas()
    await write_outputs(result, tmp_path, cas)
    assert (cas.read, cas.downloaded) == ([], [])
    assert (tmp_path / "a").read_bytes() == b"inline"
    assert (tmp_path / "empty").read_bytes() == b""


async def test_what_an_earlier_run_left_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"keep")
    (tmp_path / "out").symlink_to("precious")
    result = ActionResult()
    result.output_files.add(path="out", digest=digest_of(b"new"))
    await write_outputs(result, tmp_path, MemoryCas(b"new"))
    assert (tmp_path / "precious").read_bytes() == b"keep"
    assert (tmp_path / "out").read_bytes() == b"new"


async def test_a_folder_that_is_a_symlink_elsewhere_is_refused(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (home / "out").symlink_to(elsewhere)
    result = ActionResult()
    result.output_files.add(path="out/file", digest=digest_of(b"x"))
    with pytest.raises(ValueError, match=r"'out' leads out of .*home"):
        await write_outputs(result, home, MemoryCas(b"x"))
    assert list(elsewhere.iterdir()) == []


async def test_a_blob_that_is_no_tree_is_refused(tmp_path: Path) -> None:
    result = ActionResult()
    result.output_directories.add(path="out", tree_digest=digest_of(b"\xff\xff"))
    with pytest.raises(ValueError, match="is no Tree"):
        await write_outputs(result, tmp_path, MemoryCas(b"\xff\xff"))


@pytest.mark.parametrize("path", ["../out", "/out", "a/../../out", "."])
def test_output_paths_that_leave_the_folder_are_refused(path: str) -> None:
    result = ActionResult()
    result.output_files.add(path=path, digest=digest_of(b""))
    with pytest.raises(ValueError, match=r"leaves the tree|is absolute|the folder itself"):
        plan_outputs(result, {})


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a\0"])
def test_names_in_trees_that_are_no_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is not a file name"):
        plan_outputs(*_result_of(tree_with(files={name: b""}, below={})))


def test_a_tree_without_one_of_its_children_is_refused() -> None:
    tree = tree_with(files={}, below={"sub": {"a": b""}})
    del tree.children[:]
    with pytest.raises(ValueError, match="lacks its child 'sub'"):
        plan_outputs(*_result_of(tree))


def test_a_tree_that_unfolds_without_end_is_refused() -> None:
    tree = Tree()
    below = Directory()
    for _ in range(40):
        tree.children.append(below)
        above = Directory()
        for name in ("a", "b"):
            above.directories.add(name=name, digest=digest_of_message(below))
        below = above
    tree.root.CopyFrom(below)
    with pytest.raises(ValueError, match="unfolds to more than"):
        plan_outputs(*_result_of(tree), max_entries=1000)


def test_outputs_below_a_symlink_of_the_same_result_are_refused() -> None:
    result = ActionResult()
    result.output_symlinks.add(path="out", target="/etc")
    result.output_files.add(path="out/passwd", digest=digest_of(b""))
    with pytest.raises(ValueError, match="lies below 'out'"):
        plan_outputs(result, {})


def test_a_path_that_is_there_twice_is_refused_but_an_old_servers_double_symlink_is_not() -> None:
    result = ActionResult()
    result.output_symlinks.add(path="link", target="a")
    result.output_file_symlinks.add(path="link", target="a")
    assert plan_outputs(result, {}).symlinks == {"link": "a"}
    result.output_files.add(path="link", digest=digest_of(b""))
    with pytest.raises(ValueError, match="'link' is in the result twice"):
        plan_outputs(result, {})


def _result_of(tree: Tree) -> tuple[ActionResult, dict[str, Tree]]:
    digest = digest_of_message(tree)
    result = ActionResult()
    result.output_directories.add(path="out", tree_digest=digest)
    return result, {digest_key(digest): tree}
