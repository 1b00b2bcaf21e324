"""A job whose completion is committed, as those see it who only take note."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CompletedJob:
    """A bot brought the job to its end, for better or worse."""

    name: str
    instance: str
    action_digest: str
    """HASH/SIZE"""
    property_label: str
    response: bytes
    """a serialized ExecuteResponse"""
