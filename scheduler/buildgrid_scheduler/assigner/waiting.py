"""Who waits for work on this replica, and what work is known to wait: matching in memory.

Knowledge of waiting work is a hint, per requirement hash: it decides who asks the database, never who
gets a job. A hint that is wrong costs one look at an index; one that is missing is made up for by the next
look at the distinct hashes in the queue (`job_assignment_interval`).
"""

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from buildgrid_scheduler.core.requirements import Offer, satisfies


class HeldCall(Protocol):
    """A bot's call that is held until there is something to say."""

    instance: str
    session_name: str
    offer: Offer | None
    hold: bool


BotClass = tuple[str, Offer]
"""Bots of an instance that offer the same: interchangeable for matching."""
HashKey = tuple[str, str]
"""(instance, requirement hash)"""


@dataclass(slots=True)
class _Waiting:
    requires: Offer
    count: int = 0
    exact: bool = True
    """`count` is the number of jobs that wait, or more; otherwise it is just known to be some"""
    heard: int = 0
    """how often others told of an arrival: what happened behind the back of a claim"""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A job that begins to wait."""

    instance: str
    requirement_hash: str
    requires: Offer


class WaitingBots:
    """Thread-safe; every method holds the lock only for dictionary work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, HeldCall] = {}
        self._classes: dict[BotClass, dict[str, HeldCall]] = {}
        self._work: dict[HashKey, _Waiting] = {}
        self._dirty: set[HashKey] = set()
        self._matches: dict[BotClass, set[str]] = {}
        self._asking: set[str] = set()
        self._missed: set[str] = set()

    # --- held calls

    def asking(self, sessions: Iterable[str]) -> None:
        """A batch begins that asks for these sessions: `hold` will know what `take` missed meanwhile."""
        with self._lock:
            self._asking = set(sessions)
            self._missed = set()

    def hold(self, call: HeldCall) -> HeldCall | None:
        """Hold a call. Returns the call that is to be dealt with at once: an older one of the session, or
        `call` itself when it does not want to be held any more, or was to be taken while it was asked for.
        """
        with self._lock:
            if not call.hold or call.offer is None or call.session_name in self._missed:
                self._missed.discard(call.session_name)
                return call
            older = self._remove(call.session_name)
            self._held[call.session_name] = call
            self._classes.setdefault((call.instance, call.offer), {})[call.session_name] = call
            return older if older is not call else None

    def release(self, call: HeldCall) -> bool:
        """Do not hold this call any longer; False if it is not held just now (but being asked for)."""
        with self._lock:
            call.hold = False
            if self._held.get(call.session_name) is call:
                self._remove(call.session_name)
                return True
            return False

    def take(self, sessions: Iterable[str]) -> list[HeldCall]:
        """The held calls of these sessions, which are no longer held."""
        with self._lock:
            taken = []
            for name in sessions:
                if (call := self._remove(name)) is not None:
                    taken.append(call)
                elif name in self._asking:
                    self._missed.add(name)
            return taken

    def take_all(self) -> list[HeldCall]:
        """All held calls, for a shutdown."""
        with self._lock:
            return [call for name in list(self._held) if (call := self._remove(name)) is not None]

    def _remove(self, session_name: str) -> HeldCall | None:
        call = self._held.pop(session_name, None)
        if call is not None and call.offer is not None:
            bot_class = (call.instance, call.offer)
            bots = self._classes[bot_class]
            del bots[session_name]
            if not bots:
                del self._classes[bot_class]
        return call

    @property
    def held(self) -> int:
        """How many calls are held."""
        return len(self._held)

    # --- waiting work

    def arrived(self, arrivals: Iterable[Arrival], *, heard: bool) -> None:
        """Jobs began to wait. `heard`: told by others, not part of the batch that now ends."""
        with self._lock:
            for arrival in arrivals:
                work = self._add((arrival.instance, arrival.requirement_hash), arrival.requires)
                work.count += 1
                work.heard += heard

    def some_wait(self, found: Iterable[Arrival]) -> bool:
        """These hashes were found in the queue; True if a held call could ask for them."""
        with self._lock:
            for arrival in found:
                key = (arrival.instance, arrival.requirement_hash)
                if key not in self._work:
                    work = self._add(key, arrival.requires)
                    work.count, work.exact, work.heard = 1, False, 1
                else:
                    work = self._work[key]
                    work.count, work.exact = max(work.count, 1), False
                self._dirty.add(key)
            return bool(self._held and self._dirty)

    @property
    def unplanned(self) -> bool:
        """Whether calls are held, and `plan` has not looked yet at some of the work that is known."""
        with self._lock:
            return bool(self._held and self._dirty)

    def plan_again(self) -> None:
        """What was planned came to nothing: let the next `plan` look at all work that is known."""
        with self._lock:
            self._dirty.update(self._work)

    def _add(self, key: HashKey, requires: Offer) -> _Waiting:
        self._dirty.add(key)
        work = self._work.get(key)
        if work is None:
            work = self._work[key] = _Waiting(requires)
            for (instance, offer), matches in self._matches.items():
                if instance == key[0] and satisfies(offer, requires):
                    matches.add(key[1])
        return work

    def _forget(self, key: HashKey) -> None:
        del self._work[key]
        self._dirty.discard(key)
        for (instance, _), matches in self._matches.items():
            if instance == key[0]:
                matches.discard(key[1])

    def candidates(self, instance: str, offer: Offer) -> set[str]:
        """The hashes that are known to wait and that such a bot may take."""
        with self._lock:
            return set(self._matching((instance, offer)))

    def _matching(self, bot_class: BotClass) -> set[str]:
        matches = self._matches.get(bot_class)
        if matches is None:
            if len(self._matches) >= 10_000:
                self._matches.clear()  # bots that came and went; what is needed is computed again
            instance, offer = bot_class
            matches = self._matches[bot_class] = {
                hash_
                for (i, hash_), w in self._work.items()
                if i == instance and satisfies(offer, w.requires)
            }
        return matches

    def heard(self, instance: str, hashes: Iterable[str]) -> dict[str, int]:
        """A mark of what is known now, to be handed to `settle`."""
        with self._lock:
            return {h: w.heard if (w := self._work.get((instance, h))) else 0 for h in hashes}

    def plan(self, arriving: Sequence[Arrival]) -> list[HeldCall]:
        """Take the held calls that should ask for work: as many as jobs are known, and are `arriving`."""
        with self._lock:
            counts: dict[HashKey, int] = defaultdict(int)
            requires: dict[HashKey, Offer] = {}
            for key in self._dirty:
                counts[key] += self._work[key].count
                requires[key] = self._work[key].requires
            self._dirty.clear()
            for arrival in arriving:
                key = (arrival.instance, arrival.requirement_hash)
                counts[key] += 1
                requires[key] = arrival.requires
            calls: list[HeldCall] = []
            for key, count in counts.items():
                if not self._held:
                    break
                for bot_class in [
                    c for c in self._classes if c[0] == key[0] and satisfies(c[1], requires[key])
                ]:
                    for name in list(self._classes.get(bot_class, ()))[:count]:
                        call = self._remove(name)
                        if call is not None:
                            calls.append(call)
                            count -= 1
                    if count <= 0:
                        break
            return calls

    def settle(
        self, instance: str, *, asked: int, chosen: int, got: Sequence[str], marks: dict[str, int]
    ) -> bool:
        """A claim over the hashes in `marks` is committed; True if it is worth asking again.

        `asked`: slots; `chosen`: waiting jobs that were seen, at most `asked`; `got`: the hash of each job
        that was claimed.
        """
        again = False
        with self._lock:
            for hash_ in got:
                if work := self._work.get((instance, hash_)):
                    work.count -= 1
            contended = chosen > len(got)
            exhausted = chosen < asked and not contended
            for hash_, mark in marks.items():
                key = (instance, hash_)
                if (work := self._work.get(key)) is None:
                    continue
                if exhausted and work.heard == mark:
                    self._forget(key)
                elif contended:
                    work.count = max(work.count, 1)
                    self._dirty.add(key)
                    again = True
                elif work.count <= 0:
                    if work.exact:
                        self._forget(key)
                    else:
                        work.count = 1
                        self._dirty.add(key)
                        again |= bool(self._held)
                elif self._somebody_could_take(key):
                    # Whoever was woken for it took something else: the next one is for what is left.
                    self._dirty.add(key)
                    again = True
        return again

    def _somebody_could_take(self, key: HashKey) -> bool:
        requires = self._work[key].requires
        return any(instance == key[0] and satisfies(offer, requires) for instance, offer in self._classes)
