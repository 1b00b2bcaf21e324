"""Tables for people."""

from datetime import timedelta

import pytest
from buildgrid_scheduler.cli.table import brief, table

ROWS = [("a", "1", "short"), ("bbb", "22", "a long text at the end")]


def test_columns_are_aligned() -> None:
    assert table(("X", "N", "WHAT"), ROWS, None) == [
        "X    N   WHAT",
        "a    1   short",
        "bbb  22  a long text at the end",
    ]


def test_no_line_is_wider_than_the_terminal() -> None:
    lines = table(("X", "N", "WHAT"), ROWS, 24)
    assert max(map(len, lines)) <= 24
    assert lines[2].endswith("…")
    assert lines[1].endswith("short")


def test_a_very_narrow_terminal_still_shows_the_beginning_of_the_last_column() -> None:
    assert table(("X", "N", "WHAT"), ROWS, 5)[2] == "bbb  22  a long text…"


def test_without_rows_there_are_headings() -> None:
    assert table(("X", "Y"), [], 80) == ["X  Y"]


def test_what_clients_say_does_not_break_a_table_or_reach_the_terminal() -> None:
    assert table(("X", "Y"), [("a\nb", "\x1b[31mred\x07")], None)[1] == "a b   [31mred"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "0s"),
        (0.4, "0s"),
        (59, "59s"),
        (61, "1m01s"),
        (599, "9m59s"),
        (600, "10m"),
        (3600, "1h00m"),
        (86399, "23h59m"),
        (90000, "1d1h"),
    ],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert brief(timedelta(seconds=seconds)) == shown
