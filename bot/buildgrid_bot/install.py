"""`buildgrid-bot install --to DIRECTORY`: puts the bot, with all that it needs, where another image finds it.

The bot's image holds it as a directory that runs wherever it is copied to (images/bot/assemble.py makes it).
This copies the directory that it is run from, so that actions may have any image as their environment.
"""

import argparse
import errno
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

MARKER = ".buildgrid-bot"
"""A file in the directory's root; its content is the version."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_MAY_NOT = (errno.EACCES, errno.EPERM, errno.EROFS)


class InstallFailed(Exception):
    """The bot is not there, or not whole. The message says why, and what to do about it."""


@dataclass(frozen=True)
class Installed:
    """What was copied, in bytes of content."""

    files: int
    size: int


def add_install(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The subcommand of the command line."""
    parser = commands.add_parser(
        "install",
        help="copy the bot, with all that it needs, to where another image can run it",
        description="Copies the bot with an interpreter, a loader and all libraries of its own. "
        "DIRECTORY/bin/buildgrid-bot then runs in any Linux image of this architecture, whoever the user is. "
        "A bot that is there already is replaced.",
    )
    parser.add_argument(
        "--to", required=True, metavar="DIRECTORY", help="empty, or with a bot; made if missing"
    )


def run_install(arguments: argparse.Namespace) -> int:
    """Does it, and says so on standard output; 1, with the reason on standard error, where it cannot."""
    began, to = time.monotonic(), Path(arguments.to).absolute()
    try:
        source = own_directory()
        done = install(source, to)
    except InstallFailed as error:
        print(f"buildgrid-bot install: {error}", file=sys.stderr)
        return 1
    version = (source / MARKER).read_text().strip()
    seconds = time.monotonic() - began
    amount = f"{done.files} files, {_mebibytes(done.size)}, {seconds:.1f} s"
    print(f"buildgrid-bot {version} is in {to}: {amount}")
    return 0


def own_directory() -> Path:
    """The directory that this bot runs from. Raises InstallFailed where that is none that can be copied."""
    directory = Path(__file__).resolve().parents[2]
    if not (directory / MARKER).is_file():
        raise InstallFailed(
            f"this bot needs {sys.executable}, and would not run elsewhere; use the one of the bot's image"
        )
    return directory


def install(source: Path, to: Path) -> Installed:
    """Copies the bot's directory, for all users to read and run. What an earlier call left is replaced.

    Raises InstallFailed.
    """
    resolved = to.resolve()
    if resolved.is_relative_to(source.resolve()) or source.resolve().is_relative_to(resolved):
        raise InstallFailed(f"--to: {to} is where this bot itself is, {source}; give another directory")
    try:
        to.mkdir(parents=True, exist_ok=True)
        _make_room(source, to)
        # First, so that what an interrupted call leaves is known to be ours.
        _copy(source / MARKER, to / MARKER)
        return _copy_tree(source, to)
    except FileExistsError as error:
        raise InstallFailed(f"--to: {to} is not a directory; give one") from error
    except OSError as error:
        raise InstallFailed(_explained(error, source, to)) from error


def _make_room(source: Path, to: Path) -> None:
    present = [entry.name for entry in source.iterdir() if os.path.lexists(to / entry.name)]
    if not present:
        return
    if MARKER not in present:
        raise InstallFailed(
            f"--to: {to} holds {', '.join(sorted(present))}, and not of a bot; give an empty directory"
        )
    for name in present:
        if name != MARKER:
            shutil.rmtree(to / name)


def _copy_tree(source: Path, to: Path) -> Installed:
    files = size = 0
    for folder, _, names in os.walk(source):
        target = to / Path(folder).relative_to(source)
        target.mkdir(exist_ok=True)
        if target != to:  # whose mode is its owner's
            target.chmod(0o755)
        for name in names:
            size += _copy(Path(folder, name), target / name)
            files += 1
    return Installed(files, size)


def _copy(source: Path, target: Path) -> int:
    shutil.copyfile(source, target)
    status = source.stat()
    # Whatever this user's umask is, another user may run it.
    target.chmod(0o755 if status.st_mode & 0o100 else 0o644)
    return status.st_size


def _explained(error: OSError, source: Path, to: Path) -> str:
    if error.errno in _FULL:
        needed = sum(path.stat().st_size for path in source.rglob("*") if path.is_file())
        free = shutil.disk_usage(to).free
        return (
            f"--to: no space left for {to}: the bot takes {_mebibytes(needed)}, and {_mebibytes(free)} are "
            "free; enlarge the volume, or its sizeLimit"
        )
    if error.errno in _MAY_NOT:
        path = error.filename2 or error.filename
        return (
            f"--to: user {os.getuid()} may not write to {path}: {error.strerror}; "
            "mount a volume there that this user may write (in a pod: an emptyDir, not readOnly)"
        )
    return f"--to: {to}: {error}"


def _mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
