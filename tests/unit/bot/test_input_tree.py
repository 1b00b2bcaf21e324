"""From Directory messages to a list of what goes where."""

import pytest
from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.input_tree import flatten
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


def test_a_tree_that_unfolds_without_end_is_refused() -> None:
    directories = [Directory()]
    for _ in range(30):
        parent = Directory()
        for name in ("a", "b"):
            parent.directories.add(name=name, digest=digest_of_message(directories[-1]))
        directories.append(parent)
    with pytest.raises(InvalidAction, match="more than 1000 files"):
        flatten(*by_key(*directories), max_nodes=1000)


def test_malformed_digests_are_refused_with_the_path() -> None:
    root = Directory()
    root.files.add(name="x", digest=Digest(hash="nonsense"))
    with pytest.raises(InvalidAction, match=r"'x'.*malformed"):
        flatten(*by_key(root))
