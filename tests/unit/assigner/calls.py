"""Held calls and arrivals, as short as tests want them."""

from dataclasses import dataclass

from buildgrid_scheduler.assigner.waiting import Arrival
from buildgrid_scheduler.core.requirements import Offer


def pairs(words: str) -> Offer:
    """Each word is a property."""
    return frozenset((word, "") for word in words.split())


@dataclass(eq=False)
class Call:
    """A bot's call."""

    session_name: str
    wakes_for: Offer | None = frozenset()
    instance: str = ""
    hold: bool = True
    capacity_class: str = ""


def arrival(needs: str = "", instance: str = "") -> Arrival:
    """A job that needs these properties; its hash is what it needs."""
    return Arrival(instance, needs, pairs(needs))
