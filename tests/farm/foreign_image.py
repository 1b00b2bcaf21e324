"""Somebody else's image, as a container sees it: a read-only root, a volume with a bot, no rights."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

VOLUME = "/buildgrid-bot"
USER = 65532
# Bind mounts of a directory that is read-only take two calls.
_ENTER = """
set -e
root=$1 volume=$2 cache=$3; shift 3
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$cache" "$root/cache"
mount --bind "$volume" "$root/buildgrid-bot"
mount -o remount,bind,ro "$root/buildgrid-bot"
mount -o remount,bind,ro "$root"
exec "$@"
"""
# The environment is for the program only, and the image has nothing that could set it.
_START = """
import ctypes, json, os, sys
root, user, environment, *arguments = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
MNT_DETACH = 2
# As container runtimes do it. After chroot(2) there would be no user namespaces, which sandboxes need.
os.chdir(root)
if libc.pivot_root(b".", b".") or libc.umount2(b".", MNT_DETACH):
    raise OSError(ctypes.get_errno(), "pivot_root")
os.chdir("/tmp")
if user:
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
os.execve(arguments[0], arguments, json.loads(environment))
"""


@dataclass(frozen=True)
class ForeignImage:
    """`root` is its file system, `volume` what is mounted read-only at VOLUME, `cache` writable at /cache."""

    root: Path
    volume: Path
    cache: Path

    def __post_init__(self) -> None:
        """The mount points."""
        for name in ("proc", "dev", "tmp", "cache", VOLUME.lstrip("/")):
            (self.root / name).mkdir(exist_ok=True)
        self.cache.mkdir()
        self.cache.chmod(0o777)

    def command(self, *arguments: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """Runs a program of the image, with this environment and no other; it ends with the command.

        Its path is absolute. Skips the test where that is not allowed.
        """
        if problem := _problem():
            pytest.skip(f"may not make namespaces of mounts and processes here: {problem}")
        user = str(USER) if os.getuid() == 0 else ""
        start = [
            sys.executable,
            "-I",
            "-c",
            _START,
            str(self.root),
            user,
            json.dumps(dict(environment or {})),
        ]
        return [
            *_namespaces(),
            *("sh", "-c", _ENTER, "enter", str(self.root), str(self.volume), str(self.cache)),
            *(*start, *arguments),
        ]

    def run(self, *arguments: str, environment: Mapping[str, str] | None = None) -> str:
        """What a program of the image prints; it must succeed, and have nothing to complain about."""
        done = subprocess.run(
            self.command(*arguments, environment=environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, ""), (done.returncode, done.stderr)
        return done.stdout


def terminate(command: int) -> None:
    """SIGTERM to the program that is run by a command of this process id."""
    _signal(command, signal.SIGTERM)


def kill(command: int) -> None:
    """End a command of this process id, and the program that it runs.

    What ends with its parent (unshare's --kill-child) does so no more once it has become another user.
    """
    _signal(command, signal.SIGKILL)
    os.kill(command, signal.SIGKILL)


def _signal(command: int, number: int) -> None:
    for program in Path(f"/proc/{command}/task/{command}/children").read_text().split():
        os.kill(int(program), number)


def _namespaces() -> list[str]:
    own_user = [] if os.getuid() == 0 else ["--map-root-user"]
    flags = ("--mount", "--pid", "--fork", "--kill-child", "--propagation", "private")
    return ["unshare", *own_user, *flags, "--"]


@cache
def _problem() -> str:
    """What keeps this machine from it; empty when it works."""
    with_proc = ("sh", "-c", "mount -t proc proc /proc")
    try:
        done = subprocess.run([*_namespaces(), *with_proc], capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    return done.stderr.strip() if done.returncode else ""
