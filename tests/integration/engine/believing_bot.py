"""What a bot believes that hears only what arrives."""

from dataclasses import dataclass, field

from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.engine.items import Report, Synchronized

from tests.integration.engine.replica import ACTIVE, CANCELLED, COMPLETED, PENDING


@dataclass
class Bot:
    """What a bot believes."""

    bot_id: str
    instance: str
    capacity: int
    offer: Offer
    capacity_class: str = ""
    session: str = ""
    leases: dict[str, Report] = field(default_factory=dict)
    last_message: dict[str, Report] = field(default_factory=dict)

    def hear(self, answer: Synchronized) -> None:
        """An answer arrives."""
        told = {tell.job_name: tell for tell in answer.leases}
        for job in list(self.leases):
            if self.leases[job].state in (COMPLETED, CANCELLED) or job not in told:
                del self.leases[job]
        for job, tell in told.items():
            if tell.state is CANCELLED:
                self.leases[job] = Report(CANCELLED)
            elif job not in self.leases:
                assert tell.state is PENDING
                assert tell.action is not None, "a bot can do nothing without the action"
                self.leases[job] = Report(PENDING)

    @property
    def running(self) -> list[str]:
        """The leases that it works on, or will."""
        return sorted(job for job, report in self.leases.items() if report.state in (PENDING, ACTIVE))

    def start_all(self) -> None:
        """It begins with all that it was handed."""
        for job in self.running:
            self.leases[job] = Report(ACTIVE)
