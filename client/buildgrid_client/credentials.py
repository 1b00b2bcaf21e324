"""What a client shows to a server, and what it believes: files, read again when they change."""

import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

_log = logging.getLogger(__name__)

FileState = tuple[int, int, int, int] | None

_ANY_STRENGTH = "DEFAULT:@SECLEVEL=0"


class UnusableFile(OSError):
    """A file can be read, but what it holds is of no use. The message names it, and what it must hold."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path
        self.problem = problem


@dataclass(frozen=True)
class TlsFiles:
    """PEM files for TLS. `ca`: whom to believe; None: whom the system believes.

    `certificate` (with the chain) and `key` are what the client shows: both or none of them. Reading raises
    OSError, also for files that hold something else or do not belong together (UnusableFile).
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a client certificate needs its key, and a key its certificate")

    def read(self) -> grpc.ChannelCredentials:
        """The credentials as the files are now."""
        before = self.state()
        ca, key, certificate = _bytes(self.ca), _bytes(self.key), _bytes(self.certificate)
        # gRPC itself looks at them when it connects, and says no more than that it failed.
        if self.ca is not None and ca is not None:
            _check_ca(self.ca, ca)
        if self.certificate is not None and self.key is not None:
            _check_pair(self.certificate, self.key)
            if self.state() != before:
                raise UnusableFile(self.certificate, "or its key was replaced while they were read")
        return grpc.ssl_channel_credentials(
            root_certificates=ca, private_key=key, certificate_chain=certificate
        )

    def state(self) -> tuple[FileState, ...]:
        """Changes when any of the files does."""
        return tuple(file_state(path) for path in (self.ca, self.certificate, self.key) if path is not None)


class TlsWatch:
    """Follows files for TLS while they change. Not thread-safe."""

    def __init__(self, files: TlsFiles, who: str) -> None:
        """`who` they are for, for the log. Raises OSError when they cannot be used."""
        self._files = files
        self._who = who
        self._state = files.state()
        self._told: tuple[tuple[FileState, ...], str] | None = None
        self.first = files.read()
        """the credentials as they were at the beginning"""

    def renewed(self) -> grpc.ChannelCredentials | None:
        """The credentials when they have changed since the last time, else None.

        Files that cannot be used, as between two that are replaced one after the other, change nothing, which
        is logged once. Those that could not even be read are read again the next time.
        """
        state = self._files.state()
        if state == self._state:
            return None
        try:
            credentials = self._files.read()
        except UnusableFile as error:
            self._state = state
            self._tell(state, error)
            return None
        except OSError as error:
            # It may pass without a change of any file: too many are open.
            self._tell(state, error)
            return None
        self._state, self._told = state, None
        _log.info("%s: the files for TLS have changed, new calls connect anew", self._who)
        return credentials

    def _tell(self, state: tuple[FileState, ...], error: OSError) -> None:
        if self._told != (state, str(error)):
            self._told = state, str(error)
            _log.warning("%s: the files for TLS have changed and cannot be used: %s", self._who, error)


class BearerToken:
    """A token in a file, for example one that Kubernetes projects and replaces. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[FileState, str] | None = None
        self._told: tuple[FileState, str] | None = None

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call carries: `authorization: Bearer TOKEN`.

        A file that cannot be used any more leaves the last token in force, which is logged once; one that
        could not even be read is read again for the next call. When there was no token yet: OSError, or
        ValueError for a file that is empty or holds what is no token.
        """
        state = file_state(self._path)
        read = self._read
        if read is None or read[0] != state:
            try:
                self._read = read = (state, self._token())
                self._told = None
            except (OSError, ValueError) as error:
                if read is None:
                    raise
                if isinstance(error, ValueError):
                    # Until the file changes; what keeps a file from being read may pass without that.
                    self._read = read = (state, read[1])
                self._tell(state, error)
        return (("authorization", f"Bearer {read[1]}"),)

    def _tell(self, state: FileState, error: Exception) -> None:
        if self._told != (state, str(error)):
            self._told = state, str(error)
            _log.warning("the token in %s stays as it was: %s", self._path, error)

    def _token(self) -> str:
        # Whatever else is in the file, it must not come into a message, and with it into a log.
        token = self._path.read_bytes().strip()
        if not token:
            raise ValueError(f"{self._path} is empty; it must hold a token")
        # What a header can carry.
        if any(not 0x20 <= byte <= 0x7E for byte in token):
            raise ValueError(f"{self._path} must hold a token and nothing else, in one line of ASCII")
        return token.decode("ascii")


@dataclass(frozen=True)
class Credentials:
    """What a client shows and believes, on all of its connections. `tls` is for those to `grpcs://`."""

    tls: TlsFiles = field(default_factory=TlsFiles)
    token: BearerToken | None = None


NO_CREDENTIALS = Credentials()


def file_state(path: Path) -> FileState:
    """What changes when a file does, whether it was written, replaced or made readable; None: it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def _bytes(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _check_ca(path: Path, content: bytes) -> None:
    try:
        # Collections of CAs have comments in all languages.
        _context().load_verify_locations(cadata=content.decode("ascii", errors="ignore"))
    except (ssl.SSLError, ValueError):
        raise UnusableFile(path, "holds no certificate of a CA, in PEM") from None


def _check_pair(certificate: Path, key: Path) -> None:
    try:
        _context().load_verify_locations(cafile=certificate)
    except ssl.SSLError:
        raise UnusableFile(certificate, "holds no certificate, in PEM") from None
    try:
        # Without an answer to the question for a password, the terminal would be asked.
        _context().load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UnusableFile(key, f"is not the key of the certificate in {certificate}") from None
        raise UnusableFile(key, "holds no private key without a password, in PEM") from None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(_ANY_STRENGTH)  # what is too weak is for the peers to say
    return context
