"""A bot that runs in any Linux image, wherever its directory is copied to; made of what runs this file.

    bin/        buildgrid-bot and bwrap, which are the launcher, and tini: all static
    app/        the bot, and the packages that it imports
    python/     an interpreter and its standard library
    libexec/    the real bwrap
    lib/        the loader and every shared library of all that: nothing of the image around is used
    .buildgrid-bot   says that the directory is one of these, and of which version

Run with the Python of an environment that has the bot in it, on a system with the GNU C library.
"""

import argparse
import compileall
import importlib.util
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

OURS = "buildgrid-kubernetes"
OUR_PACKAGES = ("buildgrid_bot", "buildgrid_client", "buildgrid_protos")
# What a bot never imports of the standard library.
UNUSED = (
    *("config-*", "dist-packages", "site-packages", "sitecustomize.py", "_sysconfigdata_*", "curses", "dbm"),
    *("ensurepip", "idlelib", "lib2to3", "pydoc_data", "sqlite3", "test", "tests", "tkinter", "turtle.py"),
    *("turtledemo", "venv", "wsgiref", "xmlrpc"),
    *("_curses*", "_dbm*", "_gdbm*", "_sqlite3*", "_test*", "_tkinter*", "_xx*", "readline*", "xx*.so"),
)
NOT_RUN = ("__pycache__", "*.pyi")
# Loaded by the C library itself when a thread ends, so that no file asks for it.
UNASKED = "libgcc_s.so.1"
_NEEDED = re.compile(r"^\s*(\S+) => (\S+) \(0x", re.MULTILINE)
_LOADER = re.compile(r"^\s*(/\S+) \(0x", re.MULTILINE)
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[.*?\])?([^;]*)(;.*)?")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--launcher", type=Path, required=True, help="launcher.c, compiled and linked statically"
    )
    parser.add_argument("--requirements", type=Path, required=True, help="names of packages, one in a line")
    parser.add_argument("--bwrap", type=Path, help="bubblewrap; without it, bots use the one of their image")
    parser.add_argument("--tini", type=Path, help="a static tini, the first process of a container")
    parser.add_argument("directory", type=Path, help="must not exist yet")
    given = parser.parse_args()
    names = [line.strip() for line in given.requirements.read_text().splitlines()]
    assemble(
        given.directory,
        [name for name in names if name and not name.startswith("#")],
        given.launcher,
        given.bwrap,
        given.tini,
    )


def assemble(
    directory: Path, requirements: Iterable[str], launcher: Path, bwrap: Path | None, tini: Path | None
) -> None:
    """Makes the directory. Raises SystemExit where something that it needs is missing."""
    for name in ("app", "bin", "lib", "libexec", "python/bin"):
        (directory / name).mkdir(parents=True)
    (directory / ".buildgrid-bot").write_text(metadata.version(OURS) + "\n")
    app = directory / "app"
    shutil.copy(Path(__file__).with_name("__main__.py"), app)
    for package in OUR_PACKAGES:
        shutil.copytree(_home_of(package), app / package, ignore=shutil.ignore_patterns(*NOT_RUN))
    _copy_metadata(OURS, app)
    for name in _closure(requirements):
        _copy_distribution(name, app)

    interpreter = directory / "python/bin/python3"
    shutil.copy(Path(sys.executable).resolve(), interpreter)
    standard = directory / "python/lib" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(sysconfig.get_path("stdlib"), standard, ignore=shutil.ignore_patterns(*NOT_RUN, *UNUSED))
    programs = [interpreter]
    shutil.copy(launcher, directory / "bin/buildgrid-bot")
    if bwrap is not None:
        shutil.copy(bwrap, directory / "libexec/bwrap")
        shutil.copy(launcher, directory / "bin/bwrap")
        programs.append(directory / "libexec/bwrap")
    if tini is not None:
        shutil.copy(tini, directory / "bin/tini")

    objects = [path for path in directory.rglob("*.so*") if path.is_file()]
    _copy_libraries([*programs, *objects], directory / "lib")
    # Compiled for good, whatever copying does to the times of the sources.
    for part in (app, standard):
        done = compileall.compile_dir(
            part, quiet=1, workers=0, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
        )
        if not done:
            raise SystemExit(f"assemble: {part} holds a file that does not compile")


def _home_of(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"assemble: {sys.executable} has no package {package}; install {OURS} for it")
    return Path(found.submodule_search_locations[0])


def _closure(requirements: Iterable[str]) -> list[str]:
    """The distributions of these names, and what they need."""
    found: dict[str, None] = {}
    waiting = list(requirements)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found[name] = None
        for requirement in metadata.distribution(name).requires or ():
            match = _REQUIREMENT.match(requirement)
            # What only some systems or some uses need.
            if match is not None and match[3] is None:
                waiting.append(match[1])
    return sorted(found)


def _copy_metadata(name: str, to: Path) -> None:
    """So that the version can be told."""
    for file in metadata.files(name) or ():
        if file.parent.suffix == ".dist-info" and file.name == "METADATA":
            target = to / file
            target.parent.mkdir(parents=True)
            shutil.copy(Path(str(file.locate())), target)


def _copy_distribution(name: str, to: Path) -> None:
    for file in metadata.files(name) or ():
        # Programs are elsewhere, above the packages.
        if ".." in file.parts or "__pycache__" in file.parts or file.suffix == ".pyi":
            continue
        target = to / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(str(file.locate())), target)


def _copy_libraries(objects: list[Path], to: Path) -> None:
    told = subprocess.run(["ldd", *map(str, objects)], capture_output=True, text=True, check=False).stdout
    if "not found" in told:
        lacking = "\n".join(line for line in told.splitlines() if "not found" in line)
        raise SystemExit(f"assemble: libraries are missing:\n{lacking}")
    loaders = {Path(path).resolve() for path in _LOADER.findall(told)}
    if len(loaders) != 1:
        raise SystemExit(f"assemble: one loader is needed, and ldd tells {sorted(map(str, loaders))}")
    shutil.copy(loaders.pop(), to / "ld.so")
    needed = dict(_NEEDED.findall(told))
    for name, path in sorted({**needed, **dict(_beside(needed.values()))}.items()):
        shutil.copy(path, to / name)


def _beside(libraries: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The library that nobody asks for, where the C library is."""
    for folder in {Path(path).parent for path in libraries}:
        if (folder / UNASKED).exists():
            yield UNASKED, str(folder / UNASKED)


if __name__ == "__main__":
    main()
