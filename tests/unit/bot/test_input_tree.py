"""From Directory messages to a list of what goes where."""

import asyncio
from collections.abc import Iterable

import pytest
from buildgrid_bot import input_tree
from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.input_tree import SmallBlobs, flatten, read_directories
from buildgrid_client.digests import digest_key, digest_of, digest_of_message
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest, Directory


def by_key(*directories: Directory) -> tuple[dict[str, Directory], Digest]:
    """The directories by key; the last is the root."""
    return {digest_key(digest_of_message(d)): d for d in directories}, digest_of_message(directories[-1])


def test_a_shared_subtree_appears_wherever_it_is_named() -> None:
    leaf = Directory()
    leaf.files.add(name="f", digest=digest_of(b"x"), is_executable=True)
    leaf.symlinks.add(name="l", target="f")
    root = Directory()
    for name in ("a", "b"):
        root.directories.add(name=name, digest=digest_of_message(leaf))

    tree = flatten(*by_key(leaf, root))

    assert sorted(tree.directories) == ["a", "b"]
    assert sorted(file.path for file in tree.files) == ["a/f", "b/f"]
    assert all(file.executable for file in tree.files)
    assert sorted(tree.symlinks) == [("a/l", "f"), ("b/l", "f")]


def test_parents_come_before_their_children() -> None:
    leaf = Directory()
    middle = Directory()
    middle.directories.add(name="leaf", digest=digest_of_message(leaf))
    root = Directory()
    root.directories.add(name="middle", digest=digest_of_message(middle))

    assert flatten(*by_key(leaf, middle, root)).directories == ["middle", "middle/leaf"]


@pytest.mark.parametrize("name", ["..", "a/b", ""])
def test_names_that_are_no_names_are_refused(name: str) -> None:
    root = Directory()
    root.files.add(name=name, digest=digest_of(b""))
    with pytest.raises(InvalidAction, match="not a file name"):
        flatten(*by_key(root))


def test_one_name_for_two_things_is_refused() -> None:
    root = Directory()
    root.files.add(name="x", digest=digest_of(b""))
    root.symlinks.add(name="x", target="y")
    with pytest.raises(InvalidAction, match="twice"):
        flatten(*by_key(root))


def nested(levels: int, names: tuple[str, ...], leaf: Directory) -> tuple[dict[str, Directory], Digest]:
    """`leaf` below so many directories, each of which names the next one under all the names."""
    directories = [leaf]
    for _ in range(levels):
        parent = Directory()
        for name in names:
            parent.directories.add(name=name, digest=digest_of_message(directories[-1]))
        directories.append(parent)
    return by_key(*directories)


def leaf_with(name: str) -> Directory:
    leaf = Directory()
    leaf.files.add(name=name, digest=digest_of(b"x"))
    return leaf


def test_a_tree_that_unfolds_without_end_is_refused_without_being_unfolded() -> None:
    # 2^1000 paths: whoever walks them does not come back.
    with pytest.raises(InvalidAction, match="more than 1000 files"):
        flatten(*nested(1000, ("a", "b"), Directory()), max_nodes=1000)


def test_a_tree_of_just_the_largest_size_is_taken() -> None:
    # 2 + 4 + 8 directories, 8 files.
    tree = flatten(*nested(3, ("a", "b"), leaf_with("f")), max_nodes=22)
    assert (len(tree.directories), len(tree.files), tree.longest_path) == (14, 8, len("a/a/a/f"))
    with pytest.raises(InvalidAction, match="more than 21"):
        flatten(*nested(3, ("a", "b"), leaf_with("f")), max_nodes=21)


def test_two_thousand_levels_are_unfolded() -> None:
    tree = flatten(*nested(2000, ("d",), leaf_with("f")))
    assert [file.path for file in tree.files] == ["d/" * 2000 + "f"]
    assert tree.longest_path == 4001


@pytest.mark.parametrize("levels", [2048, 30_000])
def test_paths_that_are_longer_than_any_system_takes_are_refused(levels: int) -> None:
    with pytest.raises(InvalidAction, match=f"{2 * levels + 1} bytes long, more than the 4095"):
        flatten(*nested(levels, ("d",), leaf_with("f")))


def test_paths_are_measured_in_bytes() -> None:
    assert flatten(*nested(1, ("\u00e4\u00f6",), leaf_with("\u00fc"))).longest_path == 7


def test_paths_that_take_too_much_memory_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # a/a/f and its like: eight files of 7 bytes, and directories of 8 * 5, 4 * 3 and 2 * 1.
    monkeypatch.setattr(input_tree, "MAX_BYTES_OF_PATHS", 109)
    with pytest.raises(InvalidAction, match="more than 109 bytes together"):
        flatten(*nested(3, ("a", "b"), leaf_with("f")))
    monkeypatch.setattr(input_tree, "MAX_BYTES_OF_PATHS", 110)
    flatten(*nested(3, ("a", "b"), leaf_with("f")))


def test_names_and_targets_that_no_file_system_takes_are_refused() -> None:
    with pytest.raises(InvalidAction, match="longer than 255 bytes"):
        flatten(*by_key(leaf_with("\u00e4" * 128)))
    flatten(*by_key(leaf_with("\u00e4" * 127)))
    link = Directory()
    link.symlinks.add(name="l", target="t" * 4096)
    with pytest.raises(InvalidAction, match="target of input symlink 'l' is longer than 4095"):
        flatten(*by_key(link))


def test_too_many_distinct_directories_are_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(input_tree, "MAX_NODES", 3)
    root = Directory()
    for number in range(4):
        root.directories.add(name=str(number), digest=digest_of(str(number).encode()))
    cas = FakeCas(root.SerializeToString())
    with pytest.raises(InvalidAction, match="more than 3 distinct directories"):
        asyncio.run(read_directories(SmallBlobs(cas), digest_of_message(root)))  # type: ignore[arg-type]
    assert cas.calls == 1


def test_a_directory_of_gigabytes_is_not_read() -> None:
    cas = FakeCas()
    huge = Digest(hash="a" * 64, size_bytes=1 << 32)
    with pytest.raises(InvalidAction, match=f"{'a' * 64}/{1 << 32} as a Directory"):
        asyncio.run(read_directories(SmallBlobs(cas), huge))  # type: ignore[arg-type]
    assert cas.calls == 0


class FakeCas:
    def __init__(self, *blobs: bytes) -> None:
        self._blobs = {digest_key(digest_of(blob)): blob for blob in blobs}
        self.calls = 0

    async def read_blobs(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        self.calls += 1
        return {digest_key(digest): self._blobs[digest_key(digest)] for digest in digests}


def test_malformed_digests_are_refused_with_the_path() -> None:
    root = Directory()
    root.files.add(name="x", digest=Digest(hash="nonsense"))
    with pytest.raises(InvalidAction, match=r"'x'.*malformed"):
        flatten(*by_key(root))
