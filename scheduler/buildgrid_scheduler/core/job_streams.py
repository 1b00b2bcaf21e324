"""The log streams of a job (Remote Log Stream API)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JobStreams:
    """ByteStream resource names: clients read what the bot that runs the job writes."""

    stdout_read: str
    stdout_write: str
    stderr_read: str
    stderr_write: str
