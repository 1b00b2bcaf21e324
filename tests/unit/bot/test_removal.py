"""What actions leave is removed, whatever it is."""

import os
import sys
from pathlib import Path

import pytest
from buildgrid_bot.removal import remove_tree

from tests.farm.deep_folders import nest


def test_a_tree_that_is_not_there_is_no_trouble(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("levels", "name"), [(2500, "d"), (40, "n" * 255)], ids=["many levels", "long names"]
)
def test_depth_does_not_matter(tmp_path: Path, levels: int, name: str) -> None:
    assert levels * (len(name) + 1) > 4096 and sys.getrecursionlimit() < 2500
    top = tmp_path / "top"
    for folder in ("left", "right"):
        (top / folder).mkdir(parents=True)
    nest(top / "left", levels, name)
    nest(top / "right", 3, name)
    remove_tree(top)
    assert list(tmp_path.iterdir()) == []


def test_symlinks_are_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    top = tmp_path / "top"
    top.mkdir()
    (top / "out").symlink_to(kept)
    (top / "loop").symlink_to("loop")
    (top / "dangling").symlink_to("no/where")
    remove_tree(top)
    assert not top.exists()
    assert (kept / "file").exists()


def test_directories_without_permissions_are_removed(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "dark" / "deeper").mkdir(parents=True)
    (top / "dark" / "deeper" / "file").touch()
    (top / "dark" / "file").touch()
    (top / "dark" / "deeper").chmod(0)
    (top / "dark").chmod(0o400)
    top.chmod(0o500)
    remove_tree(top)
    assert not top.exists()


def test_what_cannot_be_removed_is_logged_and_the_rest_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    top = tmp_path / "top"
    (top / "a").mkdir(parents=True)
    for name in ("a/stuck", "a/loose", "loose"):
        (top / name).touch()
    really_unlink = os.unlink

    def unlink(path: str) -> None:
        if path.endswith("stuck"):
            raise PermissionError("immutable")
        really_unlink(path)

    monkeypatch.setattr(os, "unlink", unlink)
    remove_tree(top)
    assert [path.name for path in top.rglob("*") if path.is_file()] == ["stuck"]
    assert f"cannot remove {top}" in caplog.text


def test_a_symlink_in_the_place_of_the_tree_goes_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    remove_tree(link)
    assert not link.is_symlink()
    assert (elsewhere / "kept").exists()
