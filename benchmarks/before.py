"""An earlier revision of the repository, to be measured beside the working tree with the same interpreter."""

import contextlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from benchmarks.servers import REPOSITORY, ServerError

_PACKAGES = ("scheduler", "client", "protos")
"""Folders of the repository that hold what a server imports."""


def resolved(revision: str) -> str:
    """The short name of a commit. Raises ServerError for one that is not there."""
    return _git("rev-parse", "--short", "--verify", f"{revision}^{{commit}}").decode().strip()


@contextlib.contextmanager
def source_of(revision: str) -> Iterator[dict[str, str]]:
    """The environment in which Python imports the packages of a revision; they go with the context.

    The installed dependencies stay those of the working tree: what differs is the project's own code.
    """
    with tempfile.TemporaryDirectory(prefix="bench-before-") as folder:
        with tarfile.open(fileobj=BytesIO(_git("archive", "--format=tar", revision))) as archive:
            archive.extractall(folder, filter="data")
        there = [str(Path(folder) / package) for package in _PACKAGES if (Path(folder) / package).is_dir()]
        yield {**os.environ, "PYTHONPATH": os.pathsep.join(there)}


def _git(*arguments: str) -> bytes:
    found = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True)
    if found.returncode:
        raise ServerError(f"git {arguments[0]}: {found.stderr.decode().strip()}")
    return found.stdout
