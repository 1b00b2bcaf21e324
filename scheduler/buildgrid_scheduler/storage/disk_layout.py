"""The folder of a disk storage: where files are, and what a start finds of the life before.

    ROOT/blobs/xx/HASH      verified blobs, in 256 folders by the first two digits
    ROOT/incoming/ID/       temporary files of one process, on the same file system for the sake of rename;
                            ID/lock is flocked while that process lives
    ROOT/incoming/lock      flocked while a process opens its own folder or removes those of the dead
    ROOT/boot-id            of the machine that wrote last

Nothing is visible under `blobs` before it was written whole and verified, then renamed. That survives kill -9
without fsync, since the kernel keeps what was written. When the machine itself goes down, a file may be short
or hold zeros although its rename survived. Short ones do not count, since a lookup compares sizes. For the
rest, a start after another boot hashes again what was written in the last `UNSYNCED_SECONDS` of that life.
That costs a restart some reading in a rare case, and every write nothing; a lost blob is uploaded again.
"""

import fcntl
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from buildgrid_scheduler.storage.disk_index import Victim

FANOUT = tuple(f"{number:02x}" for number in range(256))
# Linux writes dirty pages back after 30 s, looking every 5 s; the rest is margin for a disk that lags.
UNSYNCED_SECONDS = 120
_HASH = re.compile(r"[0-9a-f]{64}")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_log = logging.getLogger(__name__)


class _Found(NamedTuple):
    used_ns: int
    written_ns: int
    size: int
    hash: str


class DiskLayout:
    """Paths under one root, and the folder for temporary files that this process owns."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = str(root / "blobs")
        self._incoming = root / "incoming"
        self._own: Path | None = None
        self._own_lock: IO[str] | None = None

    def path(self, hash_: str) -> str:
        """Where a blob is, or would be. Text: a Path costs more than the stat call that follows."""
        return f"{self._blobs}/{hash_[:2]}/{hash_}"

    def temporary_path(self, hash_: str) -> str:
        """A new name in the folder for temporary files."""
        if self._own is None:
            raise RuntimeError("the disk storage has not been started")
        return f"{self._own}/{hash_[:16]}-{os.urandom(8).hex()}"

    def open(self) -> None:
        """Makes the folders, removes temporary files of processes that are dead, opens our own folder."""
        for name in FANOUT:
            (self.root / "blobs" / name).mkdir(parents=True, exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        with self._incoming_locked():
            for folder in self._incoming.iterdir():
                if folder.is_dir() and not _is_locked(folder / "lock"):
                    shutil.rmtree(folder, ignore_errors=True)
            self._own = self._incoming / os.urandom(8).hex()
            self._own.mkdir()
            self._own_lock = (self._own / "lock").open("w")
            fcntl.flock(self._own_lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Removes our folder for temporary files."""
        if self._own is not None and self._own_lock is not None:
            shutil.rmtree(self._own, ignore_errors=True)
            self._own_lock.close()
            self._own = self._own_lock = None

    def scan(self) -> list[Victim]:
        """All blobs, oldest use first. Removes those that a crash of the machine has damaged.

        The last use is the file's atime, which `refresh` sets, or its mtime if that is later. A million files
        take about ten seconds.
        """
        found = sorted(self._files())
        machine_changed = self._machine_changed()
        if machine_changed and found:
            suspect_since = max(file.written_ns for file in found) - UNSYNCED_SECONDS * 1_000_000_000
            found = [file for file in found if file.written_ns < suspect_since or self._is_whole(file.hash)]
        return [Victim(file.hash, file.size, file.used_ns // 1_000_000_000) for file in found]

    def names(self) -> Iterator[str]:
        """The hashes of all blobs, without looking at the files."""
        for name in FANOUT:
            with os.scandir(f"{self._blobs}/{name}") as entries:
                yield from (entry.name for entry in entries if _HASH.fullmatch(entry.name))

    def _files(self) -> Iterator[_Found]:
        for name in FANOUT:
            with os.scandir(f"{self._blobs}/{name}") as entries:
                for entry in entries:
                    if not _HASH.fullmatch(entry.name):
                        continue
                    # Another process may evict it while we look.
                    with suppress(FileNotFoundError):
                        stat = entry.stat()
                        used_ns = max(stat.st_atime_ns, stat.st_mtime_ns)
                        yield _Found(used_ns, stat.st_mtime_ns, stat.st_size, entry.name)

    def _machine_changed(self) -> bool:
        """Whether the last writer lived before the present boot, or elsewhere. Takes note of ours."""
        try:
            current = _BOOT_ID.read_text()
        except OSError:
            return False  # not Linux: nothing to compare
        note = self.root / "boot-id"
        before = note.read_text() if note.exists() else current
        if before != current or not note.exists():
            note.write_text(current)
        return before != current

    def _is_whole(self, hash_: str) -> bool:
        path = Path(self.path(hash_))
        try:
            with path.open("rb") as file:
                whole = hashlib.file_digest(file, "sha256").hexdigest() == hash_
        except FileNotFoundError:
            return False
        if not whole:
            _log.warning("removed %s: its content was lost when the machine went down", path)
            path.unlink(missing_ok=True)
        return whole

    @contextmanager
    def _incoming_locked(self) -> Iterator[None]:
        with (self._incoming / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _is_locked(path: Path) -> bool:
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
