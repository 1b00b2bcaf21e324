"""What a configuration needs: files that hold what they should, usable folders, and optional packages.

All of it is looked at before a server starts anything, and all that is wrong is told at once. Later on a
file that goes away or breaks is an outage, and none of this module's business.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from buildgrid_client.credentials import BearerToken, TlsFiles, UnusableFile
from pydantic import BaseModel

from buildgrid_scheduler.auth.key_set import UnusableKeysError
from buildgrid_scheduler.auth.key_sources import jwks_file, secret_file
from buildgrid_scheduler.auth.tls import CertificateFiles, ReloadingCertificate, UnusableCertificateError
from buildgrid_scheduler.config.auth import JwksConfig, JwtIssuerConfig, TlsConfig
from buildgrid_scheduler.config.integrations import MeteringConfig
from buildgrid_scheduler.config.load import InvalidConfigError, ReadConfig
from buildgrid_scheduler.config.model import DatabaseConfig
from buildgrid_scheduler.config.problems import Location, Problem
from buildgrid_scheduler.config.source import ConfigSource
from buildgrid_scheduler.config.storage import ObjectStorageConfig, RemoteServerConfig
from buildgrid_scheduler.config.values import postgres_url
from buildgrid_scheduler.server.folders import folder_problems

_Finding = tuple[Location, str]
_PACKAGE = "needs the package {}: pip install 'buildgrid-kubernetes[{}]'"


def read_checked(source: ConfigSource) -> ReadConfig:
    """A configuration, with all that it needs looked at.

    Raises ConfigError with the line and the remedy of each field, file or folder that cannot be used, and
    each package that is not installed. Writes nothing.
    """
    known: Sequence[Problem] = ()
    read: ReadConfig | None
    try:
        read = source.read()
    except InvalidConfigError as error:
        if error.rest is None:
            raise
        known, read = error.problems, error.rest
    findings = _findings(read)
    if findings or known:
        raise read.error(findings, known)
    return read


def _findings(read: ReadConfig) -> dict[Location, str]:
    findings = dict(_in_section(read.config, ()))
    if read.config.metering is not None and find_spec("buildgrid_metering") is None:
        findings[("metering",)] = _PACKAGE.format("buildgrid-metering-client", "metering")
    if isinstance(read.config.storage, ObjectStorageConfig) and find_spec("obstore") is None:
        findings[("storage", "type")] = _PACKAGE.format("obstore", "object-store")
    findings |= folder_problems(read)
    return findings


def _in_section(section: BaseModel, at: Location) -> Iterator[_Finding]:
    named = _files_of(section)
    unreadable = {place: problem for place, path in named.items() if (problem := _unreadable(path))}
    yield from (((*at, *place), problem) for place, problem in unreadable.items())
    # What belongs together is judged together, and not while a part of it is missing.
    if named and not unreadable:
        yield from (((*at, *place), problem) for place, problem in _in_content(section, named))
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _in_section(value, (*at, name))
        elif isinstance(value, tuple):
            for number, item in enumerate(value):
                if isinstance(item, BaseModel):
                    yield from _in_section(item, (*at, name, number))


def _files_of(section: BaseModel) -> dict[Location, Path]:
    """By their fields, which say in their names that files are meant; other paths are folders of ours."""
    found: dict[Location, Path] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Path) and (name == "file" or name.endswith("_file")):
            found[(name,)] = value
        elif isinstance(value, dict) and name.endswith("_files"):
            found |= {(name, key): path for key, path in value.items()}
    return found


def _unreadable(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except FileNotFoundError:
        return f"{path} is not there; create it, or name another file"
    except PermissionError:
        return f"{path} may not be read; let the user that runs the server read it"
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}; name another file"
    return None


def _in_content(section: BaseModel, named: Mapping[Location, Path]) -> Iterator[_Finding]:
    try:
        match section:
            case DatabaseConfig():
                yield from _texts(named)
                yield from _urls(named)
            case ObjectStorageConfig():
                yield from _texts({place: path for place, path in named.items() if len(place) > 1})
                TlsFiles(section.ca_file).read()
            case RemoteServerConfig():
                yield from _token(section, "token_file")
                TlsFiles(section.ca_file, section.client_certificate_file, section.client_key_file).read()
            case MeteringConfig():
                yield from _token(section, "token_file")
            case TlsConfig():
                ReloadingCertificate(
                    CertificateFiles(section.certificate_file, section.key_file, section.client_ca_file)
                )
            case JwksConfig():
                yield from _token(section, "bearer_token_file")
                TlsFiles(section.ca_file).read()
                if section.file is not None:
                    jwks_file(section.file).fetch()
            case JwtIssuerConfig() if section.secret_file is not None:
                algorithms = frozenset[str](section.algorithms or {"HS256"})
                secret_file(section.secret_file, algorithms).fetch()
            case _:
                return
    except UnusableFile as error:
        yield _field_of(error.path, named), f"{error}; mend it, or name another file"
    except (UnusableCertificateError, UnusableKeysError) as error:
        told = str(error)
        place = next((place for place, path in named.items() if told.startswith(f"{path}:")), min(named))
        yield place, told if told.startswith(str(named[place])) else f"{named[place]}: {told}"


def _field_of(path: Path, named: Mapping[Location, Path]) -> Location:
    return next(place for place, named_path in named.items() if named_path == path)


def _texts(named: Mapping[Location, Path]) -> Iterator[_Finding]:
    for place, path in named.items():
        try:
            if not path.read_text(encoding="utf-8").strip():
                yield place, f"{path} is empty; write the secret into it"
        except UnicodeDecodeError:
            yield place, f"{path} is not text in UTF-8; write the secret into it and nothing else"


def _urls(named: Mapping[Location, Path]) -> Iterator[_Finding]:
    for place, path in named.items():
        if place == ("password_file",):
            continue
        with suppress(UnicodeDecodeError):  # told already, as is an empty one
            if content := path.read_text(encoding="utf-8").strip():
                try:
                    postgres_url(content)
                except ValueError as error:
                    yield place, f"what is in {path} {error}"


def _token(section: BaseModel, name: str) -> Iterator[_Finding]:
    if (path := getattr(section, name)) is None:
        return
    try:
        BearerToken(path).metadata()
    except ValueError as error:
        yield (name,), str(error)
