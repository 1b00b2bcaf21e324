"""Rows that many jobs share, and that this replica knows to be in the database: written once, not per job."""

import json
from collections.abc import Callable, Mapping, Sequence

from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.engine.items import Enqueue
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import Statements

_MAX_KNOWN = 100_000  # entries of either kind; past that the memory is forgotten, not the rows


class KnownRows:
    """Requirement sets and request metadata. Used by the writer's thread; `requires` by any."""

    def __init__(self, requires: Callable[[Mapping[str, list[str]]], Offer]) -> None:
        """`requires`: what requirements ask of a bot's offer (`properties.Matching.requires`)."""
        self.requires_of = requires
        self._requires: dict[str, Offer] = {}
        self._metadata: set[str] = set()

    def requires(self, requirement_hash: str) -> Offer | None:
        """What a hash stands for, if this replica has come across it."""
        return self._requires.get(requirement_hash)

    def learn(self, requirement_hash: str, requirements: Mapping[str, list[str]]) -> Offer:
        """A hash that is in the database; returns what it asks of a bot's offer."""
        if requirement_hash in self._requires:
            return self._requires[requirement_hash]
        if len(self._requires) >= _MAX_KNOWN:
            self._requires.clear()
        requires = self._requires[requirement_hash] = self.requires_of(requirements)
        return requires

    def write_missing(self, db: Statements, items: Sequence[Enqueue]) -> None:
        """Write the rows that these items refer to and that are not known to be there."""
        requirements = {
            item.job.requirement_hash: json.dumps(item.job.requirements)
            for item in items
            if item.job.requirement_hash not in self._requires
        }
        if requirements:
            db.execute(sql.ADD_REQUIREMENTS, (list(requirements), list(requirements.values())))
        metadata = {
            item.request_metadata[0]: item.request_metadata
            for item in items
            if item.request_metadata is not None and item.request_metadata[0] not in self._metadata
        }
        if metadata:
            columns = zip(*metadata.values(), strict=True)
            db.execute(sql.ADD_REQUEST_METADATA, tuple(list(column) for column in columns))

    def committed(self, items: Sequence[Enqueue]) -> None:
        """The transaction that `write_missing` was part of is committed."""
        if len(self._metadata) >= _MAX_KNOWN:
            self._metadata.clear()
        for item in items:
            self.learn(item.job.requirement_hash, item.job.requirements)
            if item.request_metadata is not None:
                self._metadata.add(item.request_metadata[0])
