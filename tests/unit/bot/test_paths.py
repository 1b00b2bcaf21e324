"""Paths stay in the root."""

from pathlib import Path

import pytest
from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.paths import check_node_name, follow, inside, parents_to_create, resolve


@pytest.mark.parametrize(
    ("working_directory", "path", "expected"),
    [
        ("", "a/b", "a/b"),
        ("pkg", "out", "pkg/out"),
        ("pkg/sub", "../out", "pkg/out"),
        ("pkg", "./a//b/", "pkg/a/b"),
        ("pkg", "", "pkg"),
        ("", "", ""),
    ],
)
def test_paths_are_relative_to_the_working_directory(
    working_directory: str, path: str, expected: str
) -> None:
    assert resolve(working_directory, path, "output path") == expected


@pytest.mark.parametrize("path", ["/etc/passwd", "..", "a/../../b", "nul\0"])
def test_paths_that_leave_the_root_are_refused_by_name(path: str) -> None:
    with pytest.raises(InvalidAction, match="output path") as caught:
        resolve("", path, "output path")
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "nul\0"])
def test_node_names_are_single_segments(name: str) -> None:
    with pytest.raises(InvalidAction, match="not a file name"):
        check_node_name(name, "dir")


def test_parents_of_outputs_are_made_and_old_directories_themselves() -> None:
    assert parents_to_create(["a/b/file", "top"], ["d/e"], "work") == ["a/b", "d/e", "work"]


def test_symlinks_are_followed_only_within_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "in").symlink_to("real")
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to("loop")
    assert inside(root, "in/file") == root / "real" / "file"
    assert inside(root, "out") == root / "out"
    assert inside(root, "out/secret") is None
    assert inside(root, "") == root
    assert inside(root, "loop/x") is None


def test_symlinks_are_followed_as_by_a_process_whose_root_it_is(tmp_path: Path) -> None:
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("/usr/lib")
    (tmp_path / "usr/lib/up").symlink_to("../../../..")
    (tmp_path / "loop").symlink_to("/loop")
    assert follow(tmp_path, "/lib/x") == "usr/lib/x"
    assert follow(tmp_path, "lib/up/../usr") == "usr"
    assert follow(tmp_path, "not/there/../yet") == "not/yet"
    assert inside(tmp_path, "lib/x", chroot=True) == tmp_path / "usr/lib/x"
    assert inside(tmp_path, "lib", chroot=True) == tmp_path / "lib"
    assert inside(tmp_path, "", chroot=True) == tmp_path
    assert inside(tmp_path, "loop/x", chroot=True) is None
    with pytest.raises(InvalidAction, match="loop"):
        follow(tmp_path, "loop/x")


@pytest.mark.parametrize("chroot", [False, True])
def test_long_ways_through_symlinks_end(tmp_path: Path, chroot: bool) -> None:
    (tmp_path / "end").mkdir()
    for number in range(1200):
        (tmp_path / f"l{number}").symlink_to(f"l{number + 1}" if number < 1199 else "end")
    for number in range(60):
        # Each of these names the next one twice: 2^60 ways.
        (tmp_path / f"t{number}").symlink_to(f"t{number + 1}/../t{number + 1}" if number < 59 else "end")
    assert inside(tmp_path, "l1180/x", chroot=chroot) == tmp_path / "end/x"
    assert inside(tmp_path, "l0/x", chroot=chroot) is None
    assert inside(tmp_path, "t0/x", chroot=chroot) is None
    assert inside(tmp_path, "d/" * 2000 + "x", chroot=chroot) == tmp_path / ("d/" * 2000 + "x")


def test_symlinks_out_of_the_root_and_back_in_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (tmp_path / "beside").symlink_to("root/real")
    (root / "around").symlink_to("../beside")
    (root / "parent").symlink_to("..")
    (root / "sibling").symlink_to("../rooted")
    (tmp_path / "rooted").mkdir()
    assert inside(root, "around/x") == root / "real/x"
    assert inside(root, "parent/x") is None
    assert inside(root, "sibling/x") is None, "a name that begins as the root's does is not in the root"
