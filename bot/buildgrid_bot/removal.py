"""Removes what an action leaves, however deep it is and whatever its command did to permissions."""

import logging
import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path

_log = logging.getLogger(__name__)

# In bytes. From here on a directory is moved up before its contents are looked at: names always fit below
# what a path may have (4,095), and a command can nest deeper than that with relative paths.
_LONG_PATH = 512


def remove_tree(path: Path) -> None:
    """Removes a directory with all in it; without effect when it is not there. Symlinks are not followed.

    No process may be working in it. What cannot be removed is logged and stays.
    """
    top = os.fspath(path)
    if not os.path.lexists(top):
        return
    if os.path.islink(top):  # noqa: PTH114
        with suppress(OSError):
            os.unlink(top)  # noqa: PTH108
        return
    # A directory is met twice: to remove what is in it, and to be removed itself.
    pending = [(top, False)]
    while pending:
        directory, emptied = pending.pop()
        if emptied:
            with suppress(OSError):
                os.rmdir(directory)  # noqa: PTH106
            continue
        pending.append((directory, True))
        pending += [(_shortened(below, top), False) for below in _empty(directory)]
    if os.path.lexists(top):
        _log.warning("cannot remove %s", path)


def _empty(directory: str) -> list[str]:
    """Removes all but the directories in a directory; those are returned."""
    directories = []
    with suppress(OSError):
        os.chmod(directory, stat.S_IRWXU)  # noqa: PTH101 - commands take permissions away, and Go's modules
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                    continue
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108
    return directories


def _shortened(directory: str, top: str) -> str:
    if len(os.fsencode(directory)) <= _LONG_PATH:
        return directory
    shorter = os.path.join(top, uuid.uuid4().hex)  # noqa: PTH118
    try:
        os.chmod(directory, stat.S_IRWXU)  # noqa: PTH101 - moving it writes into it
        os.rename(directory, shorter)  # noqa: PTH104
    except OSError:
        return directory
    return shorter
