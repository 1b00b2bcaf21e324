"""The folders that a server writes to: found, and judged before anything is started in them.

Looking writes nothing, so that `check-config` can do it. `make_folders` does what a start would fail at.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from buildgrid_scheduler.config import Config
from buildgrid_scheduler.config.load import ReadConfig
from buildgrid_scheduler.config.model import URL_VARIABLE
from buildgrid_scheduler.config.problems import Location
from buildgrid_scheduler.config.storage import DiskStorageConfig, MemoryStorageConfig

DATA: Location = ("data",)
_OURS = frozenset(
    {"postgres", "postgres.lock", "cas", "cas-tier", "cas-spool", "blobs", "incoming", "boot-id"}
)
"""What a server has made where it was before."""
_OF_THE_DISK = frozenset({"lost+found"})


class _Folder(NamedTuple):
    path: Path
    field: Location
    """which says where it is"""
    kept: bool = True
    """whether it is ours alone; otherwise it may be a folder such as /tmp"""

    @property
    def remedy(self) -> str:
        name = "--data or data" if self.field == DATA else ".".join(map(str, self.field))
        return f"name a folder that this user may write: {name}"


def folder_problems(read: ReadConfig, environment: Mapping[str, str] = os.environ) -> dict[Location, str]:
    """What is wrong with folders, by the field that names them; as far as can be seen without writing."""
    found: dict[Location, str] = {}
    for folder in _folders(read.config, environment):
        problem = _problem(folder)
        if problem is None and folder.kept:
            top = read.config.data if folder.field == DATA else folder.path
            problem = _foreign(top, folder, {*_paths(read.config), Path(read.source)})
        if problem is not None:
            found.setdefault(folder.field, problem)
    return found


def make_folders(read: ReadConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Make those that are not there, and write to each. Raises ConfigError with all that are of no use."""
    found: dict[Location, str] = {}
    for folder in _folders(read.config, environment):
        top = read.config.data if folder.field == DATA else folder.path
        try:
            top.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=top):
                pass
        except OSError as error:
            found.setdefault(folder.field, f"{top} cannot be used: {error.strerror}; {folder.remedy}")
    if found:
        raise read.error(found)


def _folders(config: Config, environment: Mapping[str, str]) -> Iterator[_Folder]:
    database, storage = config.database, config.storage
    if config.needs_database and not (database.url or database.url_file or environment.get(URL_VARIABLE)):
        yield _Folder(config.data / "postgres", DATA)
    if isinstance(storage, MemoryStorageConfig):
        return
    if isinstance(storage, DiskStorageConfig):
        yield _placed(storage.path, ("storage", "path"), config.data / "cas")
        return
    yield _placed(storage.spool_path, ("storage", "spool_path"), config.data / "cas-spool", kept=False)
    if storage.tier is not None:
        yield _placed(storage.tier.path, ("storage", "tier", "path"), config.data / "cas-tier")


def _placed(path: Path | None, field: Location, otherwise: Path, *, kept: bool = True) -> _Folder:
    return _Folder(otherwise, DATA) if path is None else _Folder(path, field, kept)


def _problem(folder: _Folder) -> str | None:
    """Why nothing can be written there; None if it can, or if that cannot be seen."""
    try:
        there = next(path for path in (folder.path, *folder.path.parents) if path.exists())
        if not there.is_dir():
            return f"{there} is no folder; {folder.remedy}"
        ours = (folder.path, folder.path.parent) if folder.field == DATA else (folder.path,)
        if there in ours and not os.access(there, os.R_OK | os.W_OK | os.X_OK):
            return f"{there} may not be written by this user; {folder.remedy}"
    except OSError as error:
        return f"{folder.path} cannot be looked at: {error.strerror}; {folder.remedy}"
    return None


def _foreign(top: Path, folder: _Folder, named: set[Path]) -> str | None:
    """Whether a folder holds what is not ours, and nothing that is.

    What the configuration itself names may be there, and hidden files.
    """
    try:
        names = {path.name for path in top.iterdir() if not path.name.startswith(".")} - _OF_THE_DISK
    except OSError:
        return None  # it is not there, or a problem of its own
    base = top.absolute()
    known = {path.absolute().relative_to(base).parts[0] for path in named if base in path.absolute().parents}
    strange = names - known
    if not strange or names & _OURS:
        return None
    name = "--data or data" if folder.field == DATA else ".".join(map(str, folder.field))
    return (
        f"{top} holds files of somebody else ({min(strange)}), and none of a server; name an empty "
        f"folder, or one that is not there yet: {name}"
    )


def _paths(section: BaseModel) -> Iterator[Path]:
    """All that a configuration names."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        for item in (
            value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
        ):
            if isinstance(item, Path):
                yield item
            elif isinstance(item, BaseModel):
                yield from _paths(item)
