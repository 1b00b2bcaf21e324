"""What a load run is asked for, and when its window lies: what travels to the load processes."""

from dataclasses import dataclass, field
from uuid import uuid4

ACTIONS_PER_SECOND = 1200
"""How many actions are uploaded ahead for each second of a run, unless told."""


@dataclass(frozen=True)
class LoadOptions:
    """One run of the load generator. Times in seconds."""

    endpoint: str
    instance: str
    clients: int = 20
    bots: int = 20
    seconds: float = 15
    warmup: float = 3
    actions: int = 0
    """Uploaded before the run (more when it needs them); 0: as many as a fast server may need."""
    one_step: bool = False
    """Bots report PENDING -> COMPLETED at once instead of ACTIVE first."""
    slots: int = 1
    """Leases that a bot holds at once; announced as `capacity` above 1."""
    backlog: int = 0
    """Less urgent jobs that are queued before the bots come."""
    channels: int = 4
    """Connections of each of the two load processes."""
    run: str = field(default_factory=lambda: uuid4().hex[:12])
    """Makes actions and bots of this run distinct from all others."""

    @property
    def pool_size(self) -> int:
        return self.backlog + (self.actions or int(ACTIONS_PER_SECOND * (self.warmup + self.seconds)))


@dataclass(frozen=True)
class Window:
    """What is measured, in seconds of the monotonic clock, which all processes of a machine share."""

    start: float
    end: float

    def holds(self, moment: float) -> bool:
        return self.start <= moment < self.end
