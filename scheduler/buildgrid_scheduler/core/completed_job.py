"""A job whose end is committed, as those see it who only take note."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class CompletedJob:
    """A job came to its end: by a bot, by a timer, or since its last attempt was lost or nobody wants it.

    Not those that were born complete, as hits in the action cache are: nothing was executed for them.
    """

    name: str
    instance: str
    action_digest: str
    """HASH/SIZE"""
    property_label: str
    response: bytes
    """a serialized ExecuteResponse"""
    status_code: int
    """google.rpc code of the response"""
    completed_at: datetime
    """aware UTC; as in the database, to the microsecond"""
    cancelled: bool = False
    """no operation wanted it any more"""
    cache_entry: bytes | None = None
    """a serialized ActionResult for the action cache"""
