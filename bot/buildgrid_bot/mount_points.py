"""Places in a staged input root that the sandbox mounts something on, when that root is the action's `/`.

They are made where the inputs lack them, and taken away again before outputs are collected: what the client
did not send and the command did not make is no output.
"""

import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.paths import follow

TMP = "tmp"


class MountPoints:
    """Of one staged root, on which no process works yet, or any more."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: list[Path] = []

    def make(self, path: str, *, directory: bool = True) -> str:
        """Sees to it that there is a directory or a file at the absolute `path`, as an action would see it.

        Returns where that is, as an absolute path within the root without symlinks. Raises InvalidAction
        where an input is in the way.
        """
        place = follow(self._root, path)
        parts = place.split("/") if place else []
        here = self._root
        for number, part in enumerate(parts, start=1):
            here /= part
            as_directory = directory or number < len(parts)
            try:
                mode = here.lstat().st_mode
            except FileNotFoundError:
                if as_directory:
                    here.mkdir()
                else:
                    here.touch()
                self._made.append(here)
            else:
                if as_directory != stat.S_ISDIR(mode):
                    raise InvalidAction(
                        f"{path!r} cannot be mounted in the input root: the input {place!r} is in the way"
                    )
        return f"/{place}"

    def remove(self) -> None:
        """Takes away what was made, unless the command put something into it."""
        for path in reversed(self._made):
            with suppress(OSError):  # not empty, or gone already
                if stat.S_ISDIR(path.lstat().st_mode):
                    path.rmdir()
                elif path.lstat().st_size == 0:
                    path.unlink()
        self._made.clear()


def uses_own_tmp(root: Path, outputs: Iterable[str]) -> bool:
    """Whether /tmp has to be that of the staged root: inputs are in it, or outputs are to come from it.

    `outputs` are relative to the root, the working directory among them.
    """
    if any(path == TMP or path.startswith(f"{TMP}/") for path in outputs):
        return True
    try:
        return any((root / follow(root, TMP)).iterdir())
    except OSError:  # not there, or not a directory
        return False
