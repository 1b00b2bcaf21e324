"""Directories that are made for a command: never out of its root."""

from pathlib import Path

import pytest
from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.inputs import make_directory


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_a_directory_is_made_with_its_parents_and_may_be_there(root: Path) -> None:
    (root / "real").mkdir()
    (root / "link").symlink_to("real")
    for _ in range(2):
        make_directory(root, "link/a/b")
        make_directory(root, "")
    assert (root / "real/a/b").is_dir()


@pytest.mark.parametrize("target", ["..", "../outside", "/tmp", "in/../.."])
@pytest.mark.parametrize("path", ["link", "link/below", "link/below/deeper"])
def test_symlinks_that_lead_out_are_refused_and_nothing_is_made(root: Path, target: str, path: str) -> None:
    (root.parent / "outside").mkdir()
    (root / "in").mkdir()
    (root / "link").symlink_to(target)
    with pytest.raises(InvalidAction, match="outside of the input root or nowhere: 'link' is a symlink"):
        make_directory(root, path)
    assert list((root.parent / "outside").iterdir()) == []
    assert sorted(path.name for path in root.iterdir()) == ["in", "link"]


@pytest.mark.parametrize("kind", ["file", "dangling"])
def test_what_is_in_the_way_is_named(root: Path, kind: str) -> None:
    if kind == "file":
        (root / "x").touch()
    else:
        (root / "x").symlink_to("nothing")
    with pytest.raises(InvalidAction, match="'x'"):
        make_directory(root, "x/y")
    with pytest.raises(InvalidAction, match="'x'"):
        make_directory(root, "x")


def test_loops_and_paths_that_are_too_long_are_refused(root: Path) -> None:
    (root / "loop").symlink_to("loop")
    with pytest.raises(InvalidAction, match="'loop"):
        make_directory(root, "loop/x")
    with pytest.raises(InvalidAction, match="File name too long"):
        make_directory(root, "n" * 300)
    with pytest.raises(InvalidAction, match="File name too long"):
        make_directory(root, "/".join(["n" * 250] * 20))
