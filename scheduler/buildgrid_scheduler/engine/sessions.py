"""Transactions that open, close and reap bot sessions. Rare, so each is one of its own."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.core.takeovers import TAKEN_OVER
from buildgrid_scheduler.engine.draining import lock_bots
from buildgrid_scheduler.engine.items import Effects, EndedSession
from buildgrid_scheduler.engine.lease_ends import Holder, LeaseChanges, lock_leases
from buildgrid_scheduler.engine.synchronizing import unknown_session
from buildgrid_scheduler.engine.takeovers import Takeover, TakeoverWarnings, find_takeover
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import Statements

REAP_AT_ONCE = 10
"""Sessions that one reaping transaction closes: it stays short, and other replicas take the next."""

STOPPED_CALLING = "it stopped calling"
_LEFT = "it left"

_ROW = "SELECT name, bot_id, status, capacity, capacity_class, drained, connected_at, avoided_until FROM bots"
_LOCK_BY_BOT_ID = f"{_ROW} WHERE instance_name = %s AND bot_id = %s FOR UPDATE"
_LOCK_BY_NAME = f"{_ROW} WHERE instance_name = %s AND name = %s FOR UPDATE"
_LOCK_EXPIRED = f"{_ROW} WHERE expires_at < %s ORDER BY name LIMIT %s FOR UPDATE SKIP LOCKED"
_LOCK_UNLESS_CALLED = "SELECT bot_id FROM bots WHERE name = %s AND latest_call = %s FOR NO KEY UPDATE"
_DELETE = "DELETE FROM bots WHERE name = ANY(%s)"
# Under the lock of the bot: no mark is being made now.
_INSERT = """
INSERT INTO bots (name, instance_name, bot_id, status, capacity, offer, version, capacity_class,
                  connected_at, expires_at, opened_from, fleet_uid, cluster_uid, avoided_until, drained)
SELECT t.*, EXISTS (SELECT 1 FROM drains d WHERE d.instance_name = t.instance AND d.bot_id = t.bot)
FROM (VALUES (%s::text, %s::text, %s::text, %s::int2, %s::int4, %s::jsonb, %s::text, %s::text,
              %s::timestamptz, %s::timestamptz, %s::text, %s::text, %s::text, %s::timestamptz))
  AS t(name, instance, bot, status, capacity, offer, version, class, connected, expires, opened_from, fleet,
       cluster, avoided)
ON CONFLICT (instance_name, bot_id) DO NOTHING RETURNING name
"""


@dataclass(frozen=True, slots=True)
class _Session:
    """A row of `bots`, locked."""

    name: str
    bot_id: str
    status: int
    capacity: int
    capacity_class: str
    drained: bool
    connected_at: datetime
    avoided_until: datetime | None

    def holder(self, disrupted: bool) -> Holder:
        """As leases are lost by it."""
        status = BotStatus(self.status)
        return Holder(self.bot_id, status, self.capacity, self.capacity_class, disrupted)


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
    capacity_class: str = ""
    opened_from: str = ""
    """the network address of whoever asks; empty if not known"""
    fleet_uid: str = ""
    """which fleet of bots it belongs to; empty for none"""
    cluster_uid: str = ""
    """which cluster it runs in; empty for none"""


@dataclass(frozen=True, slots=True)
class SessionTransactions:
    """Bound to the settings; each method returns a transaction for `Call`."""

    policy: CompletionPolicy
    keepalive: timedelta
    store_results: bool
    warnings: TakeoverWarnings = field(default_factory=TakeoverWarnings)

    def open(self, session: NewSession) -> Callable[[Statements, datetime, Effects], datetime]:
        """Close the bot's old session, insert the new one; returns when it expires.

        It is born drained where there is a mark on the bot. Raises Unavailable when the bot has opened
        another one since this was asked.
        """
        asked_at: datetime | None = None

        def transaction(db: Statements, now: datetime, effects: Effects) -> datetime:
            nonlocal asked_at
            again, asked_at = asked_at is not None, asked_at or now
            expires = now + self.keepalive
            lock_bots(db, session.instance, [session.bot_id])
            while True:  # an old replica does not take that lock
                old = self._sessions(db, _LOCK_BY_BOT_ID, (session.instance, session.bot_id))
                if any(row.name == session.name for row in old):
                    return expires  # run again after a commit that we did not hear of
                if again and any(row.connected_at > asked_at for row in old):
                    raise Unavailable(f"bot {session.bot_id} has opened another session meanwhile; use that")
                self._close(db, old, now, effects, TAKEN_OVER, taken_over=True)
                offer = json.dumps(sorted(session.offer))
                values = (session.name, session.instance, session.bot_id, int(session.status))
                more = (session.capacity, offer, session.version, session.capacity_class, now, expires)
                origin = (session.opened_from, session.fleet_uid, session.cluster_uid)
                avoided = max((row.avoided_until for row in old if row.avoided_until), default=None)
                if db.rows(_INSERT, (*values, *more, *origin, avoided)):
                    effects.fleet = True
                    return expires

        return transaction

    def close(self, instance: str, name: str, reason: str) -> Callable[[Statements, datetime, Effects], bool]:
        """Delete a session and let its jobs wait again; False if there is no such session."""

        def transaction(db: Statements, now: datetime, effects: Effects) -> bool:
            found = self._sessions(db, _LOCK_BY_NAME, (instance, name))
            self._close(db, found, now, effects, reason)
            return bool(found)

        return transaction

    def reap(self) -> Callable[[Statements, datetime, Effects], int]:
        """Close a handful of the expired sessions of all instances; returns how many."""

        def transaction(db: Statements, now: datetime, effects: Effects) -> int:
            expired = self._sessions(db, _LOCK_EXPIRED, (now, REAP_AT_ONCE))
            self._close(db, expired, now, effects, STOPPED_CALLING)
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
            found = db.rows(_LOCK_UNLESS_CALLED, (session_name, call_id))
            if not found:
                return
            changes = LeaseChanges(now, self.policy)
            for lease in lock_leases(db, [session_name]):
                if lease.job_name in jobs and lease.started_at is None:
                    changes.hand_back(lease, found[0][0])
            changes.write(db, store_results=self.store_results)
            changes.tell(effects)

        return transaction

    def find_takeover(
        self, instance: str, session_name: str, bot_id: str, jobs: Collection[str]
    ) -> Callable[[Statements, datetime, Effects], Takeover | None]:
        """See engine.takeovers."""
        return find_takeover(instance, session_name, bot_id, jobs, self.policy.limits)

    @staticmethod
    def _sessions(db: Statements, statement: str, values: Sequence[object]) -> list[_Session]:
        return [_Session(*row) for row in db.rows(statement, values)]

    def _close(
        self,
        db: Statements,
        rows: Sequence[_Session],
        now: datetime,
        effects: Effects,
        reason: str,
        *,
        taken_over: bool = False,
    ) -> None:
        if not rows:
            return
        names = [row.name for row in rows]
        leases = lock_leases(db, names)
        disrupted: set[str] = set()
        if leases and (drained := [row.name for row in rows if row.drained]):
            disrupted = {name for (name,) in db.rows(sql.DISRUPTED_SESSIONS, (drained,))}
        bots = {row.name: row.holder(row.name in disrupted) for row in rows}
        changes = LeaseChanges(now, self.policy)
        for lease in leases:
            holder = bots[lease.session_name]
            changes.lose(
                lease,
                holder,
                reason=f"bot {holder.bot_id} vanished: {reason}",
                vanished=True,
                taken_over=taken_over,
            )
        changes.write(db, store_results=self.store_results)
        db.execute(_DELETE, (names,))
        changes.tell(effects)
        effects.sessions.update(names)
        busy = {lease.session_name for lease in leases}
        for row in rows:
            left = reason == STOPPED_CALLING and BotStatus(row.status).announces_end and row.name not in busy
            effects.ended_sessions.append(EndedSession(row.name, row.bot_id, _LEFT if left else reason))


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
