"""The server's certificate, read again for new connections, so that a renewed one needs no restart."""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

log = logging.getLogger(__name__)


class UnusableCertificateError(Exception):
    """Certificate, key and CA that cannot be used together; the message names the file."""


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """PEM files. `client_ca`: callers must have a certificate that one of these CAs signed; None: no caller
    is asked for one."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class _Content:
    certificate: bytes
    key: bytes
    client_ca: bytes | None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.client_ca)


class ReloadingCertificate:
    """What gRPC asks before each handshake. It may ask on any thread.

    The files are compared by content, which also finds mounted Secrets, whose files are links that move.
    Files that cannot be used together, maybe because they are just being written, are logged once and change
    nothing. Connections that are open keep the certificate with which they began.
    """

    def __init__(self, files: CertificateFiles) -> None:
        """Raises UnusableCertificateError: at start the files must be good."""
        self._files = files
        self._lock = threading.Lock()
        self._current = _read(files)
        _check(files, self._current)
        self._told: str | None = None
        self._initial = self._current.configuration()

    def credentials(self) -> grpc.ServerCredentials:
        """For `add_secure_port`."""
        return grpc.dynamic_ssl_server_credentials(
            self._initial,
            self.changed,  # type: ignore[arg-type]  # the stubs do not know None, which means no change
            require_client_authentication=self._files.client_ca is not None,
        )

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new configuration, if the files hold another one that is good; None: as before."""
        with self._lock:
            try:
                content = _read(self._files)
                if content != self._current:
                    _check(self._files, content)
            except UnusableCertificateError as error:
                if str(error) != self._told:
                    log.warning("TLS: %s; the last good certificate stays in use", error)
                self._told = str(error)
                return None
            except Exception:
                # On gRPC's thread nobody would hear of it, and the handshake can go on as before.
                log.exception("TLS: looking for a new certificate failed")
                return None
            self._told = None
            if content == self._current:
                return None
            self._current = content
            log.info("TLS: new connections use the new certificate in %s", self._files.certificate)
            return content.configuration()


def _read(files: CertificateFiles) -> _Content:
    return _Content(
        _bytes(files.certificate),
        _bytes(files.key),
        None if files.client_ca is None else _bytes(files.client_ca),
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableCertificateError(f"{path}: cannot be read: {error.strerror}") from error


def _check(files: CertificateFiles, content: _Content) -> None:
    """Raises UnusableCertificateError unless gRPC can serve with these: it does not say so itself, but fails
    every handshake."""
    certificate = _certificates(files.certificate, content.certificate)[0]
    try:
        key = serialization.load_pem_private_key(content.key, password=None)
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise UnusableCertificateError(f"{files.key}: is not an unencrypted private key in PEM") from error
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        raise UnusableCertificateError(f"{files.key}: is not the key of {files.certificate}")
    if files.client_ca is not None and content.client_ca is not None:
        _certificates(files.client_ca, content.client_ca)


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise UnusableCertificateError(f"{path}: holds no certificate in PEM") from error
