"""Each rule of the operator has its row in the table of what happens without it, on the page, and a test."""

import re
from collections import Counter

from tests.unit.charts.permissions import ROWS
from tests.unit.charts.rendering import ROOT, is_hook, needs_helm, rendered

pytestmark = needs_helm
PAGE = (ROOT / "docs" / "rbac.md").read_text(encoding="utf-8")


def _rules() -> set[tuple[str, str, str]]:
    """Of all Roles and ClusterRoles of the operator: (API group, resource, verb)."""
    return {
        (group, resource, verb)
        for obj in rendered("defaults")
        if obj["kind"] in ("Role", "ClusterRole")
        and "demo-buildgrid-operator" in obj["metadata"]["name"]
        and not is_hook(obj)
        for rule in obj["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_each_rule_has_one_row_and_each_row_a_rule() -> None:
    rows = Counter(permission for row in ROWS for permission in row.permissions())
    assert [permission for permission, count in rows.items() if count > 1] == []
    assert set(rows) - _rules() == set(), "rows without a rule"
    assert _rules() - set(rows) == set(), "rules without a row"


def _section(title: str) -> list[str]:
    """The lines of tables."""
    text = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_the_page_says_what_happens_without_each_rule() -> None:
    assert _section("Without a rule") == [row.line() for row in ROWS], (
        "print(row.line()) for each, and paste it"
    )


def test_the_page_says_why_the_operator_needs_each_rule() -> None:
    told = {
        (resource, verb)
        for line in _section("The operator")
        if (row := re.match(r"\| `([^|]*)` \| ([a-z, ]+) \| \S", line))
        for resource in row[1].split("`, `")
        for verb in row[2].split(", ")
    }
    assert told == {(resource, verb) for _, resource, verb in _rules()}


def test_the_tests_that_show_it_are_there() -> None:
    files = (ROOT / "tests" / "cluster").rglob("test_*.py")
    there = {
        name for file in files for name in re.findall(r"^def (test_\w+)", file.read_text(), re.MULTILINE)
    }
    assert {row.shown for row in ROWS} <= there
