"""Which loggers there are, for those who name one that there is not."""

import difflib
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_OURS = "buildgrid_scheduler"


def unknown_loggers(names: Iterable[str]) -> list[tuple[str, str | None]]:
    """The names of no logger, each with the nearest that there is. In other packages any name may be one."""
    return [(name, _nearest(name)) for name in names if not _may_log(name)]


def _may_log(name: str) -> bool:
    top = name.partition(".")[0]
    if top == _OURS:
        return name in _our_loggers()
    try:
        return find_spec(top) is not None
    except ValueError:  # it is loaded, and was no file: the program itself
        return True


def _nearest(name: str) -> str | None:
    short = {known.removeprefix(f"{_OURS}."): known for known in _our_loggers()}
    found = difflib.get_close_matches(name.removeprefix(f"{_OURS}."), short, n=1)
    return short[found[0]] if found else None


@cache
def _our_loggers() -> frozenset[str]:
    """Each module logs under its own name, and a package stands for its modules."""
    root = Path(__file__).parents[1]
    names = {".".join((_OURS, *path.relative_to(root).with_suffix("").parts)) for path in root.rglob("*.py")}
    return frozenset(name.removesuffix(".__init__") for name in names)
