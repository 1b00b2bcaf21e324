"""The part of a batch that hands waiting jobs to bots with free slots.

Bots of an instance that may take the same hashes, and are of the same capacity class, ask in one statement.
In the ordinary case all of that travels with the rest of the batch. Where suspects are known to wait, bots
with several slots ask twice: for one job first, and only if that is no suspect for more. A suspect that falls
to a bot that still runs something else is its next: it is told of it when the rest is done, and is given
nothing else until then. So suspects get their turn on a farm that is never idle, too.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import psycopg

from buildgrid_scheduler.assigner.waiting import WaitingBots
from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.core.suspects import is_suspect
from buildgrid_scheduler.engine.items import Effects, Tell
from buildgrid_scheduler.engine.synchronizing import SessionOutcome, kind_of_bot
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import Row, Statements

HashKey = tuple[str, str]
"""(instance, requirement hash)"""
Kind = tuple[str, str, str, frozenset[str]]
"""(instance, capacity class, avoided bot, requirement hashes): bots that ask for the same"""


@dataclass(slots=True)
class Claim:
    """One ask for work: bots of one kind, over the hashes that they may take."""

    instance: str
    kind: str
    """of the bots: see SessionOutcome.kind"""
    marks: dict[str, int]
    """by requirement hash: see WaitingBots.settle"""
    slots: list[SessionOutcome] = field(default_factory=list)
    """an entry for each free slot"""
    blind: bool = False
    """a job that it leaves out may wait: finding nothing does not mean that there is nothing"""
    first: bool = False
    """for one job each, by bots that may ask for more then"""
    cursor: psycopg.Cursor[Row] | None = None
    chosen: int = 0
    got: list[str] = field(default_factory=list)
    waits: list[tuple[str, timedelta]] = field(default_factory=list)
    """for each job that was got: its property label, and how long it has been queued"""
    avoided: list[str] = field(default_factory=list)
    """hashes of jobs that wait for bots of another class, where there was nothing else"""

    def settle(self, waiting: WaitingBots) -> bool:
        """It is committed: let the hints know; True if it is worth asking again."""
        return waiting.settle(
            self.instance,
            asked=self.chosen if self.blind else len(self.slots),
            chosen=self.chosen,
            got=self.got,
            marks=self.marks,
            capacity_class=self.kind,
            avoided=self.avoided,
        )


@dataclass(slots=True)
class Claims:
    """All claims of one batch."""

    now: datetime
    exclude: Sequence[str]
    """jobs that are not handed out now: not in the answer that reports their failure"""
    blind: bool
    priority_percentage: int
    effects: Effects
    made: list[Claim] = field(default_factory=list)
    _rest: dict[str, frozenset[str]] = field(default_factory=dict)
    """by session that asks for one job first: the hashes for its other slots"""
    _more: list[SessionOutcome] = field(default_factory=list)
    """those of them that were given a job beside which others may run"""
    _later: list[str] = field(default_factory=list)
    """suspects whose bots still run something else"""

    def send(
        self,
        db: Statements,
        waiting: WaitingBots,
        outcomes: Iterable[SessionOutcome],
        arriving: Mapping[HashKey, Offer],
    ) -> None:
        """Send the first claims. `arriving`: what jobs require that this batch enqueues."""
        groups: dict[Kind, list[SessionOutcome]] = {}
        ones: dict[Kind, list[SessionOutcome]] = {}
        for outcome in outcomes:
            offer = outcome.asks_for
            if offer is None:
                continue
            instance = outcome.item.instance
            hashes = frozenset(
                waiting.candidates(instance, offer)
                | {h for (i, h), requires in arriving.items() if i == instance and requires <= offer}
            )
            if not hashes:
                continue
            kind = (instance, outcome.capacity_class, outcome.avoided_bot, hashes)
            if outcome.capacity > 1 and any(map(is_suspect, hashes)):
                self._rest[outcome.item.session_name] = frozenset(h for h in hashes if not is_suspect(h))
                ones.setdefault(kind, []).append(outcome)
            else:
                groups.setdefault(kind, []).extend([outcome] * outcome.slots.free)
        for kind, slots in groups.items():
            self._send(db, waiting, kind, slots)
        for kind, slots in ones.items():
            # What comes first goes to a bot that runs nothing else: it may be a suspect.
            slots.sort(key=lambda outcome: not outcome.slots.empty)
            self._send(db, waiting, kind, slots).first = True

    def read(self, db: Statements, waiting: WaitingBots) -> None:
        """Read what was claimed, and let those ask again that asked for one job only."""
        for claim in self.made:
            self._read(claim)
        if self._later:
            db.execute(sql.TELL_LATER, (self._later,))
        groups: dict[Kind, list[SessionOutcome]] = {}
        for outcome in self._more:
            if rest := self._rest[outcome.item.session_name]:
                kind = (outcome.item.instance, outcome.capacity_class, outcome.avoided_bot, rest)
                groups.setdefault(kind, []).extend([outcome] * (outcome.slots.free - 1))
        for claim in [self._send(db, waiting, kind, slots) for kind, slots in groups.items() if slots]:
            self._read(claim)

    def _send(self, db: Statements, waiting: WaitingBots, kind: Kind, slots: list[SessionOutcome]) -> Claim:
        instance, capacity_class, avoided_bot, hashes = kind
        marks = waiting.heard(instance, hashes)
        of_bots = kind_of_bot(capacity_class, avoided_bot)
        claim = Claim(instance, of_bots, marks, slots, blind=self.blind)
        statement, values = claim_of(
            instance=instance,
            hashes=sorted(hashes),
            sessions=[outcome.item.session_name for outcome in slots],
            capacity_class=capacity_class,
            avoided_bot=avoided_bot,
            now=self.now,
            told_at=self.now,
            exclude=self.exclude,
            by_age=random.uniform(0, 100) >= self.priority_percentage,  # noqa: S311 - not a secret
        )
        claim.cursor = db.execute(statement, values)
        self.made.append(claim)
        return claim

    def _read(self, claim: Claim) -> None:
        if claim.cursor is None:
            return
        by_session = {outcome.item.session_name: outcome for outcome in claim.slots}
        for row in claim.cursor.fetchall():
            chosen, session, job, action, digest, hash_, avoided, label, queued_at = row
            claim.chosen, claim.avoided = chosen, avoided or []
            if session is None:
                continue
            claim.got.append(hash_)
            claim.waits.append((label, self.now - queued_at))
            outcome = by_session[session]
            outcome.given += 1
            if is_suspect(hash_) and outcome.capacity > 1:
                outcome.set_aside()
                if not outcome.slots.empty:
                    self._later.append(job)
                    continue
            elif claim.first:
                self._more.append(outcome)
            outcome.tells.append(Tell(job, LeaseState.PENDING, action))
            self.effects.states[job] = JobState(Stage.EXECUTING, digest)


def claim_of(
    *,
    instance: str,
    hashes: Sequence[str],
    sessions: Sequence[str],
    capacity_class: str,
    avoided_bot: str,
    now: datetime,
    told_at: datetime | None,
    exclude: Sequence[str] = (),
    by_age: bool,
) -> tuple[str, dict[str, object]]:
    """The statement, and its parameters, that leases waiting jobs to these sessions, one for each mention.

    `avoided_bot`: the bot_id that they are all of, where there may be jobs that avoid it; empty otherwise.
    `told_at`: when the bots are told of them; none: not yet.
    """
    values: dict[str, object] = {
        "hashes": list(hashes),
        "instance": instance,
        "exclude": list(exclude),
        "n": len(sessions),
        "told_at": told_at,
        "slots": list(sessions),
    }
    if avoided_bot:
        statement = sql.CLAIM_BY_AGE_FOR_BOT if by_age else sql.CLAIM_BY_PRIORITY_FOR_BOT
        return statement, {**values, "class": capacity_class, "bot": avoided_bot, "now": now}
    if not capacity_class:
        return (sql.CLAIM_BY_AGE if by_age else sql.CLAIM_BY_PRIORITY), values
    statement = sql.CLAIM_BY_AGE_FOR_CLASS if by_age else sql.CLAIM_BY_PRIORITY_FOR_CLASS
    return statement, {**values, "class": capacity_class, "now": now}
