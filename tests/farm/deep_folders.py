"""Folders that are nested as only a hostile or broken program nests them."""

import os
from pathlib import Path


def nest(top: Path, levels: int, name: str = "d") -> None:
    """So many folders in each other and a `file` in the last: also deeper than a path may be long."""
    here = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
