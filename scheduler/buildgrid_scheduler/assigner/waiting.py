"""Who waits for work on this replica, and what work is known to wait: matching in memory.

Knowledge of waiting work is a hint, per requirement hash: it decides who asks the database, never who
gets a job. A hint that is wrong costs one look at an index; one that is missing is made up for by the next
look at the distinct hashes in the queue (`job_assignment_interval`), and so is one that is out of date.
"""

import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from buildgrid_scheduler.core.requirements import Offer, satisfies


class HeldCall(Protocol):
    """A bot's call that is held until there is something to say."""

    instance: str
    session_name: str
    hold: bool
    wakes_for: Offer | None
    """it is woken for jobs that require a part of this; none: only for what its session is told"""
    capacity_class: str


BotClass = tuple[str, Offer, str]
"""(instance, offer, capacity class): bots that are interchangeable for matching."""
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
    arrived: int = 0
    """how often anybody did: what happened behind the back of a look at the queue"""
    avoiding: set[str] = field(default_factory=set)
    """capacity classes that looked, and found only jobs that avoid them; until the next news"""


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
        self._held: dict[str, tuple[HeldCall, BotClass | None]] = {}
        self._classes: dict[BotClass, dict[str, HeldCall]] = {}
        """of those that are held, the ones that are woken for work"""
        self._work: dict[HashKey, _Waiting] = {}
        self._dirty: set[HashKey] = set()
        self._matches: dict[tuple[str, Offer], set[str]] = {}
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
            if not call.hold or call.session_name in self._missed:
                self._missed.discard(call.session_name)
                return call
            older = self._remove(call.session_name)
            bot_class = None
            if call.wakes_for is not None:
                bot_class = (call.instance, call.wakes_for, call.capacity_class)
                self._classes.setdefault(bot_class, {})[call.session_name] = call
            self._held[call.session_name] = call, bot_class
            return older if older is not call else None

    def release(self, call: HeldCall) -> bool:
        """Do not hold this call any longer; False if it is not held just now (but being asked for)."""
        with self._lock:
            call.hold = False
            held, _ = self._held.get(call.session_name, (None, None))
            if held is not call:
                return False
            self._remove(call.session_name)
            return True

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
        call, bot_class = self._held.pop(session_name, (None, None))
        if bot_class is not None:
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
                work.arrived += 1
                work.avoiding.clear()

    def looking(self) -> dict[HashKey, int]:
        """A look at the queue begins: a mark of what is known, to be handed to `some_wait`."""
        with self._lock:
            return {key: work.arrived for key, work in self._work.items()}

    def some_wait(self, found: Collection[Arrival], began: Mapping[HashKey, int]) -> bool:
        """These are all the hashes in the queue; True if a held call could ask for them.

        What was known when the look began, and is not there, is forgotten, whoever took it.
        """
        there = {(arrival.instance, arrival.requirement_hash) for arrival in found}
        with self._lock:
            for key, mark in began.items():
                if key not in there and (gone := self._work.get(key)) and gone.arrived == mark:
                    self._forget(key)
            for arrival in found:
                key = (arrival.instance, arrival.requirement_hash)
                if key not in self._work:
                    work = self._add(key, arrival.requires)
                    work.count, work.exact, work.heard = 1, False, 1
                else:
                    work = self._work[key]
                    work.count, work.exact = max(work.count, 1), False
                    work.avoiding.clear()  # it may be over, or others may have come
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

    def _matching(self, kind: tuple[str, Offer]) -> set[str]:
        matches = self._matches.get(kind)
        if matches is None:
            if len(self._matches) >= 10_000:
                self._matches.clear()  # bots that came and went; what is needed is computed again
            instance, offer = kind
            matches = self._matches[kind] = {
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
            avoiding: dict[HashKey, set[str]] = {}
            for key in self._dirty:
                counts[key] += self._work[key].count
                requires[key] = self._work[key].requires
                avoiding[key] = self._work[key].avoiding
            self._dirty.clear()
            for arrival in arriving:
                key = (arrival.instance, arrival.requirement_hash)
                counts[key] += 1
                requires[key] = arrival.requires
                avoiding[key] = set()
            calls: list[HeldCall] = []
            for key, count in counts.items():
                if not self._classes:
                    break
                for bot_class in self._able(key, requires[key], avoiding[key]):
                    for name in list(self._classes.get(bot_class, ()))[:count]:
                        call = self._remove(name)
                        if call is not None:
                            calls.append(call)
                            count -= 1
                    if count <= 0:
                        break
            return calls

    def settle(
        self,
        instance: str,
        *,
        asked: int,
        chosen: int,
        got: Sequence[str],
        marks: Mapping[str, int],
        capacity_class: str = "",
        avoided: Collection[str] = (),
    ) -> bool:
        """A claim over the hashes in `marks` is committed; True if it is worth asking again.

        `asked`: slots; `chosen`: waiting jobs that were seen, at most `asked`; `got`: the hash of each job
        that was claimed. The bots that asked are of `capacity_class`; when they found no more, the `avoided`
        hashes are those of jobs that wait for others.
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
                    if hash_ not in avoided:
                        self._forget(key)
                        continue
                    work.avoiding.add(capacity_class)
                    work.count, work.exact = max(work.count, 1), False
                    if self._somebody_could_take(key):
                        self._dirty.add(key)
                        again = True
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
        work = self._work[key]
        return bool(self._able(key, work.requires, work.avoiding))

    def _able(self, key: HashKey, requires: Offer, avoiding: Collection[str]) -> list[BotClass]:
        """The kinds of held bots that may take such a job."""
        return [
            (instance, offer, capacity_class)
            for instance, offer, capacity_class in self._classes
            if instance == key[0] and capacity_class not in avoiding and satisfies(offer, requires)
        ]
