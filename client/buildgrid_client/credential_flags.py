"""The flags by which a program is told what to show to servers, and whom to believe."""

import argparse
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from buildgrid_client.channel import is_loopback, parse_endpoint
from buildgrid_client.credentials import BearerToken, Credentials, TlsFiles, UnusableFile

_log = logging.getLogger(__name__)

CA, CERTIFICATE, KEY, TOKEN = "--tls-ca", "--tls-certificate", "--tls-key", "--token-file"
_HELP = {
    CA: "for grpcs://: who may vouch for the server, PEM (default: whom gRPC believes)",
    CERTIFICATE: "for grpcs://: the certificate to show, with its chain, PEM",
    KEY: "the key of --tls-certificate, PEM, without a password",
    TOKEN: "a file with the token that each call carries",
}


def add_credential_flags(parser: argparse.ArgumentParser, environment: str) -> None:
    """Add them. Each may also come from a variable, for example ENVIRONMENT_TLS_CA."""
    group = parser.add_argument_group(
        "credentials", "Files, which are read again when they change; a token for each call."
    )
    for flag, text in _HELP.items():
        variable = f"{environment}_{_name(flag).upper()}"
        group.add_argument(
            flag,
            type=Path,
            metavar="FILE",
            default=Path(path) if (path := os.environ.get(variable)) else None,
            help=f"{text} [{variable}]",
        )


def credentials_of(arguments: argparse.Namespace, endpoints: Iterable[str]) -> Credentials:
    """What the flags say, for connections to these endpoints, which are well-formed.

    Raises ValueError that names the flag and the remedy. What is unwise is logged.
    """
    endpoints = list(endpoints)
    files = {flag: getattr(arguments, _name(flag)) for flag in _HELP}
    for one, other in ((CERTIFICATE, KEY), (KEY, CERTIFICATE)):
        if files[one] is not None and files[other] is None:
            raise ValueError(f"{one} needs {other}: a certificate is shown with its key")
    for_tls = [flag for flag in (CA, CERTIFICATE) if files[flag] is not None]
    if for_tls and not any(parse_endpoint(endpoint)[1] for endpoint in endpoints):
        secure = endpoints[0].replace("grpc://", "grpcs://", 1)
        raise ValueError(
            f"{for_tls[0]}: {endpoints[0]} is without TLS; name it {secure}, or leave out the flag"
        )
    for flag, path in files.items():
        if path is not None:
            _check_readable(flag, path)
    tls = TlsFiles(files[CA], files[CERTIFICATE], files[KEY])
    try:
        tls.read()
    except UnusableFile as error:
        flag = next((flag for flag, path in files.items() if path == error.path), CERTIFICATE)
        raise ValueError(f"{flag}: {error}") from error
    return Credentials(tls, _token(files[TOKEN], endpoints))


def _token(path: Path | None, endpoints: list[str]) -> BearerToken | None:
    if path is None:
        return None
    token = BearerToken(path)
    try:
        token.metadata()
    except ValueError as error:
        raise ValueError(f"{TOKEN}: {error}") from error
    for endpoint in endpoints:
        if not parse_endpoint(endpoint)[1] and not is_loopback(endpoint):
            _log.warning(
                "the token of %s goes to %s as plain text: unless the network itself encrypts, use grpcs://",
                TOKEN,
                endpoint,
            )
    return token


def _check_readable(flag: str, path: Path) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(
            f"{flag}: {path} cannot be read ({error.strerror}); name a file that this user may read"
        ) from error
    if not content.strip():
        raise ValueError(f"{flag}: {path} is empty; write it before this starts")


def _name(flag: str) -> str:
    return flag.removeprefix("--").replace("-", "_")
