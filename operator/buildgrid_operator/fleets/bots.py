"""Bots: pods, each with the session and the mark that the scheduler tells of."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from enum import Enum

from buildgrid_operator.cluster.fleet_state import FleetState, Mark, Session
from buildgrid_operator.fleets.views import BotView, Phase, PodView
from buildgrid_operator.planner.farm import BotState

SETTLE_AFTER = timedelta(seconds=10)
"""A mark without a pod is left alone for so long: its pod may be one that the watch does not show yet."""
_OK = "OK"
"""The status (RWAPI) of a bot that takes leases."""


class Situation(Enum):
    """What a bot is doing, in more detail than the planner needs."""

    BLOCKED = "blocked"
    """no node takes the pod, or its containers do not start"""
    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    LOST = "lost"
    """had a session and has none: nobody knows what it runs"""
    SICK = "sick"
    """has a session, no lease, and says that it takes none"""
    DRAINING = "draining"
    GONE = "gone"
    """has ended, or is ending"""


_TOLD = {
    Situation.BLOCKED: BotState.BLOCKED,
    Situation.STARTING: BotState.STARTING,
    Situation.IDLE: BotState.IDLE,
    Situation.BUSY: BotState.BUSY,
    Situation.LOST: BotState.BUSY,
    Situation.SICK: BotState.BUSY,
    Situation.DRAINING: BotState.DRAINING,
}

Moments = Mapping[str, tuple[Situation, datetime]]
"""Since when each bot is in its situation, by its pod's UID: what is remembered between looks."""


def mark_owner(cluster_uid: str, fleet_uid: str) -> str:
    """Whose marks those of a fleet are: `CLUSTER-UID/FLEET-UID`."""
    return f"{cluster_uid}/{fleet_uid}"


def bot_views(
    pods: Iterable[PodView],
    state: FleetState | None,
    *,
    fleet_uid: str,
    cluster_uid: str,
    instance: str,
    registered: Collection[str],
    since: Moments,
    now: datetime,
    fresh: bool = True,
) -> tuple[list[BotView], list[Mark]]:
    """The bots of a fleet by number, and this fleet's marks that have no pod and no session.

    `state` None: nobody knows. `fresh` False: it is an old one. `registered`: UIDs of pods that had a session
    when they were seen. `since`: of the look before (`moments_of`).
    """
    known = state or FleetState()
    owner = mark_owner(cluster_uid, fleet_uid)
    sessions = {
        each.bot_id: each
        for each in known.sessions
        if each.instance == instance and each.fleet_uid == fleet_uid and each.cluster_uid == cluster_uid
    }
    marks = {each.bot_id: each for each in known.marks if each.instance == instance}
    names = set()
    views = []
    for pod in sorted(pods, key=lambda each: each.number):
        names.add(pod.name)
        session, mark = sessions.get(pod.name), marks.get(pod.name)
        view = BotView(
            pod,
            session,
            mark,
            registered=session is not None or pod.uid in registered,
            own_mark=mark is not None and mark.owner == owner,
        )
        views.append(_with_since(view, since, now, known=fresh and state is not None))
    told_at = known.time or now
    orphaned = [
        mark
        for name, mark in sorted(marks.items())
        if mark.owner == owner
        and name not in names
        and not mark.connected
        and told_at - mark.since >= SETTLE_AFTER
    ]
    return views, orphaned


def situation_of(view: BotView) -> Situation:
    """What a bot is doing."""
    pod, session = view.pod, view.session
    if pod.ending or pod.phase is Phase.ENDED:
        return Situation.GONE
    if view.mark is not None:
        return Situation.DRAINING
    if session is not None:
        if session.leases:
            return Situation.BUSY
        return Situation.IDLE if takes_leases(view) else Situation.SICK
    if view.registered:
        return Situation.LOST
    blocked = pod.phase is Phase.UNSCHEDULABLE or pod.trouble is not None
    return Situation.BLOCKED if blocked else Situation.STARTING


def bot_state(view: BotView) -> BotState | None:
    """What the planner is told of it; None: it has ended, or is ending."""
    return _TOLD.get(situation_of(view))


def takes_leases(view: BotView) -> bool:
    """Whether it says that it does."""
    return view.session is not None and view.session.status == _OK


def leases_of(view: BotView) -> int:
    """That it has, as far as is known."""
    return max(
        view.session.leases if view.session is not None else 0,
        view.mark.leases if view.mark is not None else 0,
    )


def moments_of(views: Iterable[BotView]) -> Moments:
    """What to remember for the next look."""
    return {view.pod.uid: (situation_of(view), view.since or view.pod.created) for view in views}


def external_sessions(
    state: FleetState | None, known: Collection[str], *, cluster_uid: str
) -> tuple[Session, ...]:
    """Those of no BotFleet of this cluster. `known`: UIDs of the Scheduler's BotFleets. Never touched."""
    if state is None:
        return ()
    return tuple(
        each
        for each in state.sessions
        if each.cluster_uid != cluster_uid or not each.fleet_uid or each.fleet_uid not in known
    )


def stray_marks(
    state: FleetState | None, known: Collection[str], *, cluster_uid: str, now: datetime
) -> tuple[Mark, ...]:
    """Marks of this cluster's BotFleets that are gone, as their bots are. `known`: UIDs of those there."""
    if state is None:
        return ()
    told_at = state.time or now
    own = f"{cluster_uid}/"
    others = {each.bot_id for each in state.sessions if each.fleet_uid in known}
    return tuple(
        mark
        for mark in state.marks
        if mark.owner.startswith(own)
        and mark.owner.removeprefix(own) not in known
        and (not mark.connected or mark.bot_id in others)
        and told_at - mark.since >= SETTLE_AFTER
    )


def _with_since(view: BotView, since: Moments, now: datetime, *, known: bool) -> BotView:
    situation = situation_of(view)
    return BotView(
        view.pod,
        view.session,
        view.mark,
        view.registered,
        view.own_mark,
        _since(view, situation, since.get(view.pod.uid), now, known=known),
    )


def _since(
    view: BotView,
    situation: Situation,
    before: tuple[Situation, datetime] | None,
    now: datetime,
    *,
    known: bool,
) -> datetime:
    """By what the scheduler says, else by what was seen.

    Who is seen first is so since now: after a restart of the operator nobody has been waiting for long.
    """
    session = view.session
    if view.mark is not None:
        return view.mark.since
    if situation is Situation.BUSY and session is not None and session.busy_since is not None:
        return session.busy_since
    if situation is Situation.IDLE and session is not None and not session.lease_count:
        return session.connected
    # While nobody knows who has a session, nobody is late for one.
    if not known and situation in (Situation.STARTING, Situation.LOST):
        return now
    if before is None or before[0] is not situation:
        return now
    return before[1]
