"""What is seen of a fleet: its pods, each with what the scheduler tells of its bot."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from buildgrid_operator.api.bot_fleet import BotFleet
from buildgrid_operator.cluster.fleet_state import Mark, Session


class Phase(Enum):
    """How far a pod is."""

    UNSCHEDULABLE = "unschedulable"
    """no node takes it"""
    PENDING = "pending"
    """not scheduled yet, or its containers do not run yet"""
    RUNNING = "running"
    ENDED = "ended"
    """Succeeded or Failed: nothing runs in it, and nothing will"""


class StartTrouble(Enum):
    """Why a pod does not come up, though it has a node. The value is the condition's reason."""

    IMAGE_PULL = "ImagePullFailed"
    CONTAINER = "ContainerCannotStart"
    """CreateContainerConfigError, CreateContainerError, RunContainerError, and a volume that is not there"""
    CRASH = "BotCrashed"
    NEVER_REGISTERED = "BotNeverRegistered"
    REFUSED = "PodRefused"
    """the API server does not take the pod: quota, admission, permission"""


@dataclass(frozen=True, slots=True)
class PodView:
    """A bot pod."""

    name: str
    uid: str
    number: int
    template_hash: str
    phase: Phase
    created: datetime
    scheduled: datetime | None
    """since when it has a node"""
    node: str | None
    ending: bool
    """it has a deletion timestamp, or we have deleted it"""
    trouble: StartTrouble | None = None
    """as its containers tell"""
    words: str = ""
    """of the kubelet or the kube-scheduler, about the phase or the trouble"""
    disrupted: bool = False
    """somebody else ends it: eviction, preemption, a taint, a node that shuts down (DisruptionTarget)"""
    deleted: bool = False
    """we have deleted it"""
    protected: bool = True
    """the fleet's PodDisruptionBudget keeps it from eviction"""


@dataclass(frozen=True, slots=True)
class BotView:
    """A pod, and the bot in it."""

    pod: PodView
    session: Session | None = None
    mark: Mark | None = None
    registered: bool = False
    """it has, or had, a session"""
    own_mark: bool = False
    """the mark is this fleet's"""
    since: datetime | None = None
    """in its present state (starting, idle, busy, draining); None: since the pod was made"""


@dataclass(frozen=True, slots=True)
class FleetView:
    """A fleet as it is seen."""

    fleet: BotFleet
    template_hash: str
    """of the pod that would be made now"""
    bots: Sequence[BotView] = ()
    """those that end included"""
    orphaned_marks: Sequence[Mark] = ()
    """this fleet's, without a pod"""
    unavailable_nodes: frozenset[str] = frozenset()
    """cordoned, or about to be taken away"""
    instance: str = field(kw_only=True)
    """of the scheduler, for which its bots work"""
    gone: bool = False
    """there is no such fleet any more"""

    @property
    def key(self) -> str:
        """NAMESPACE/NAME: what the planner knows it by."""
        return f"{self.fleet.metadata.namespace}/{self.fleet.metadata.name}"
