"""The page about embedding shows the example as it is, and speaks of what there is."""

import ast
import difflib
import inspect
import re
from pathlib import Path

import buildgrid_scheduler
import pytest
from buildgrid_scheduler import Scheduler, SchedulerError

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "embedding.md").read_text()
EXAMPLE = (ROOT / "examples" / "embedding.py").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of the page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """What stands under a heading."""
    found: str = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    return found


def table(title: str) -> list[list[str]]:
    """The rows of the table under a heading, without its head."""
    rows = [line.strip("|").split("|") for line in section(title).splitlines() if line.startswith("|")]
    return rows[2:]


def code(cell: str) -> set[str]:
    """The names in a cell that are set as code."""
    return set(re.findall(r"`([a-z_]+)`", cell))


def test_its_blocks_one_after_the_other_are_the_example() -> None:
    shown = "\n\n\n".join(block.strip("\n") for block in blocks("python")) + "\n"
    assert shown == EXAMPLE, "".join(
        difflib.unified_diff(shown.splitlines(True), EXAMPLE.splitlines(True), "docs/embedding.md", "example")
    )


def test_no_block_ends_in_the_middle_of_something() -> None:
    for block in blocks("python"):
        ast.parse(block)


def test_every_method_that_reaches_the_database_is_in_the_table_of_what_blocks() -> None:
    told = [name for row in table("What blocks, and for how long") for name in code(row[0])]
    assert len(told) == len(set(told)), "a method is there twice"
    there = {name for name, _ in inspect.getmembers(Scheduler, inspect.isfunction) if name[0] != "_"}
    of_the_callers_transaction = {
        "get_or_create_client_identity_in_store",
        "get_or_create_request_metadata_in_store",
    }
    without_database = {"start", "get_execute_action_metadata", "publish_execution_stats"}
    assert set(told) == there - of_the_callers_transaction - without_database


@pytest.mark.parametrize("row", table("What raises"), ids=lambda row: row[0].strip(" `"))
def test_every_error_is_exported_and_raised_by_methods_that_there_are(row: list[str]) -> None:
    error = getattr(buildgrid_scheduler, row[0].strip(" `"))
    assert issubclass(error, SchedulerError)
    words = {"instance_context", "max_queue_size", "queued_time"}
    for name in code(row[1]) - words:
        assert any(hasattr(kind, name) for kind in (Scheduler, buildgrid_scheduler.PropertySet)), (
            f"there is no {name}"
        )
