"""docs/conformance.md counts right, and names tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "conformance.md"
HEAD = ["#", "rule", "what we do", "proof"]
NOT_OFFERED = "not offered: "
TEST_ID = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
COUNT = re.compile(r"^(\d+) rules; (\d+) proven by a test; (\d+) not offered \(said why\)\.$", re.MULTILINE)


class Row(NamedTuple):
    """A rule."""

    number: int
    rule: str
    what_we_do: str
    proof: str

    @property
    def tests(self) -> list[tuple[str, str]]:
        """File and function of each test that it names."""
        return TEST_ID.findall(self.proof)

    @property
    def is_offered(self) -> bool:
        return not self.what_we_do.startswith(NOT_OFFERED)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def rows(text: str) -> list[Row]:
    """The rows of all tables; a table begins with HEAD and a rule of dashes."""
    found: list[Row] = []
    lines = [cells(line) if line.startswith("|") else None for line in text.splitlines()]
    for before, line in zip([None, *lines], lines, strict=False):
        if line is None:
            continue
        assert len(line) == len(HEAD), f"a row has {len(HEAD)} cells: {line}"
        if before is None:
            assert line == HEAD
        elif set(line) != {"---"} and line != HEAD:
            found.append(Row(int(line[0]), *line[1:]))
    return found


def problems(text: str) -> list[str]:
    """What is wrong with a page."""
    table = rows(text)
    found = []
    if [row.number for row in table] != list(range(1, len(table) + 1)):
        found.append("the rules are not numbered from 1")
    for row in table:
        if not row.rule or not row.what_we_do:
            found.append(f"rule {row.number} has an empty cell")
        if row.proof == "-" and row.is_offered:
            found.append(f"rule {row.number} is offered and has no proof")
        if row.proof != "-" and TEST_ID.sub("", row.proof).strip():
            found.append(f"rule {row.number}: {row.proof!r} is not a list of tests")
        found += [
            f"rule {row.number}: there is no {file}::{name}"
            for file, name in row.tests
            if name not in functions_of(file)
        ]
    counted = (
        len(table),
        sum(bool(row.tests) for row in table),
        sum(not row.is_offered for row in table),
    )
    told = [tuple(map(int, count)) for count in COUNT.findall(text)]
    if told != [counted]:
        found.append(f"the page tells {told}, its tables hold {counted}")
    return found


@cache
def functions_of(file: str) -> frozenset[str]:
    """The functions at the top of a file, which is parsed and not imported."""
    path = ROOT / file
    if not path.exists():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.parse(path.read_text()).body if isinstance(node, functions))


def test_the_page_is_right() -> None:
    assert problems(PAGE.read_text()) == []


def test_every_service_has_a_table() -> None:
    text = PAGE.read_text()
    sections = {part.partition("\n")[0]: part for part in text.split("\n## ")[1:]}
    for name in (
        "Execution",
        "Operations",
        "ActionCache",
        "ContentAddressableStorage",
        "ByteStream",
        "Capabilities",
        "Worker",
    ):
        assert rows(sections[name]), name


def page(*lines: str, count: str) -> str:
    return "\n".join([count, "", "| # | rule | what we do | proof |", "|---|---|---|---|", *lines, ""])


HERE = "tests/unit/docs/test_conformance_page.py::test_the_page_is_right"


@pytest.mark.parametrize(
    ("lines", "count", "problem"),
    [
        ([f"| 1 | r | kept | `{HERE}` |"], (1, 1, 0), None),
        (["| 1 | r | not offered: why | - |"], (1, 0, 1), None),
        ([f"| 1 | r | not offered: why | `{HERE}` `{HERE}` |"], (1, 1, 1), None),
        (["| 1 | r | kept | - |"], (1, 0, 0), "no proof"),
        ([f"| 1 | r | kept | `{HERE}er` |"], (1, 1, 0), "there is no"),
        (["| 1 | r | kept | `tests/unit/docs/nowhere.py::test_x` |"], (1, 1, 0), "there is no"),
        ([f"| 1 | r | kept | `{HERE}`, see there |"], (1, 1, 0), "not a list"),
        ([f"| 2 | r | kept | `{HERE}` |"], (1, 1, 0), "numbered"),
        ([f"| 1 |  | kept | `{HERE}` |"], (1, 1, 0), "empty"),
        ([f"| 1 | r | kept | `{HERE}` |"], (2, 1, 0), "tells"),
        ([f"| 1 | r | kept | `{HERE}` |"], (1, 0, 0), "tells"),
        ([f"| 1 | r | kept | `{HERE}` |"], (1, 1, 1), "tells"),
    ],
)
def test_what_is_wrong_is_found(lines: list[str], count: tuple[int, int, int], problem: str | None) -> None:
    told = "{} rules; {} proven by a test; {} not offered (said why).".format(*count)
    found = problems(page(*lines, count=told))
    if problem is None:
        assert found == []
    else:
        assert len(found) == 1 and problem in found[0]
