"""The guide says what to do about each reason of a condition, and about none that there is not."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import buildgrid_operator

PACKAGE = Path(buildgrid_operator.__file__).parent
GUIDE = Path(__file__).parents[4] / "docs/kubernetes.md"
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


def test_each_reason_is_in_the_guide() -> None:
    told = set(re.findall(r"^\| `(\w+)` \|", GUIDE.read_text(), re.M))
    assert told == {reason for source in SOURCES for reason in _reasons(source)}
