"""Who may conclude from silence that nobody is there."""

from datetime import datetime, timedelta


class Vigil:
    """Since when this replica has looked at the database regularly.

    That an operation was not seen to be followed for long means nothing when nobody could note it: while the
    database was away, or all replicas were. So a replica draws conclusions about a span of time only after
    it has watched for all of it.
    """

    def __init__(self, longest_gap: timedelta) -> None:
        """A longer time between two looks is an interruption."""
        self._longest_gap = longest_gap
        self._since: datetime | None = None
        self._latest: datetime | None = None

    def looked(self, now: datetime) -> None:
        """The database could be written to."""
        if self._since is None or self._latest is None or now - self._latest > self._longest_gap:
            self._since = now
        self._latest = now

    def covers(self, span: timedelta, now: datetime) -> bool:
        """Whether it has lasted for `span` now."""
        return self._since is not None and now - self._since >= span
