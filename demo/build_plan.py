"""What has to be done to build the C project, read from its sources: no build file needed.

Each `.c` file is one action with exactly the headers that it includes, directly or through others, so that a
changed header recompiles those who see it, and nobody else.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]+"([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Compile:
    """One object file. Paths are relative to the project."""

    source: str
    headers: tuple[str, ...]
    object: str


@dataclass(frozen=True)
class Link:
    """One program, from the objects of these compilations."""

    program: str
    objects: tuple[str, ...]


@dataclass(frozen=True)
class BuildPlan:
    compiles: tuple[Compile, ...]
    links: tuple[Link, ...]
    # The program among the links that tests the others.
    test_program: str

    @property
    def action_count(self) -> int:
        """Compilations, links and the test run."""
        return len(self.compiles) + len(self.links) + 1


def included_headers(project: Path, source: str) -> tuple[str, ...]:
    """The headers that a source includes with quotes, directly or not: sorted paths relative to the project.

    As the compiler does, a name is looked up beside the including file first and below the project then.
    Raises FileNotFoundError with the place of an include that leads nowhere.
    """
    seen: set[str] = set()
    waiting = [source]
    while waiting:
        includer = waiting.pop()
        for name in _INCLUDE.findall((project / includer).read_text(encoding="utf-8")):
            header = _find_header(project, includer, name)
            if header not in seen and header != source:
                seen.add(header)
                waiting.append(header)
    return tuple(sorted(seen))


def plan_build(project: Path) -> BuildPlan:
    """All `.c` files of the project. `app/` and `tests/` are programs, the other folders are in both.

    Raises FileNotFoundError when there are no sources, or an include leads nowhere.
    """
    sources = sorted(path.relative_to(project).as_posix() for path in project.glob("*/*.c"))
    if not sources:
        raise FileNotFoundError(f"{project} holds no .c files one folder down")
    compiles = tuple(
        Compile(source, included_headers(project, source), source.removesuffix(".c") + ".o")
        for source in sources
    )
    links = (
        Link("toolbox", _objects(compiles, without="tests/")),
        Link("unit", _objects(compiles, without="app/")),
    )
    return BuildPlan(compiles, links, test_program="unit")


def _find_header(project: Path, includer: str, name: str) -> str:
    for folder in (Path(includer).parent, Path()):
        if (project / folder / name).is_file():
            return (folder / name).as_posix()
    raise FileNotFoundError(f"{includer} includes {name!r}, which is neither beside it nor below {project}")


def _objects(compiles: Iterable[Compile], *, without: str) -> tuple[str, ...]:
    return tuple(compile_.object for compile_ in compiles if not compile_.source.startswith(without))
