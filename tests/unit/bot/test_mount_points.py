"""Where the sandbox mounts something within a staged input root."""

from pathlib import Path

import pytest
from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.mount_points import MountPoints, uses_own_tmp


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_what_was_made_is_taken_away_again(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    points = MountPoints(tmp_path)

    assert points.make("/proc") == "/proc"
    assert points.make("/etc/resolv.conf", directory=False) == "/etc/resolv.conf"
    assert points.make("/srv/deep/down") == "/srv/deep/down"
    assert names(tmp_path) == {"etc", "etc/resolv.conf", "proc", "srv", "srv/deep", "srv/deep/down"}

    points.remove()
    assert names(tmp_path) == {"etc"}


def test_what_was_there_or_came_meanwhile_stays(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    points = MountPoints(tmp_path)
    points.make("/dev")
    points.make("/srv/shown")
    points.make("/srv/file", directory=False)
    (tmp_path / "srv/of-the-command").touch()
    (tmp_path / "srv/file").write_text("of the command")

    points.remove()

    assert names(tmp_path) == {"dev", "srv", "srv/of-the-command", "srv/file"}


def test_symlinks_never_lead_out_of_the_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "tmp").symlink_to("/var/tmp")
    (root / "up").symlink_to("../../..")
    points = MountPoints(root)

    assert points.make("/tmp") == "/var/tmp"
    assert points.make("/up/made") == "/made"
    assert (root / "var/tmp").is_dir() and (root / "made").is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"root"}


@pytest.mark.parametrize(("path", "directory"), [("/file", True), ("/folder", False), ("/file/below", True)])
def test_an_input_in_the_way_is_the_actions_fault(tmp_path: Path, path: str, directory: bool) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()

    with pytest.raises(InvalidAction, match="in the way"):
        MountPoints(tmp_path).make(path, directory=directory)


def test_tmp_is_the_roots_own_where_inputs_or_outputs_are_in_it(tmp_path: Path) -> None:
    assert not uses_own_tmp(tmp_path, ["out", "tmpfile", ""])
    assert uses_own_tmp(tmp_path, ["tmp/out"])
    (tmp_path / "tmp").mkdir()
    assert not uses_own_tmp(tmp_path, [])
    (tmp_path / "tmp/in").touch()
    assert uses_own_tmp(tmp_path, [])
