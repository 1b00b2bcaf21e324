"""Takes up changes of the configuration file while the server runs.

A file that cannot be used changes nothing: the last good one stays in force, the log says why, and a metric
is 0 until it is mended.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from buildgrid_scheduler.config import Config, ConfigError
from buildgrid_scheduler.config.changes import changes, in_force
from buildgrid_scheduler.config.source import ConfigSource
from buildgrid_scheduler.server.metrics import catalogue

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file."""

    digest: str
    error: str = ""
    """why it was not taken up; empty: it is in force"""
    fields_at_restart: tuple[str, ...] = ()
    """those of its changes that wait for the next start"""


class Reloader:
    """`config` is in force. `apply` puts another in force, or raises ConfigError and changes nothing."""

    def __init__(
        self,
        source: ConfigSource,
        config: Config,
        digest: str,
        apply: Callable[[Config], None],
        registry: CollectorRegistry,
        told: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        """`digest`: of the source when `config` was read. `told`: what became of each file since then."""
        self.config = config
        self._source = source
        self._apply = apply
        self._told = told
        self._looked_at = digest
        self._requested = asyncio.Event()
        self._info = catalogue.CONFIG_INFO.gauge(registry)
        self._successful = catalogue.RELOAD_SUCCESSFUL.gauge(registry)
        self._reloaded_at = catalogue.RELOADED_AT.gauge(registry)
        self._restart_needed = catalogue.RESTART_NEEDED.gauge(registry)
        self._note_success(digest, restart_needed=False)

    def request(self) -> None:
        """Look now, whether or not the file has changed (SIGHUP)."""
        self._requested.set()

    async def watch(self) -> None:
        """Look again and again; runs until it is cancelled."""
        while True:
            interval = self.config.reload.interval
            try:
                seconds = None if interval is None else interval.total_seconds()
                await asyncio.wait_for(self._requested.wait(), seconds)
            except TimeoutError:
                pass
            requested = self._requested.is_set()
            self._requested.clear()
            await self.look(requested=requested)

    async def look(self, *, requested: bool) -> None:
        """Take up the file if it has changed, or if that was asked for."""
        # Kubernetes changes a ConfigMap by exchanging a link: only the content says whether it is another.
        digest = await asyncio.to_thread(self._source.digest)
        if digest == self._looked_at and not requested:
            return
        self._looked_at = digest
        try:
            new = await asyncio.to_thread(self._source.load)
            self._take_up(new, digest)
        except ConfigError as error:
            self._successful.set(0)
            self._told(Outcome(digest, str(error)))
            for line in str(error).splitlines():
                log.error("configuration not taken up: %s", line)

    def _take_up(self, new: Config, digest: str) -> None:
        found = changes(self.config, new)
        effective = in_force(self.config, new)
        if found.reloadable:
            self._apply(effective)
            log.info("configuration taken up, changed: %s", ", ".join(found.reloadable))
        elif not found.at_restart:
            log.info("the configuration has no changes")
        self.config = effective
        if found.at_restart:
            log.warning("these changes take effect at the next start: %s", ", ".join(found.at_restart))
        self._note_success(digest, restart_needed=bool(found.at_restart))
        self._told(Outcome(digest, fields_at_restart=tuple(found.at_restart)))

    def _note_success(self, digest: str, *, restart_needed: bool) -> None:
        self._info.clear()
        self._info.labels(digest).set(1)
        self._successful.set(1)
        self._reloaded_at.set(time.time())
        self._restart_needed.set(1 if restart_needed else 0)
