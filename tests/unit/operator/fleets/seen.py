"""What is seen of fleets, for the tests of how it is read: pods, sessions and marks, in few words."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from buildgrid_operator.api.bot_fleet import BotFleet
from buildgrid_operator.cluster.fleet_state import FleetState, Mark, Requirement, Session
from buildgrid_operator.fleets.bots import Moments, bot_views, mark_owner
from buildgrid_operator.fleets.pods import pod_view
from buildgrid_operator.fleets.views import BotView, FleetView, PodView
from buildgrid_operator.planner.plan import FleetPlan
from buildgrid_scheduler.core.requirements import requirement_hash

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CLUSTER, FLEET, INSTANCE = "cluster-1", "fleet-1", "main"
OURS = mark_owner(CLUSTER, FLEET)
NEW, OLD = "new", "old"
"""hashes of templates"""
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient cpu.",
}


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def ago(count: float) -> datetime:
    """So many seconds before noon."""
    return NOON - seconds(count)


def bot_fleet(name: str = "linux", namespace: str = "farm", **spec: Any) -> BotFleet:
    whole = {"schedulerRef": {"name": "main"}, **spec}
    metadata = {"name": name, "namespace": namespace, "uid": FLEET}
    return BotFleet.parse({"metadata": metadata, "spec": whole})


def manifest(
    number: int = 1,
    *,
    name: str = "",
    phase: str = "Running",
    template: str = NEW,
    created: datetime = NOON,
    node: str | None = "node-1",
    conditions: Iterable[Mapping[str, Any]] = (),
    container: Mapping[str, Any] | None = None,
    init: Mapping[str, Any] | None = None,
    ending: bool = False,
    protected: bool = True,
    **status: Any,
) -> dict[str, Any]:
    """A bot pod as the API server has it. `container`, `init`: states of its containers."""
    state = {"running": {}} if container is None and phase == "Running" else container
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp(created)}
    found = [*conditions]
    if node is not None and not any(each["type"] == "PodScheduled" for each in found):
        found.append(placed)
    kept = {"buildgrid.build/protected": "true"} if protected else {}
    ended = {"deletionTimestamp": stamp(NOON)} if ending else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name or f"linux-{number}",
            "namespace": "farm",
            "uid": f"uid-{number}",
            "labels": {"buildgrid.build/bot-number": str(number), **kept},
            "annotations": {"buildgrid.build/template-hash": template},
            "creationTimestamp": stamp(created),
            **ended,
        },
        "spec": {} if node is None else {"nodeName": node},
        "status": {
            "phase": phase,
            "conditions": found,
            "initContainerStatuses": [] if init is None else [_container("install", init)],
            "containerStatuses": [] if state is None else [_container("bot", state)],
            **status,
        },
    }


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def seen_pod(number: int = 1, *, deleted: bool = False, **told: Any) -> PodView:
    obj = manifest(number, **told)
    found = pod_view(obj, ended_uids=[obj["metadata"]["uid"]] if deleted else [])
    assert found is not None
    return found


def session(
    number: int = 1,
    leases: int = 0,
    *,
    fleet: str = FLEET,
    cluster: str = CLUSTER,
    instance: str = INSTANCE,
    status: str = "OK",
    connected: datetime = NOON,
    count: int = 0,
) -> Session:
    busy_since = connected if leases else None
    return Session(
        instance,
        f"linux-{number}",
        status,
        1,
        leases,
        connected,
        busy_since,
        "",
        fleet,
        cluster,
        max(count, leases),
    )


def mark(
    number: int = 1,
    *,
    owner: str = OURS,
    since: datetime = NOON,
    leases: int = 0,
    connected: bool = False,
    disrupted: bool = False,
    instance: str = INSTANCE,
) -> Mark:
    return Mark(instance, f"linux-{number}", since, owner, disrupted, connected, leases)


def requirement(
    queued: int = 1,
    *,
    instance: str = INSTANCE,
    executing: int = 0,
    avoidances: Mapping[str, int] | None = None,
    **properties: str,
) -> Requirement:
    values = {key: (value,) for key, value in properties.items()}
    hashed = requirement_hash({key: list(those) for key, those in values.items()})
    return Requirement(
        instance,
        hashed,
        values,
        queued,
        executing,
        duration=seconds(60),
        avoidances=avoidances or {},
    )


def look(
    *parts: PodView | Session | Mark,
    registered: Iterable[str] = (),
    since: Moments | None = None,
    now: datetime = NOON,
    known: bool = True,
    fresh: bool = True,
) -> tuple[list[BotView], list[Mark]]:
    """Pods, with the sessions and marks that are told of. `known` False: nobody tells of any."""
    state = FleetState(
        sessions=tuple(part for part in parts if isinstance(part, Session)),
        marks=tuple(part for part in parts if isinstance(part, Mark)),
        time=now,
    )
    return bot_views(
        [part for part in parts if isinstance(part, PodView)],
        state if known else None,
        fleet_uid=FLEET,
        cluster_uid=CLUSTER,
        instance=INSTANCE,
        registered=frozenset(registered),
        since=since or {},
        now=now,
        fresh=fresh,
    )


def fleet_view(
    *parts: PodView | Session | Mark,
    fleet: BotFleet | None = None,
    unavailable: Iterable[str] = (),
    registered: Iterable[str] = (),
    since: Moments | None = None,
    now: datetime = NOON,
) -> FleetView:
    bots, orphaned = look(*parts, registered=registered, since=since, now=now)
    return FleetView(fleet or bot_fleet(), NEW, bots, orphaned, frozenset(unavailable), instance=INSTANCE)


def wish(**told: Any) -> FleetPlan:
    """A plan that asks for this."""
    return FleetPlan(0, 0, "because", **told)


def _container(name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "image": f"registry/{name}:1", "state": dict(state)}
