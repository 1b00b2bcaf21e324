"""`buildgrid-operator simulate`: a table, JSON, pictures, and the cheapest settings."""

import json
from pathlib import Path

import pytest
from buildgrid_operator.cli.main import main


@pytest.fixture
def trace(tmp_path: Path) -> str:
    file = tmp_path / "week.csv"
    rows = [f"{minute * 600 + job},Pool=x,{20 + job}" for minute in range(6) for job in range(10)]
    file.write_text("\n".join(["arrival_seconds,requirement,duration_seconds", *rows]))
    return str(file)


def test_every_policy_has_a_line(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--trace", trace]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("week: 60 jobs")
    assert [line.split()[0] for line in told[3:]] == [
        "buildgrid",
        "hpa",
        "keda",
        "arc",
        "percentile",
        "fixed",
    ]


def test_settings_are_taken_and_shown(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    policies = ["--policy", "buildgrid:idleTimeout=15s", "--policy", "buildgrid:idleTimeout=20m"]
    assert main(["simulate", "--trace", trace, *policies, "--json"]) == 0
    short, long = json.loads(capsys.readouterr().out)["policies"]
    assert short["policy"] == "buildgrid:idleTimeout=15"
    assert short["pod_seconds"] < long["pod_seconds"] and short["wait_p50"] >= long["wait_p50"]
    assert short["interrupted"] == 0


def test_pictures_are_drawn(trace: str, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    assert main(["simulate", "--trace", trace, "--policy", "buildgrid", "--pictures", str(folder)]) == 0
    for name in ("week-waits.svg", "week-sizes.svg"):
        assert b"<svg" in (folder / name).read_bytes()


def test_the_cheapest_settings_that_hold_a_wait(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--trace", trace, "--search", "60s", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    holding = [each["pod_seconds"] for each in found["tried"] if each["wait_p95"] <= 60]
    assert found["best"]["pod_seconds"] == min(holding) < max(holding)


def test_a_wait_that_nothing_holds_is_told(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--trace", trace, "--search", "1ms", "--max-bots", "2"]) == 1
    assert "no settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--policy", "vpa"], "there is no policy 'vpa'; there are buildgrid, hpa"),
        (["--policy", "hpa:x=1"], "'x=1' is not a setting of hpa; those are target"),
        (["--policy", "hpa:target=much"], "target: 'much' is no number"),
    ],
)
def test_a_bad_policy_is_named(
    trace: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--trace", trace, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_missing_trace_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--trace", "/nowhere.csv"]) == 2
    assert "/nowhere.csv" in capsys.readouterr().err


def test_two_fleets_in_one_run_share_the_work_by_what_they_serve_and_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # As `buildgrid-scheduler export-history` writes requirements: like the query of a URL.
    file = tmp_path / "trace.csv"
    rows = [f"{number:.3f},ISA=x86-64{'&Pool=gpu' if number % 4 == 0 else ''},30.000" for number in range(40)]
    file.write_text("\n".join(["arrival_seconds,requirement,duration_seconds", *rows]) + "\n")
    fleets = ["--fleet", "gpu:serves=*Pool=gpu*,cost=5", "--fleet", "linux:serves=ISA=x86-64"]
    assert main(["simulate", "--trace", str(file), "--policy", "buildgrid", *fleets, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bounds"]["work"] == 10 * 30 * 5 + 30 * 30
    (ours,) = told["policies"]
    assert ours["pod_seconds"] < ours["cost"] < 5 * ours["pod_seconds"]


def test_costs_and_losses_have_columns_where_there_are_any(
    trace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", "--trace", trace, "--policy", "buildgrid"]) == 0
    plain = capsys.readouterr().out.splitlines()[2]
    assert main(["simulate", "--trace", trace, "--policy", "fixed", "--fleet", "a:lostAfter=1m,cost=2"]) == 0
    lossy = capsys.readouterr().out.splitlines()[2]
    assert set(lossy.split()) - set(plain.split()) == {"cost", "lost"}


def test_a_fleet_that_leaves_jobs_out_is_named(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--trace", trace, "--fleet", "gpu:serves=*gpu*"]) == 2
    assert "no fleet serves jobs that require 'Pool=x'" in capsys.readouterr().err


def test_a_policy_that_never_does_the_jobs_is_named(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--trace", trace, "--policy", "fixed:size=0"]) == 2
    assert "fixed:size=0: 60 of 60 jobs were never done" in capsys.readouterr().err


def test_others_are_held_against_ours_at_equal_waits(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--trace", trace, "--policy", "arc", "--equal-wait", "10m"]) == 0
    told = capsys.readouterr().out
    assert "worst for buildgrid" in told and "x policy" in told
