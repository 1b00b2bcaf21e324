"""A small system to be an action's `/`: programs of this machine, with the libraries that they need."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

PROGRAMS = ("sh", "cat", "cp", "env", "id", "ls", "mkdir", "readlink", "rm", "sleep", "touch")
_LIBRARY = re.compile(r"(/\S+) \(0x")


def system_files(programs: Iterable[str] = PROGRAMS) -> dict[str, Path]:
    """What to put where: files of this machine by their paths in the root, programs in usr/bin."""
    files: dict[str, Path] = {}
    for program in programs:
        found = shutil.which(program)
        assert found is not None, f"no program {program} on PATH"
        files[f"usr/bin/{program}"] = Path(found).resolve()
    told = subprocess.run(["ldd", *files.values()], capture_output=True, text=True, check=True).stdout
    for library in _LIBRARY.findall(told):
        files[library.lstrip("/")] = Path(library).resolve()
    return files


def write_system(folder: Path, programs: Iterable[str] = PROGRAMS) -> None:
    """The system as files below `folder`, with `bin` as a symlink to `usr/bin`."""
    for path, source in system_files(programs).items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    (folder / "bin").symlink_to("usr/bin")
