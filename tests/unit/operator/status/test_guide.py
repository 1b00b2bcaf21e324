"""The guides say what to do about each reason of a condition, and about none that there is not."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import buildgrid_operator
from buildgrid_operator.status.fleet_conditions import LIMITS

PACKAGE = Path(buildgrid_operator.__file__).parent
DOCS = Path(__file__).parents[4] / "docs"
PLACES = {"no": 0, "yes": 0, "Trouble": 0, "Verdict": 2}
"""which argument is the reason"""
SOURCES = (
    "status/scheduler_conditions.py",
    "status/property_set_conditions.py",
    "status/workload.py",
    "reconcile/refusals.py",
)


def _reasons(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((PACKAGE / source).read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in PLACES:
            yield from _words(node.args[PLACES[node.func.id]])
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "(reason, words)":
            assert isinstance(node.value, ast.Tuple)
            yield from _words(node.value.elts[0])


def _words(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif ast.unparse(node) == "f'{kind}Missing'":
        yield from ("SecretMissing", "ConfigMapMissing")


def _told(guide: str) -> set[str]:
    """The reasons in a guide's table: the words in its first column that begin as reasons do."""
    return set(re.findall(r"^\| `([A-Z]\w+)` \|", (DOCS / guide).read_text(), re.M))


def test_each_reason_is_in_the_guide() -> None:
    assert _told("kubernetes.md") == {reason for source in SOURCES for reason in _reasons(source)}


def test_each_reason_of_a_fleet_is_in_its_guide() -> None:
    limits = {limit.value for limit in LIMITS}
    assert _told("fleets.md") == {*_reasons("status/fleet_conditions.py"), *limits}
