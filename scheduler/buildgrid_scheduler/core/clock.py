"""Time: aware UTC, through a function that tests can replace."""

from collections.abc import Callable
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

Clock = Callable[[], datetime]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def to_timestamp(moment: datetime) -> Timestamp:
    """As a protobuf Timestamp."""
    since = moment - _EPOCH  # FromDatetime takes four times as long, and each answer to a bot has one
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def from_timestamp(stamp: Timestamp) -> datetime | None:
    """As aware UTC; None for the zero that stands for "not set", and for what is out of range."""
    if not stamp.seconds and not stamp.nanos:
        return None
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
