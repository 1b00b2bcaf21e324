"""Rows that many jobs share, and that this replica knows to be in the database: written once, not per job."""

import json
import time
from collections.abc import Callable, Mapping, Sequence

from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.core.suspects import is_suspect, plain_hash, with_alone
from buildgrid_scheduler.engine.items import Enqueue
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import Statements

_MAX_KNOWN = 100_000  # entries of either kind; past that the memory is forgotten, not the rows
REMEMBERED_FOR = 3600.0
"""Seconds for which request metadata is not written again. Each write marks the row as in use, and pruning
spares what was marked within three times as long."""


class KnownRows:
    """Requirement sets and request metadata. Used by the writer's thread; `requires` by any."""

    def __init__(self, requires: Callable[[Mapping[str, list[str]]], Offer]) -> None:
        """`requires`: what requirements ask of a bot's offer (`properties.Matching.requires`)."""
        self.requires_of = requires
        self._requires: dict[str, Offer] = {}
        self._metadata: dict[str, float] = {}
        """until when a row is not written again, on the monotonic clock"""

    def requires(self, requirement_hash: str) -> Offer | None:
        """What jobs that wait under a hash require, if this replica has come across it."""
        requires = self._requires.get(plain_hash(requirement_hash))
        return with_alone(requires) if requires is not None and is_suspect(requirement_hash) else requires

    def learn(self, requirement_hash: str, requirements: Mapping[str, list[str]]) -> Offer:
        """A hash that is in the database; returns what jobs that wait under it ask of a bot's offer."""
        plain = plain_hash(requirement_hash)
        if plain not in self._requires:
            if len(self._requires) >= _MAX_KNOWN:
                self._requires.clear()
            self._requires[plain] = self.requires_of(requirements)
        requires = self._requires[plain]
        return with_alone(requires) if is_suspect(requirement_hash) else requires

    def write_missing(self, db: Statements, items: Sequence[Enqueue]) -> None:
        """Write the rows that these items refer to and that are not known to be there."""
        requirements = {
            item.job.requirement_hash: json.dumps(item.job.requirements)
            for item in items
            if item.job.requirement_hash not in self._requires
        }
        if requirements:
            db.execute(sql.ADD_REQUIREMENTS, (list(requirements), list(requirements.values())))
        now = time.monotonic()
        metadata = {
            item.request_metadata[0]: item.request_metadata
            for item in items
            if item.request_metadata is not None and self._metadata.get(item.request_metadata[0], 0.0) <= now
        }
        if metadata:
            columns = zip(*metadata.values(), strict=True)
            db.execute(sql.ADD_REQUEST_METADATA, tuple(list(column) for column in columns))

    def committed(self, items: Sequence[Enqueue]) -> None:
        """The transaction that `write_missing` was part of is committed."""
        if len(self._metadata) >= _MAX_KNOWN:
            self._metadata.clear()
        now = time.monotonic()
        for item in items:
            self.learn(item.job.requirement_hash, item.job.requirements)
            if item.request_metadata is not None and self._metadata.get(item.request_metadata[0], 0.0) <= now:
                self._metadata[item.request_metadata[0]] = now + REMEMBERED_FOR
