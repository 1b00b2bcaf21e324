"""A small cluster with a scheduler: the truth, of which an operator sees pictures that may be old."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

from buildgrid_operator.api.bot_fleet import BotFleet
from buildgrid_operator.cluster.fleet_state import FleetState, Mark, Session

from tests.unit.operator.fleets.seen import CLUSTER, FLEET, INSTANCE, NOON, OURS, manifest, seconds

PERSON = ""
STALE = 3
"""pictures of the truth that the operator may be behind"""


@dataclass
class Pod:
    number: int
    template: str
    node: str
    created: datetime
    uid: str
    phase: str = "Running"
    ending: bool = False
    by_operator: bool = False
    """the operator's delete has arrived"""
    protected: bool = True

    @property
    def name(self) -> str:
        return f"linux-{self.number}"

    def manifest(self) -> dict[str, Any]:
        found = manifest(
            self.number,
            phase=self.phase,
            template=self.template,
            created=self.created,
            node=self.node,
            ending=self.ending,
            protected=self.protected,
        )
        found["metadata"]["uid"] = self.uid
        return found


@dataclass
class World:
    """What is true."""

    random: Random
    fleet: BotFleet
    now: datetime = NOON
    template: str = "new"
    pods: dict[str, Pod] = field(default_factory=dict)
    leases: dict[str, int] = field(default_factory=dict)
    """of bots that have a session"""
    connected: dict[str, datetime] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)
    cordoned: set[str] = field(default_factory=set)
    uids: int = 0
    pictures: list[tuple[FleetState, list[dict[str, Any]]]] = field(default_factory=list)
    faults: bool = True
    killed: list[str] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)

    def happen(self) -> None:
        """Something that no operator does."""
        self.now += seconds(self.random.randint(1, 20))
        self.random.choice(
            (
                self.register,
                self.register,
                self.assign,
                self.assign,
                self.assign,
                self.finish,
                self.finish,
                self.lose_session,
                self.end_pod,
                self.delete_pod,
                self.cordon,
                self.mark_by_person,
                self.unmark_by_person,
                self.new_template,
                self.reap,
            )
        )()
        self.picture()

    def picture(self) -> None:
        sessions = tuple(
            Session(
                INSTANCE, name, "OK", 1, count, self.connected[name], fleet_uid=FLEET, cluster_uid=CLUSTER
            )
            for name, count in self.leases.items()
        )
        marks = tuple(
            Mark(
                INSTANCE,
                name,
                each.since,
                each.owner,
                each.disrupted,
                name in self.leases,
                self.leases.get(name, 0),
            )
            for name, each in self.marks.items()
        )
        state = FleetState(sessions=sessions, marks=marks, time=self.now)
        self.pictures = [
            *self.pictures[-STALE:],
            (state, [pod.manifest() for pod in self.pods.values()]),
        ]

    def register(self) -> None:
        """A bot opens a session, if its pod runs."""
        free = [
            pod.name
            for pod in self.pods.values()
            if pod.phase == "Running" and not pod.ending and pod.name not in self.leases
        ]
        if free:
            name = self.random.choice(free)
            self.leases[name] = 0
            self.connected[name] = self.now

    def assign(self) -> None:
        """The scheduler gives a lease to a bot that may have one."""
        free = [
            name
            for name, count in self.leases.items()
            if not count and name not in self.marks and name in self.pods and not self.pods[name].ending
        ]
        if free:
            self.leases[self.random.choice(free)] = 1

    def finish(self) -> None:
        busy = [name for name, count in self.leases.items() if count]
        if busy:
            self.leases[self.random.choice(busy)] = 0

    def lose_session(self) -> None:
        """The scheduler gives a bot up, and what it had to others."""
        if self.leases:
            self._close(self.random.choice(list(self.leases)))

    def end_pod(self) -> None:
        if self.pods:
            self.random.choice(list(self.pods.values())).phase = self.random.choice(("Succeeded", "Failed"))

    def delete_pod(self) -> None:
        """By a person, or by an eviction."""
        if self.pods:
            self.random.choice(list(self.pods.values())).ending = True

    def cordon(self) -> None:
        self.cordoned ^= {self.random.choice(("a", "b", "c"))}

    def mark_by_person(self) -> None:
        if self.pods and self.random.random() < 0.3:
            name = self.random.choice(list(self.pods))
            self.marks.setdefault(name, Mark(INSTANCE, name, self.now, PERSON))

    def unmark_by_person(self) -> None:
        for name in [name for name, each in self.marks.items() if each.owner == PERSON][:1]:
            del self.marks[name]

    def new_template(self) -> None:
        if self.random.random() < 0.2:
            self.template += "'"

    def reap(self) -> None:
        """What is ending and has nothing to do is gone, and so are sessions of what is gone."""
        for pod in list(self.pods.values()):
            if pod.ending and (pod.phase != "Running" or not self.leases.get(pod.name)):
                del self.pods[pod.name]
        for name in list(self.leases):
            if name not in self.pods or self.pods[name].phase != "Running":
                self._close(name)

    def drain_if_idle(self, names: Sequence[str]) -> tuple[str, ...]:
        idle = tuple(name for name in names if not self.leases.get(name))
        for name in idle:
            self._mark(name, disrupted=False)
        return idle

    def drain_when_idle(self, names: Sequence[str], *, disrupted: bool) -> None:
        for name in names:
            self._mark(name, disrupted=disrupted)

    def undrain(self, names: Sequence[str], *, busy_only: bool) -> None:
        for name in names:
            if busy_only and not self.leases.get(name):
                continue
            if name in self.pods and self.pods[name].by_operator:
                self.wrongs.append(f"the mark of {name} was taken away after its delete")
            if name in self.marks and self.marks[name].owner == OURS:
                del self.marks[name]

    def delete(self, name: str, uid: str) -> bool:
        """Whether there is such a pod."""
        pod = self.pods.get(name)
        if pod is None or pod.uid != uid:
            return False
        if pod.phase == "Running":
            if self.leases.get(pod.name):
                self.killed.append(pod.name)
            if pod.name not in self.marks:
                self.wrongs.append(f"{pod.name} was deleted without a mark")
        pod.ending = pod.by_operator = True
        return True

    def protect(self, name: str, uid: str, *, protected: bool) -> dict[str, Any] | None:
        """None: there is no such pod."""
        pod = self.pods.get(name)
        if pod is None or pod.uid != uid:
            return None
        pod.protected = protected
        return pod.manifest()

    def create(self, number: int | None, template: str) -> dict[str, Any] | None:
        """None: it exists."""
        assert number is not None
        self.uids += 1
        pod = Pod(number, template, self.random.choice(("a", "b", "c")), self.now, f"uid-{self.uids}")
        if pod.name in self.pods:
            return None
        self.pods[pod.name] = pod
        return pod.manifest()

    def _mark(self, name: str, *, disrupted: bool) -> None:
        before = self.marks.get(name) or Mark(INSTANCE, name, self.now, OURS)
        told = before.disrupted or disrupted
        self.marks[name] = Mark(INSTANCE, name, before.since, before.owner, told)

    def _close(self, name: str) -> None:
        del self.leases[name]
        del self.connected[name]
