"""Transactions that open, close and reap bot sessions. Rare, so each is one of its own."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.engine.lease_ends import LeaseChanges, lock_leases
from buildgrid_scheduler.engine.synchronizing import unknown_session
from buildgrid_scheduler.store.hot_connection import Statements

REAP_AT_ONCE = 10
"""Sessions that one reaping transaction closes: it stays short, and other replicas take the next."""

_LOCK_BY_BOT_ID = """
SELECT name, bot_id, status FROM bots WHERE instance_name = %s AND bot_id = %s FOR UPDATE
"""
_LOCK_BY_NAME = "SELECT name, bot_id, status FROM bots WHERE instance_name = %s AND name = %s FOR UPDATE"
_LOCK_EXPIRED = """
SELECT name, bot_id, status FROM bots WHERE expires_at < %s ORDER BY name LIMIT %s FOR UPDATE SKIP LOCKED
"""
_LOCK_UNLESS_CALLED = "SELECT 1 FROM bots WHERE name = %s AND latest_call = %s FOR NO KEY UPDATE"
_DELETE = "DELETE FROM bots WHERE name = ANY(%s)"
_INSERT = """
INSERT INTO bots (name, instance_name, bot_id, status, capacity, offer, version, connected_at, expires_at)
VALUES (%s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s)
ON CONFLICT (instance_name, bot_id) DO NOTHING RETURNING name
"""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session as it is asked for."""

    name: str
    instance: str
    bot_id: str
    status: BotStatus
    capacity: int = 1
    offer: Offer = frozenset()
    version: str = ""


@dataclass(frozen=True, slots=True)
class SessionTransactions:
    """Bound to the settings; each method returns a transaction for `Call`."""

    policy: CompletionPolicy
    keepalive: timedelta
    store_results: bool

    def open(self, session: NewSession) -> Callable[[Statements, datetime, Effects], datetime]:
        """Close the bot's old session, insert the new one; returns when it expires."""

        def transaction(db: Statements, now: datetime, effects: Effects) -> datetime:
            expires = now + self.keepalive
            while True:  # a session of the same bot may be opened elsewhere between the two statements
                old = db.rows(_LOCK_BY_BOT_ID, (session.instance, session.bot_id))
                if any(name == session.name for name, _, _ in old):
                    return expires  # run again after a commit that we did not hear of
                reason = f"bot {session.bot_id} opened a new session"
                self._close(db, old, now, effects, reason)
                offer = json.dumps(sorted(session.offer))
                values = (session.name, session.instance, session.bot_id, int(session.status))
                more = (session.capacity, offer, session.version, now, expires)
                if db.rows(_INSERT, (*values, *more)):
                    return expires

        return transaction

    def close(self, instance: str, name: str, reason: str) -> Callable[[Statements, datetime, Effects], bool]:
        """Delete a session and let its jobs wait again; False if there is no such session."""

        def transaction(db: Statements, now: datetime, effects: Effects) -> bool:
            found = db.rows(_LOCK_BY_NAME, (instance, name))
            self._close(db, found, now, effects, reason)
            return bool(found)

        return transaction

    def reap(self) -> Callable[[Statements, datetime, Effects], int]:
        """Close a handful of the expired sessions of all instances; returns how many."""

        def transaction(db: Statements, now: datetime, effects: Effects) -> int:
            expired = db.rows(_LOCK_EXPIRED, (now, REAP_AT_ONCE))
            self._close(db, expired, now, effects, "it stopped calling")
            return len(expired)

        return transaction

    def hand_back(
        self, session_name: str, jobs: Sequence[str], call_id: str
    ) -> Callable[[Statements, datetime, Effects], None]:
        """Undo claims whose bot had hung up before it was told: nothing counts as a try.

        `call_id`: the call that claimed. If another one was answered since, it was told of these leases, or
        the session is closed: then there is nothing to undo.
        """

        def transaction(db: Statements, now: datetime, effects: Effects) -> None:
            if not db.rows(_LOCK_UNLESS_CALLED, (session_name, call_id)):
                return
            changes = LeaseChanges(now, self.policy)
            for lease in lock_leases(db, [session_name]):
                if lease.job_name in jobs and lease.started_at is None:
                    changes.hand_back(lease)
            changes.write(db, store_results=self.store_results)
            changes.tell(effects)

        return transaction

    def _close(
        self,
        db: Statements,
        rows: Sequence[tuple[str, str, int]],
        now: datetime,
        effects: Effects,
        reason: str,
    ) -> None:
        if not rows:
            return
        names = [name for name, _, _ in rows]
        bots = {name: (bot_id, BotStatus(status)) for name, bot_id, status in rows}
        changes = LeaseChanges(now, self.policy)
        for lease in lock_leases(db, names):
            bot_id, status = bots[lease.session_name]
            changes.lose(lease, bot_id=bot_id, status=status, reason=f"bot {bot_id} vanished: {reason}")
        changes.write(db, store_results=self.store_results)
        db.execute(_DELETE, (names,))
        changes.tell(effects)
        effects.sessions.update(names)


_REFRESH = """
UPDATE bots SET expires_at = greatest(expires_at, %s)
WHERE instance_name = %s AND name = %s AND bot_id = %s RETURNING expires_at
"""


def refresh(
    instance: str, name: str, bot_id: str, keepalive: timedelta
) -> Callable[[Statements, datetime, Effects], datetime]:
    """Extend a session without a report; returns until when. Raises InvalidArgument for an unknown one."""

    def transaction(db: Statements, now: datetime, effects: Effects) -> datetime:
        rows = db.rows(_REFRESH, (now + keepalive, instance, name, bot_id))
        if not rows:
            raise unknown_session(name, bot_id)
        expires: datetime = rows[0][0]
        return expires

    return transaction
