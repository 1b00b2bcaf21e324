"""What the operator sees of the cluster: lists and events go into the cache, and their keys to the queue.

kopf is the source of events and nothing else: it writes nothing to objects. What it cannot tell, that an
object went while no watch was open, is found by lists: at the start, once more when all watches are open, and
every ten minutes. That a CRD went is found by discovery: a watch that begins anew in that moment stays open
and silent, even when the CRD is there again.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from buildgrid_operator.cluster.client import FIELD_MANAGER, Client
from buildgrid_operator.cluster.errors import ClusterError, Forbidden, KindMissing
from buildgrid_operator.cluster.kinds import (
    BOT_FLEET,
    NODE,
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
from buildgrid_operator.process.relisting import ListTimes, Probes
from buildgrid_operator.reconcile.apply_set import MANAGED_BY
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.concerns import Key, concerned
from buildgrid_operator.status.scheduler_conditions import Refusal

_log = logging.getLogger(__name__)
OURS = f"{MANAGED_BY}={FIELD_MANAGER}"
"""The label selector of what belongs to custom resources: nobody else's pods are streamed."""
RELIST = timedelta(minutes=10)
CUSTOM = (SCHEDULER, PROPERTY_SET, BOT_FLEET)
OPTIONAL = (NODE,)
"""Where they may not be watched, nothing is missed but a warning."""
WATCHED = (*CUSTOM, *OPTIONAL, *(kind_named(*each) for each in KINDS), POD)
RETRY = timedelta(seconds=2)
TICK = timedelta(seconds=5)
_LONGEST_RETRY = timedelta(minutes=1)
Found = dict[Kind, str | None]
"""the kinds that the cluster serves, and why one of them cannot be watched"""


class Watches:
    """Threads that keep the cache true, from `start` to `stop`."""

    def __init__(
        self,
        client: Client,
        stream: EventStream,
        cache: Cache,
        add: Callable[[Key], None],
        *,
        namespaces: tuple[str, ...] = (),
        relist: timedelta = RELIST,
        retry: timedelta = RETRY,
        tick: timedelta = TICK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`namespaces`: only these; empty: all. `add`: look at what this key stands for; thread-safe.

        `relist`: between lists while all goes well. `retry`: after which what failed is tried again; lists
        that go on failing wait longer each time. `tick`: between looks whether a list is due by `clock`
        (seconds, from whenever).
        """
        self._client = client
        self._stream = stream
        self._cache = cache
        self._add = add
        self._namespaces = namespaces
        self._retry = retry.total_seconds()
        self._tick = min(relist, tick).total_seconds()
        self._times = ListTimes(relist, clock)
        self._probes = Probes(clock)
        self._found: Found = {}
        self._stop = threading.Event()
        self._end_stream = threading.Event()
        self._listing = threading.Lock()
        self._owed: set[Key] = set()
        self._problem: str | None = "the cluster was not listed yet"
        self._lists_problem: str | None = None
        self._threads = [
            threading.Thread(target=self._watch, name="watches", daemon=True),
            threading.Thread(target=self._list_again, name="lists", daemon=True),
        ]

    @property
    def problem(self) -> str | None:
        """Why the operator does not see the cluster; None: it does."""
        return self._problem or self._lists_problem

    def serves(self, kind: Kind) -> bool:
        """Whether the cluster knows a kind, as of the last list."""
        return kind in self._found

    def refused(self, kind: Kind) -> str | None:
        """Why a kind may not be watched; None: it may."""
        return self._found.get(kind)

    def blind_spots(self) -> tuple[Refusal, ...]:
        """What the operator may not watch, all in one: it is put right only when a pass comes along."""
        refused = {kind: words for kind, words in self._found.items() if words is not None}
        if not refused:
            return ()
        (_, words), *others = refused.items()
        if others:
            names = (f"{kind.plural}.{kind.group}" if kind.group else kind.plural for kind, _ in others)
            words += f"; the same goes for {', '.join(names)}"
        return (Refusal("PermissionMissing", words, blocking=False),)

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
            try:
                if self._list_until_served():
                    self._end_stream.clear()
                    if not self._stop.is_set():
                        self._stream_events()
            except Exception as error:  # noqa: BLE001 - without this thread the operator would see nothing
                self._problem = _unforeseen(error, self._problem)
            self._stop.wait(self._retry)

    def _stream_events(self) -> None:
        self._times.stream_begins()
        kinds = {kind: _selector(kind) for kind, no in self._found.items() if no is None}
        try:
            self._stream.run(
                kinds, self._namespaces, self._happened, self._times.watch_listed, self._end_stream
            )
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
            self._stop.wait(self._retry)
        return False

    def _list_again(self) -> None:
        wait, retry, said = self._tick, self._retry, None
        while not self._stop.wait(wait):
            wait = self._tick
            self._look_for_crds()
            if not self._times.due(blind=bool(self.blind_spots())):
                continue
            try:
                found = self._list_all()
            except ClusterError as error:
                if said != str(error):
                    said = str(error)
                    _log.warning("the cluster was not listed, which is tried again: %s", said)
            except Exception as error:  # noqa: BLE001 - without this thread what was missed would stay unknown
                self._lists_problem = _unforeseen(error, self._lists_problem)
            else:
                said = self._lists_problem = None
                retry = self._retry
                if found != self._found:
                    # A CRD was installed, or a permission was granted or taken: other watches are needed.
                    self._end_stream.set()
                continue
            self._times.failed()
            wait, retry = retry, min(2 * retry, _LONGEST_RETRY.total_seconds())

    def _look_for_crds(self) -> None:
        if self._problem is not None or not self._probes.due():
            return
        try:
            served = self._client.verbs(SCHEDULER)
        except ClusterError:
            return  # the lists and the watches tell
        gone = [str(kind) for kind in CUSTOM if kind in self._found and kind.plural not in served]
        if self._probes.found(gone):
            _log.warning("the CRDs of %s are gone: the watches begin anew", ", ".join(gone))
            self._end_stream.set()

    def _list_all(self) -> Found:
        """Raises the ClusterError of a call that may go well later."""
        with self._listing:
            found: Found = {}
            for kind in WATCHED:
                for namespace in (self._namespaces if kind.namespaced else ()) or (None,):
                    try:
                        self._owed |= self._list(kind, namespace)
                    except KindMissing:
                        # With its CRD all objects of a kind are gone; what they owned must not be made again.
                        self._owed |= self._forget(kind)
                        break
                    except Forbidden as error:
                        if kind not in OPTIONAL:
                            found[kind] = str(error)
                        break
                    found.setdefault(kind, None)
            # Not earlier: a pass that sees a Scheduler but not yet its objects would ask for each of them.
            # And not less: what was news in a list that failed later is none in the next one.
            for key in self._owed:
                self._add(key)
            self._owed.clear()
            return found

    def _list(self, kind: Kind, namespace: str | None) -> set[Key]:
        """Returns the keys that the news concern. Raises ClusterError."""
        listing = self._client.list(kind, namespace, labels=_selector(kind))
        before = self._concerned_before([*listing.items, *self._cache.all(kind)])
        news = self._cache.replace(kind, namespace, listing)
        return before.union(*(concerned(obj, self._cache) for obj in news)) if news else set()

    def _forget(self, kind: Kind) -> set[Key]:
        before = self._concerned_before(self._cache.all(kind))
        gone = self._cache.forget(kind)
        return before.union(*(concerned(obj, self._cache) for obj in gone)) if gone else set()

    def _happened(self, obj: Manifest, deleted: bool) -> None:
        """An event. On the stream's thread."""
        ref = ObjectRef.of(obj)
        known = self._cache.get(ref)
        # A node tells of itself every few minutes. Only what it takes from now on is of interest.
        if ref.kind == NODE and not deleted and known is not None and known["spec"] == obj["spec"]:
            return
        before = self._concerned_before([obj])
        news = self._cache.remove(obj) if deleted else self._cache.put(obj)
        if news:
            for key in concerned(obj, self._cache) | before:
                self._add(key)

    def _concerned_before(self, objects: Iterable[Manifest]) -> set[Key]:
        """The keys that objects concern as they were known: references and labels may be about to change."""
        objects = [obj for obj in objects if ObjectRef.of(obj).kind != NODE]  # they refer to nothing
        known = (self._cache.get(ObjectRef.of(obj)) for obj in objects)
        return {key for obj in known if obj is not None for key in concerned(obj, self._cache)}


def _selector(kind: Kind) -> str:
    return "" if kind in (*CUSTOM, *OPTIONAL) else OURS


def _unforeseen(error: Exception, said: str | None) -> str:
    """The words for what is no ClusterError, which are logged with their trace, once in a row."""
    words = f"the cluster cannot be watched: {type(error).__name__}: {error}"
    if words != said:
        _log.error("%s", words, exc_info=error)
    return words


def _obstacle(found: Found) -> str | None:
    """Why nothing can be done yet."""
    for kind in CUSTOM:
        if kind not in found:
            return f"waits for the CRD of {kind}: install the chart's CRDs"
        if (words := found[kind]) is not None:
            return words
    return None
