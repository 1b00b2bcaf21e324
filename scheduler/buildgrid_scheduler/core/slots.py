"""How much more a session may be given. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.lease_transition import Transition

MOST_NEW_LEASES = 56
"""in one answer: each may carry an Action of 64 KiB, and bots take messages of 4 MiB. The rest comes with the
next call, which is answered at once."""


@dataclass(frozen=True, slots=True)
class Slots:
    """What a session can take now, after its report."""

    free: int
    """for so many jobs it may be handed"""
    held: bool
    """whether its call may be held: the bot is well and knows of a slot that it has no lease for; with
    `hold_full` it is enough that it has a lease"""
    empty: bool
    """whether nothing runs there: a suspect that it is given runs at once, and alone"""


def slots_of(
    leases: Mapping[str, Transition],
    *,
    capacity: int,
    status: BotStatus,
    drained: bool,
    suspects: Collection[str],
    hold_full: bool = False,
) -> Slots:
    """The slots of a session whose leases go through these transitions.

    Only a bot in status OK that is not drained gets work. `suspects`: those of the leases that must be alone;
    while one stays on a bot with several slots, it is given nothing else.
    """
    stay = [job for job, step in leases.items() if step.stays]
    taken = capacity > 1 and any(job in suspects for job in stay)
    unseen = sum(not leases[job].told for job in stay)
    well = status is BotStatus.OK
    sent = sum(leases[job] is Transition.SEND for job in stay)
    known = len(stay) - unseen
    room = max(0, min(capacity - len(stay), MOST_NEW_LEASES - sent))
    return Slots(
        free=room if well and not drained and not taken else 0,
        held=(well and known < capacity) or (hold_full and known > 0),
        empty=not stay or capacity == 1,
    )
