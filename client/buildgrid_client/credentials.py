"""What a client shows to a server, and what it believes: files, read again when they change."""

import logging
from dataclasses import dataclass
from pathlib import Path

import grpc

_log = logging.getLogger(__name__)

FileState = tuple[int, int, int] | None


@dataclass(frozen=True)
class TlsFiles:
    """PEM files for TLS. `ca`: whom to believe; None: whom the system believes.

    `certificate` (with the chain) and `key` are what the client shows: both or none of them. Reading raises
    OSError.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate needs its key, and a key its certificate")

    def read(self) -> grpc.ChannelCredentials:
        """The credentials as the files are now."""
        return grpc.ssl_channel_credentials(
            root_certificates=_bytes(self.ca),
            private_key=_bytes(self.key),
            certificate_chain=_bytes(self.certificate),
        )

    def state(self) -> tuple[FileState, ...]:
        """Changes when any of the files does."""
        return tuple(file_state(path) for path in (self.ca, self.certificate, self.key) if path is not None)


class BearerToken:
    """A token in a file, for example one that Kubernetes projects and replaces. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[FileState, str] | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call carries: `authorization: Bearer TOKEN`.

        A file that cannot be read any more leaves the last token in force, which is logged. OSError when
        there was none yet; ValueError for a file that is empty.
        """
        state = file_state(self._path)
        read = self._read
        if read is None or read[0] != state:
            try:
                read = (state, self._token())
            except (OSError, ValueError) as error:
                if read is None:
                    raise
                _log.warning("the token in %s stays as it was: %s", self._path, error)
                read = (state, read[1])
            self._read = read
        return (("authorization", f"Bearer {read[1]}"),)

    def _token(self) -> str:
        token = self._path.read_text(encoding="utf-8").strip()
        if not token:
            raise ValueError(f"{self._path} is empty; it must hold a token")
        return token


def file_state(path: Path) -> FileState:
    """What changes when a file does, whether it was written or replaced; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _bytes(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
