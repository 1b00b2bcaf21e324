"""What the load processes count, in a form that travels to the process that reports."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class ClientTally:
    """Of all clients. Latencies in milliseconds, of the jobs that were done within the window."""

    done_ms: list[float] = field(default_factory=list)
    first_update_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    """Failed jobs by what was wrong, in the whole run."""
    retries: int = 0
    unfinished: int = 0
    """Jobs still not done when the time after the window was over."""
    late_uploads: int = 0


@dataclass
class BotTally:
    """Of all bots, in the whole run."""

    leased_at: list[float] = field(default_factory=list)
    """When each lease came, in seconds of the monotonic clock."""
    twice: int = 0
    """Leases that were handed out although they, or another lease of the same action, had been before."""
    errors: Counter[str] = field(default_factory=Counter)
    retries: int = 0


@dataclass(frozen=True)
class Ready:
    """A load process is connected and prepared."""


@dataclass(frozen=True)
class Failed:
    """A load process gave up."""

    reason: str
