"""Which blobs a disk storage holds, in the order of their last use, and how much room they take.

Memory only; the disk is the truth and this is what one process knows of it. About 300 MB for a million blobs.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

BLOCK_BYTES = 4096


class Victim(NamedTuple):
    """A blob taken out of the index, to be evicted."""

    hash: str
    size: int
    # Seconds since the epoch, as far as this process knows.
    used_at: int


def footprint(size: int) -> int:
    """What a file of this size takes of the disk, in bytes: whole blocks.

    Most blobs of a build are smaller than a block; a bound on the sum of their sizes would not bound
    the disk.
    """
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


class DiskIndex:
    """Thread-safe; every method holds the lock for a few dictionary operations and no longer.

    `reserve` counts room for uploads under way, in bytes; `admit` turns a finished one into an entry.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._used_bytes = 0
        # By raw hash (half the memory of the text), oldest use first: footprint and last use.
        self._entries: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    @property
    def used_bytes(self) -> int:
        """Room taken by entries and reservations."""
        with self._lock:
            return self._used_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, hash_: str) -> bool:
        return bytes.fromhex(hash_) in self._entries

    def hashes(self) -> list[str]:
        """All entries, oldest use first."""
        with self._lock:
            raw = list(self._entries)
        return [key.hex() for key in raw]

    def reserve(self, room: int) -> bool:
        """Takes room if there is some; False means that something must be evicted first."""
        with self._lock:
            if self._used_bytes + room > self._max_bytes:
                return False
            self._used_bytes += room
            return True

    def release(self, room: int) -> None:
        """Gives a reservation back."""
        with self._lock:
            self._used_bytes -= room

    def admit(self, hash_: str, size: int, used_at: int, *, reserved: int = 0) -> None:
        """Adds an entry as the last used one; its room replaces what was reserved for it."""
        key, room = bytes.fromhex(hash_), footprint(size)
        with self._lock:
            old_room, _ = self._entries.pop(key, (0, 0))
            self._entries[key] = (room, used_at)
            self._used_bytes += room - old_room - reserved

    def load(self, blobs: Iterable[Victim]) -> None:
        """Adds many entries, given from the oldest use to the newest."""
        for blob in blobs:
            self.admit(blob.hash, blob.size, blob.used_at)

    def touch(self, hash_: str, used_at: int) -> bool:
        """Makes an entry the last used one. False if there is none."""
        key = bytes.fromhex(hash_)
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return False
            self._entries[key] = (entry[0], used_at)
            self._entries.move_to_end(key)
            return True

    def discard(self, hash_: str) -> None:
        """Removes an entry, if there is one: its file is gone."""
        with self._lock:
            room, _ = self._entries.pop(bytes.fromhex(hash_), (0, 0))
            self._used_bytes -= room

    def pop_oldest(self) -> Victim | None:
        """Takes the entry with the oldest use out; None when there is none."""
        with self._lock:
            if not self._entries:
                return None
            key, (room, used_at) = self._entries.popitem(last=False)
            self._used_bytes -= room
        return Victim(key.hex(), room, used_at)
