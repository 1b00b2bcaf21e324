"""What goes wrong between an engine and its database, at a place and time that a test chooses."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from buildgrid_scheduler.store.hot_connection import DatabaseBusyError, HotConnection, Statements

WRITER, ERRANDS = "engine-writer", "engine-errands"
_PATIENCE = 30


class Gate:
    """Where a thread of the engine stops."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def stand(self) -> None:
        """Called by the thread."""
        self._reached.set()
        assert self._open.wait(_PATIENCE), "nobody opened the gate"

    def wait_until_reached(self) -> None:
        """Wait for the thread."""
        assert self._reached.wait(_PATIENCE), "the thread does not come"

    def reached_before(self, over: Callable[[], bool]) -> bool:
        """Wait for the thread; False if it is `over` before it comes here."""
        deadline = time.monotonic() + _PATIENCE
        while not self._reached.wait(0.002):
            if over():
                return self._reached.is_set()
            assert time.monotonic() < deadline, "the thread neither comes nor ends"
        return True

    def open(self) -> None:
        """Let the thread go on."""
        self._open.set()


@contextmanager
def stopped_after_commit(monkeypatch: pytest.MonkeyPatch, thread: str = WRITER) -> Iterator[Gate]:
    """The first such thread stops after its commit, until the gate is opened or the block ends."""
    with _instead_of_transaction(monkeypatch) as (real, use):
        gate = Gate()
        came: list[int] = []

        def transaction(connection: HotConnection, body: Callable[[Statements], Any]) -> Any:
            outcome = real(connection, body)
            if threading.current_thread().name == thread and not came:
                came.append(threading.get_ident())
                gate.stand()
            return outcome

        use(transaction)
        try:
            yield gate
        finally:
            gate.open()


class _Stepping(Statements):
    """Statements of a transaction that stops before one of them, and after all those before it are done."""

    __slots__ = ("_gate", "_left")

    def __init__(self, db: Statements, gate: Gate, point: int) -> None:
        super().__init__(db._connection)
        self._gate = gate
        self._left = point

    def execute(self, statement: str, parameters: Any = None) -> Any:
        """As Statements."""
        self.step()
        return super().execute(statement, parameters)

    def step(self) -> None:
        """A point at which it may have to stop."""
        if self._left == 0:
            super().execute("SELECT 1").fetchall()
            self._gate.stand()
        self._left -= 1


@contextmanager
def held_open(monkeypatch: pytest.MonkeyPatch, thread: int, point: int) -> Iterator[Gate]:
    """The first transaction of a thread stops before its statement number `point`, from 0, or its commit.

    Until the gate is opened or the block ends; it holds what it has locked by then.
    """
    with _instead_of_transaction(monkeypatch) as (real, use):
        gate = Gate()
        came: list[int] = []

        def transaction(connection: HotConnection, body: Callable[[Statements], Any]) -> Any:
            if threading.get_ident() != thread or came:
                return real(connection, body)
            came.append(thread)

            def in_steps(db: Statements) -> Any:
                stepping = _Stepping(db, gate, point)
                outcome = body(stepping)
                stepping.step()
                return outcome

            return real(connection, in_steps)

        use(transaction)
        try:
            yield gate
        finally:
            gate.open()


@contextmanager
def first_commit_unheard(monkeypatch: pytest.MonkeyPatch, thread: str = WRITER) -> Iterator[None]:
    """The connection is lost after the first commit and before its answer: nobody knows how it went."""
    yield from _first_fails(monkeypatch, thread, committed=True)


@contextmanager
def first_transaction_rolled_back(monkeypatch: pytest.MonkeyPatch, thread: str = WRITER) -> Iterator[None]:
    """The database chose the first transaction as the victim of a deadlock."""
    yield from _first_fails(monkeypatch, thread, committed=False)


def _first_fails(monkeypatch: pytest.MonkeyPatch, thread: str, *, committed: bool) -> Iterator[None]:
    with _instead_of_transaction(monkeypatch) as (real, use):
        failed: list[str] = []

        def transaction(connection: HotConnection, body: Callable[[Statements], Any]) -> Any:
            if threading.current_thread().name != thread or failed:
                return real(connection, body)
            failed.append("once")

            def lose(db: Statements) -> Any:
                body(db)
                raise DatabaseBusyError("it was the victim", 0.0)

            if committed:
                real(connection, body)
                raise DatabaseBusyError("the connection is lost", 0.0, unknown=True)
            return real(connection, lose)

        use(transaction)
        yield
        assert failed, "nothing was run"


@contextmanager
def first_run_in_vain(
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[], object],
    *,
    committed: bool,
    thread: str = ERRANDS,
) -> Iterator[None]:
    """The first run is rolled back or `committed`, nobody hears which; somebody acts; it is run again."""
    with _instead_of_transaction(monkeypatch) as (real, use):
        failed: list[str] = []

        def transaction(connection: HotConnection, body: Callable[[Statements], Any]) -> Any:
            if threading.current_thread().name != thread or failed:
                return real(connection, body)
            failed.append("once")

            def lose(db: Statements) -> Any:
                body(db)
                raise DatabaseBusyError("it was the victim", 0.0)

            with suppress(DatabaseBusyError):
                real(connection, body if committed else lose)
            meanwhile()
            raise DatabaseBusyError("the connection is lost", 0.0, unknown=True)

        use(transaction)
        yield
        assert failed, "nothing was run"


@contextmanager
def every_first_try_fails(monkeypatch: pytest.MonkeyPatch, *, committed: bool) -> Iterator[None]:
    """Each transaction has to be run twice; the first run is rolled back, or `committed` and not heard of."""
    with _instead_of_transaction(monkeypatch) as (real, use):
        failed_last: dict[int, bool] = {}

        def transaction(connection: HotConnection, body: Callable[[Statements], Any]) -> Any:
            thread = threading.get_ident()
            failed_last[thread] = not failed_last.get(thread, False)
            if not failed_last[thread]:
                return real(connection, body)

            def lose(db: Statements) -> Any:
                body(db)
                raise DatabaseBusyError("it was the victim", 0.0)

            real(connection, body if committed else lose)
            raise DatabaseBusyError("the connection is lost", 0.0, unknown=True)

        use(transaction)
        yield


class FaultsOnDemand:
    """The next transaction of a kind of thread, once it is armed, has to be run twice."""

    def __init__(self) -> None:
        self._armed: dict[str, bool] = {}
        self.happened = 0

    def arm(self, thread: str, *, committed: bool) -> None:
        """Its first run will be `committed` or rolled back, and nobody hears which."""
        self._armed[thread] = committed

    def disarm(self) -> None:
        """No further faults."""
        self._armed.clear()

    def due(self) -> bool | None:
        """Whether the fault that now hits this thread commits; none: there is none."""
        committed = self._armed.pop(threading.current_thread().name, None)
        self.happened += committed is not None
        return committed


@contextmanager
def faults_on_demand(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultsOnDemand]:
    """Connections are lost when the test wants it."""
    faults = FaultsOnDemand()
    with _instead_of_transaction(monkeypatch) as (real, use):

        def transaction(connection: HotConnection, body: Callable[[Statements], Any]) -> Any:
            committed = faults.due()
            if committed is None:
                return real(connection, body)

            def lose(db: Statements) -> Any:
                body(db)
                raise DatabaseBusyError("it was rolled back", 0.0, unknown=True)

            real(connection, body if committed else lose)
            raise DatabaseBusyError("the connection is lost", 0.0, unknown=True)

        use(transaction)
        yield faults


@contextmanager
def _instead_of_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[Callable[..., Any], Callable[[Any], None]]]:
    with monkeypatch.context() as patch:
        yield HotConnection.transaction, lambda new: patch.setattr(HotConnection, "transaction", new)


class Interrupted(Statements):
    """Statements of a transaction; before the first that holds `words`, somebody else acts."""

    __slots__ = ("left",)

    def __init__(self, db: Statements, acts: Mapping[str, Callable[[], object]]) -> None:
        super().__init__(db._connection)
        self.left = dict(acts)

    def execute(self, statement: str, parameters: Any = None) -> Any:
        """As Statements."""
        for words in [w for w in self.left if w in statement]:
            self.left.pop(words)()
        return super().execute(statement, parameters)
