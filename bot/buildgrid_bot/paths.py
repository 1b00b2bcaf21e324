"""Paths of an action: relative to its root, and never out of it. Pure, but for `follow` and `inside`."""

import os
from pathlib import Path

from buildgrid_bot.errors import InvalidAction

# As Linux has it, path_resolution(7).
MAX_SYMLINKS = 40
# Bytes of a path and of a name in it; Linux counts a NUL at the end of a path, too (limits.h).
MAX_PATH_BYTES = 4095
MAX_NAME_BYTES = 255


def resolve(working_directory: str, path: str, what: str) -> str:
    """`path` relative to the working directory, as a normalized path relative to the root ('' is the root).

    `..` is followed by name as long as it stays in the root. Raises InvalidAction naming `what` and the path.
    """
    if path.startswith("/"):
        raise InvalidAction(f"{what} {path!r} is absolute; it must be relative to the input root")
    if "\0" in path:
        raise InvalidAction(f"{what} {path!r} contains a NUL byte")
    parts: list[str] = []
    for part in [*working_directory.split("/"), *path.split("/")]:
        if part in ("", "."):
            continue
        if part == "..":
            if not parts:
                raise InvalidAction(f"{what} {path!r} leaves the input root")
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def check_node_name(name: str, directory: str) -> None:
    """Raises InvalidAction unless `name` may be an entry of a Directory (one path segment, no tricks)."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InvalidAction(f"{name!r} in input directory {directory or '.'!r} is not a file name")
    if len(name) * 4 > MAX_NAME_BYTES and len(name.encode()) > MAX_NAME_BYTES:
        raise InvalidAction(
            f"{name[:50]!r}... in input directory {directory or '.'!r} is longer than {MAX_NAME_BYTES} bytes"
        )


def follow(root: Path, path: str) -> str:
    """Where `path` leads for a process whose `/` is `root`: relative to the root, free of symlinks.

    '' is the root. What is not there is taken as it is named. Raises InvalidAction for symlinks in a circle.
    """
    base = "" if root == Path("/") else str(root)
    so_far: list[str] = []
    left = path.split("/")[::-1]
    links = 0
    while left:
        part = left.pop()
        if part in ("", "."):
            continue
        if part == "..":
            so_far = so_far[:-1]
            continue
        try:
            # Not a Path, which tidies targets up, and is slow where there are a thousand parts.
            target = os.readlink("/".join((base, *so_far, part)))  # noqa: PTH115
        except OSError:  # no symlink, or nothing at all
            so_far.append(part)
            continue
        links += 1
        if links > MAX_SYMLINKS:
            raise InvalidAction(f"{path!r} leads through more than {MAX_SYMLINKS} symlinks")
        if target.startswith("/"):
            so_far = []
        left += target.split("/")[::-1]
    return "/".join(so_far)


def inside(root: Path, path: str, *, chroot: bool = False) -> Path | None:
    """Where `path` really is once symlinks in its parents are followed; None when that is outside `root`.

    The last part itself is not followed. An action may leave a symlink to anywhere; what it points to outside
    the root belongs to the machine, not to the action. With `chroot` symlinks are followed as the action saw
    them, whose `/` the root was: nothing is outside.
    """
    if chroot:
        head, _, tail = path.rpartition("/")
        try:
            return root / follow(root, head) / tail
        except InvalidAction:  # symlinks in a circle: nothing can be there
            return None
    real_root = os.path.realpath(root)
    head, _, tail = path.rpartition("/")
    try:
        # Not realpath, which recurses once for each symlink on the way.
        parent = "/" + follow(Path("/"), f"{real_root}/{head}")
    except InvalidAction:  # symlinks in a circle: nothing can be there
        return None
    if parent != real_root and not parent.startswith(real_root + os.sep):
        return None
    return Path(parent, tail) if tail else Path(parent)


def parents_to_create(outputs: list[str], output_directories: list[str], working_directory: str) -> list[str]:
    """Directories that REAPI (Command.output_paths) promises to exist before the command runs, sorted.

    All arguments are relative to the root, as `resolve` returns them. `output_directories` are those of the
    old field, which promised the directories themselves; servers of the new field create parents only.
    """
    directories = {working_directory, *output_directories}
    directories.update(path.rpartition("/")[0] for path in outputs)
    return sorted(directories - {""})
