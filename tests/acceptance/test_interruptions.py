"""Builds that their user gives up, and resumes."""

import pytest

from tests.acceptance.bazel import Bazel
from tests.acceptance.gate import STEPS, Gate

pytestmark = pytest.mark.xdist_group("bazel")

INTERRUPTED = 8
GATED = "//gated:gated"


def gated_text() -> str:
    return "".join(f"{step} is done\n" for step in sorted(STEPS))


def test_a_build_that_was_interrupted_goes_on_where_it_was(bazel: Bazel, endpoint: str, gate: Gate) -> None:
    build = bazel.start(endpoint, "build", GATED, *gate.flags)
    gate.wait_for(2)
    build.interrupt()
    interrupted = build.result()
    assert interrupted.exit_code == INTERRUPTED, interrupted.output

    gate.open()
    bazel.run(endpoint, "build", GATED, *gate.flags).succeeded()

    assert bazel.output("gated/gated.txt").read_text() == gated_text()
    # What ran meanwhile was not run again.
    assert gate.all_arrivals() == sorted(STEPS)


def test_a_build_joins_what_an_interrupted_one_left_running(bazel: Bazel, endpoint: str, gate: Gate) -> None:
    first = bazel.start(endpoint, "build", GATED, *gate.flags)
    gate.wait_for(2)
    first.interrupt()
    first.result()

    second = bazel.start(endpoint, "build", "--subcommands", GATED, *gate.flags)
    second.wait_for_line("SUBCOMMAND", times=len(STEPS))
    gate.open()
    second.result().succeeded()

    assert bazel.output("gated/gated.txt").read_text() == gated_text()
    assert gate.all_arrivals() == sorted(STEPS)
