"""Which object store, and how to get into it."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildgrid_client.credentials import FileState, file_state

from buildgrid_scheduler.core.errors import FailedPrecondition

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# One request, with up to one part of an upload or download (8 MiB), in seconds.
REQUEST_SECONDS = 60
_CONNECT_SECONDS = 5
# How often, in seconds, the files of the credentials are looked at.
_CREDENTIALS_CHECK = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ObjectStoreLocation:
    """A bucket or container, and a prefix in it.

    `url`: s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX], az://CONTAINER[/PREFIX]; file:///FOLDER and memory://
    for tests. `options` are settings of obstore by their names there (`endpoint`, `region`, `account_name`
    ...), `secrets` those whose value is the content of a file, read again when it changes. What is not set
    is taken from the environment, as the provider's own tools do: AWS_ACCESS_KEY_ID,
    AWS_WEB_IDENTITY_TOKEN_FILE, GOOGLE_APPLICATION_CREDENTIALS, AZURE_FEDERATED_TOKEN_FILE and so on, at last
    from the machine's metadata service. `allow_http`: without TLS; `ca`: a PEM file to believe besides.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    allow_http: bool = False
    ca: Path | None = None

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"the object store {self.url}"

    def open(self, request_seconds: float = REQUEST_SECONDS) -> "ObjectStore":
        """Raises FailedPrecondition that names the remedy; the store itself is not asked yet."""
        try:
            from obstore import store
            from obstore.exceptions import BaseError
        except ImportError as error:
            raise FailedPrecondition(
                f"{self.name} needs the package obstore: install buildgrid-kubernetes[object-store]"
            ) from error
        try:
            if self.url.startswith("file:"):
                return store.from_url(self.url, mkdir=True)
            if self.url.startswith("memory:"):
                return store.from_url(self.url)
            settings: Any = {**self.options, **{key: _secret(path) for key, path in self.secrets.items()}}
            client: Any = {
                "timeout": f"{int(request_seconds * 1000)}ms",
                "connect_timeout": f"{_CONNECT_SECONDS}s",
                "allow_http": self.allow_http,
            }
            if self.ca is not None:
                client["root_certificate"] = self.ca.read_bytes()
            # Repeated by us: see `Outages`.
            return store.from_url(
                self.url, config=settings, client_options=client, retry_config={"max_retries": 0}
            )
        except (BaseError, ValueError, OSError) as error:
            raise FailedPrecondition(f"{self.name} cannot be used: {first_lines(error)}") from error

    def secrets_state(self) -> tuple[FileState, ...]:
        """Changes when any of the files does."""
        files = [*self.secrets.values(), *(() if self.ca is None else (self.ca,))]
        return tuple(file_state(path) for path in files)


class OpenStore:
    """The store of a location, opened again when its secrets change. Thread-safe."""

    def __init__(
        self,
        location: ObjectStoreLocation,
        request_seconds: float = REQUEST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._location = location
        self._request_seconds = request_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._store: ObjectStore | None = None
        self._state: tuple[FileState, ...] = ()
        self._check_at = 0.0

    def current(self) -> "ObjectStore":
        """FailedPrecondition when it cannot be opened; secrets that cannot be read any more stay in force."""
        with self._lock:
            now = self._clock()
            if self._store is not None and now < self._check_at:
                return self._store
            self._check_at = now + _CREDENTIALS_CHECK
            state = self._location.secrets_state()
            if self._store is not None and state == self._state:
                return self._store
            try:
                opened = self._location.open(self._request_seconds)
            except FailedPrecondition as error:
                if self._store is None:
                    raise
                _log.warning("the new secrets are not used: %s", error)
                return self._store
            self._store, self._state = opened, state
            return opened


def first_lines(error: Exception) -> str:
    """An error's text without obstore's dump of its internals."""
    return str(error).partition("\n\nDebug source")[0].strip()


def _secret(path: Path) -> str:
    secret = path.read_text(encoding="utf-8").strip()
    if not secret:
        raise ValueError(f"{path} is empty; it must hold a secret")
    return secret
