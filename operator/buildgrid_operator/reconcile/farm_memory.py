"""What is remembered of fleets between passes. What a restart forgets only makes it slower to let go."""

from dataclasses import dataclass, field
from datetime import datetime

from buildgrid_operator.api.status import Decision
from buildgrid_operator.fleets.starting import StartMemory
from buildgrid_operator.planner.farm import History


@dataclass(frozen=True, slots=True)
class Refused:
    """A pod that the API server did not take in a dry run."""

    template_hash: str
    words: str
    again_at: datetime
    """when it is tried again"""


@dataclass(slots=True)
class FleetMemory:
    """Of one BotFleet, by its UID."""

    starts: StartMemory = field(default_factory=StartMemory)
    """who was seen with a session, how long starts took, and which failed"""
    next_number: int = 1
    """above all that were used, as far as is known"""
    ended: frozenset[str] = frozenset()
    """UIDs of pods that we deleted and the watch still shows"""
    checked: str = ""
    """hash of the template that the API server has taken, at least in a dry run"""
    refusal: Refused | None = None
    decision: Decision | None = None
    """the latest one that changed the number of bots, until it is in the status"""


@dataclass(slots=True)
class FarmMemory:
    """Of all BotFleets of a Scheduler."""

    history: History = field(default_factory=History)
    fleets: dict[str, FleetMemory] = field(default_factory=dict)

    def of(self, uid: str) -> FleetMemory:
        """Of one of them."""
        return self.fleets.setdefault(uid, FleetMemory())

    def keep(self, uids: set[str]) -> list[str]:
        """Forget all others. Returns which."""
        gone = [uid for uid in self.fleets if uid not in uids]
        for uid in gone:
            del self.fleets[uid]
        return gone
