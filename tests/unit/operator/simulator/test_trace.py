"""Traces are files that people make: what is wrong in them is named."""

from pathlib import Path

import pytest
from buildgrid_operator.simulator.trace import Job, read_trace, trace_of, write_trace


def test_a_trace_is_read_as_it_was_written(tmp_path: Path) -> None:
    trace = trace_of("week", [Job(3.5, "Pool=gpu", 1.25), Job(0.0, "", 2.0)])
    write_trace(trace, tmp_path / "week.csv")
    assert read_trace(tmp_path / "week.csv") == trace


def test_the_first_job_is_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("duration_seconds,arrival_seconds,requirement\n5,1000,x\n6,1002,x\n")
    assert [job.arrival for job in read_trace(tmp_path / "a.csv").jobs] == [0.0, 2.0]


@pytest.mark.parametrize(
    "text, message",
    [
        ("arrival_seconds,requirement\n1,x\n", "lacks the column duration_seconds"),
        ("arrival_seconds,requirement,duration_seconds\n", "has no jobs"),
        ("arrival_seconds,requirement,duration_seconds\n1,x,2\n1,x,soon\n", ":3: duration_seconds 'soon'"),
        ("arrival_seconds,requirement,duration_seconds\n-1,x,2\n", ":2: arrival_seconds '-1'"),
        ("arrival_seconds,requirement,duration_seconds\nnan,x,2\n", ":2: arrival_seconds 'nan'"),
        ("arrival_seconds,requirement,duration_seconds\n1\n", ":2: duration_seconds ''"),
    ],
)
def test_a_bad_file_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "bad.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"bad\.csv") as raised:
        read_trace(file)
    assert message in str(raised.value)
