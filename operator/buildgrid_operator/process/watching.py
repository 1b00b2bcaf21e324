"""What the operator sees of the cluster: lists and events go into the cache, and their keys to the queue.

kopf is the source of events and nothing else: it writes nothing to objects. What it cannot tell, that an
object went while no watch was open, is found by lists: at the start, and every ten minutes.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from buildgrid_operator.cluster.client import FIELD_MANAGER, Client
from buildgrid_operator.cluster.errors import ClusterError, Forbidden, KindMissing
from buildgrid_operator.cluster.kinds import (
    POD,
    PROPERTY_SET,
    SCHEDULER,
    Kind,
    Manifest,
    ObjectRef,
    kind_named,
)
from buildgrid_operator.desired import KINDS
from buildgrid_operator.process.event_stream import EventStream
from buildgrid_operator.reconcile.apply_set import MANAGED_BY
from buildgrid_operator.reconcile.cache import Cache, owner_of
from buildgrid_operator.status.scheduler_conditions import Refusal

_log = logging.getLogger(__name__)
OURS = f"{MANAGED_BY}={FIELD_MANAGER}"
"""The label selector of what belongs to Schedulers: nobody else's pods are streamed."""
RELIST = timedelta(minutes=10)
CUSTOM = (SCHEDULER, PROPERTY_SET)
WATCHED = (*CUSTOM, *(kind_named(*each) for each in KINDS), POD)
_RETRY = 2.0
_TICK = 5.0
_STARTING = 30.0
"""seconds in which all watches have begun"""
_BLIND = 20.0
"""seconds between lists while something may not be watched: a rule that is granted tells of no event"""
Found = dict[Kind, str | None]
"""the kinds that the cluster serves, and why one of them cannot be watched"""


class Watches:
    """Threads that keep the cache true, from `start` to `stop`."""

    def __init__(
        self,
        client: Client,
        stream: EventStream,
        cache: Cache,
        add: Callable[[ObjectRef], None],
        *,
        namespaces: tuple[str, ...] = (),
        relist: timedelta = RELIST,
    ) -> None:
        """`namespaces`: only these; empty: all. `add`: look at this Scheduler or PropertySet; thread-safe."""
        self._client = client
        self._stream = stream
        self._cache = cache
        self._add = add
        self._namespaces = namespaces
        self._relist = relist.total_seconds()
        self._found: Found = {}
        self._stop = threading.Event()
        self._end_stream = threading.Event()
        self._watch_began_anew = threading.Event()
        self._streaming = 0.0
        self._problem: str | None = "the cluster was not listed yet"
        self._threads = [
            threading.Thread(target=self._watch, name="watches", daemon=True),
            threading.Thread(target=self._list_again, name="lists", daemon=True),
        ]

    @property
    def problem(self) -> str | None:
        """Why the operator does not see the cluster; None: it does."""
        return self._problem

    def serves(self, kind: Kind) -> bool:
        """Whether the cluster knows a kind, as of the last list."""
        return kind in self._found

    def blind_spots(self) -> tuple[Refusal, ...]:
        """What the operator may not watch: it is put right only when a pass comes along."""
        return tuple(
            Refusal("PermissionMissing", words, blocking=False)
            for words in self._found.values()
            if words is not None
        )

    def start(self) -> None:
        """Keys are added from when all was listed once."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float = 10.0) -> None:
        """No more events. Waits until that is so, for `timeout` seconds."""
        self._stop.set()
        self._end_stream.set()
        for thread in self._threads:
            thread.join(timeout)

    def _watch(self) -> None:
        while not self._stop.is_set():
            if self._list_until_served():
                self._end_stream.clear()
                if not self._stop.is_set():
                    self._stream_events()
            self._stop.wait(_RETRY)

    def _stream_events(self) -> None:
        self._streaming = time.monotonic()
        kinds = {kind: "" if kind in CUSTOM else OURS for kind, no in self._found.items() if no is None}
        try:
            self._stream.run(kinds, self._namespaces, self._happened, self._listed, self._end_stream)
        except Exception as error:  # noqa: BLE001 - whatever ends the events, the next ones begin with lists
            _log.warning("the watches ended, and begin anew: %s", error or type(error).__name__)

    def _list_until_served(self) -> bool:
        said = None
        while not self._stop.is_set():
            try:
                found = self._list_all()
            except ClusterError as error:
                self._problem = str(error)
            else:
                self._found, self._problem = found, _obstacle(found)
                if self._problem is None:
                    return True
            if self._problem != said:
                said = self._problem
                _log.warning("cannot watch the cluster yet: %s", said)
            self._stop.wait(_RETRY)
        return False

    def _list_again(self) -> None:
        listed = time.monotonic()
        while not self._stop.wait(min(self._relist, _TICK)):
            every = min(self._relist, _BLIND) if self.blind_spots() else self._relist
            if time.monotonic() - listed < every and not self._watch_began_anew.is_set():
                continue
            self._watch_began_anew.clear()
            listed = time.monotonic()
            try:
                found = self._list_all()
            except ClusterError as error:
                _log.warning("the cluster was not listed: %s", error)
                continue
            if found != self._found:
                # A CRD was installed, or a permission was granted or taken: other watches are needed.
                self._end_stream.set()

    def _list_all(self) -> Found:
        """Raises the ClusterError of a call that may go well later."""
        found: Found = {}
        keys: set[ObjectRef] = set()
        for kind in WATCHED:
            for namespace in self._namespaces or (None,):
                selector = "" if kind in CUSTOM else OURS
                try:
                    listing = self._client.list(kind, namespace, labels=selector)
                except KindMissing:
                    # With its CRD all objects of a kind are gone; what they owned must not be made again.
                    before = self._concerned_before(self._cache.all(kind))
                    if gone := self._cache.forget(kind):
                        keys |= before.union(*(self._concerned(obj) for obj in gone))
                    break
                except Forbidden as error:
                    found[kind] = str(error)
                    break
                found.setdefault(kind, None)
                before = self._concerned_before([*listing.items, *self._cache.all(kind)])
                news = self._cache.replace(kind, namespace, listing)
                if news:
                    keys |= before.union(*(self._concerned(obj) for obj in news))
        # Not earlier: a pass that sees a Scheduler but not yet its objects would ask for each of them.
        for key in keys:
            self._add(key)
        return found

    def _listed(self) -> None:
        """On the stream's thread. Later than at its start: what was deleted meanwhile, no event tells."""
        if time.monotonic() - self._streaming > _STARTING:
            self._watch_began_anew.set()

    def _happened(self, obj: Manifest, deleted: bool) -> None:
        """An event. On the stream's thread."""
        before = self._concerned_before([obj])
        news = self._cache.remove(obj) if deleted else self._cache.put(obj)
        if news:
            for key in self._concerned(obj) | before:
                self._add(key)

    def _concerned_before(self, objects: Iterable[Manifest]) -> set[ObjectRef]:
        """The keys that objects concern as they were known: references and labels may be about to change."""
        known = (self._cache.get(ObjectRef.of(obj)) for obj in objects)
        return {key for obj in known if obj is not None for key in self._concerned(obj)}

    def _concerned(self, obj: Manifest) -> set[ObjectRef]:
        """The keys whose pass looks at an object."""
        ref = ObjectRef.of(obj)
        if ref.kind == PROPERTY_SET:
            return {ref, *self._cache.users(ref)}
        if ref.kind == SCHEDULER:
            target = self._cache.used_by(ref)
            return {ref} if target is None else {ref, target}
        owner = owner_of(obj)
        return set() if owner is None else {owner}


def _obstacle(found: Found) -> str | None:
    """Why nothing can be done yet."""
    for kind in CUSTOM:
        if kind not in found:
            return f"waits for the CRD of {kind}: install the chart's CRDs"
        if (words := found[kind]) is not None:
            return words
    return None
