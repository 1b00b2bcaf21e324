"""The package's names are imported when they are used, and are what type checkers see."""

import ast
import subprocess
import sys
from pathlib import Path

import buildgrid_scheduler
import pytest


def typed_imports() -> dict[str, str]:
    """What the package imports for type checkers: module by name."""
    tree = ast.parse(Path(buildgrid_scheduler.__file__).read_text())
    return {
        alias.name: node.module or ""
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("name", buildgrid_scheduler.__all__)
def test_a_name_is_the_one_that_type_checkers_see(name: str) -> None:
    module = typed_imports()[name]
    assert getattr(buildgrid_scheduler, name) is getattr(sys.modules[module], name)
    assert name in dir(buildgrid_scheduler)


def test_there_are_no_names_that_are_not_offered() -> None:
    assert sorted(typed_imports()) == sorted(buildgrid_scheduler.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sheduler'"):
        _ = buildgrid_scheduler.Sheduler  # type: ignore[attr-defined]


def test_importing_the_package_imports_nothing_else() -> None:
    program = (
        "import sys, buildgrid_scheduler; "
        "print(*[m for m in sys.modules if m.startswith('buildgrid_') or m == 'grpc'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["buildgrid_scheduler"]
