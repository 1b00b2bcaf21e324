"""The pictures show what was simulated, and nothing is outside of them."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from buildgrid_operator.simulator.pictures import draw_curves, draw_sizes
from buildgrid_operator.simulator.policies import parse_policy
from buildgrid_operator.simulator.report import Setting, curve, run
from buildgrid_operator.simulator.svg import even, logarithmic
from buildgrid_operator.simulator.trace import Job, trace_of
from buildgrid_operator.simulator.world import FleetModel

TRACE = trace_of("test", [Job(number * 100.0, "linux", 300.0) for number in range(20)])
SETTING = Setting(TRACE, [FleetModel("fleet", 20, frozenset({"linux"}))])
SVG = "{http://www.w3.org/2000/svg}"


def root_of(file: Path) -> ElementTree.Element:
    """Of a picture that was just drawn."""
    return ElementTree.parse(file).getroot()  # noqa: S314 - nobody else's file


def shown(file: Path) -> tuple[list[str], list[tuple[float, float]]]:
    """The words, and the points of lines, areas and dots."""
    root = root_of(file)
    _, _, width, height = (float(part) for part in root.attrib["viewBox"].split())
    words = [element.text or "" for element in root.iter(f"{SVG}text")]
    points = [
        (float(x), float(y))
        for element in root.iter()
        for x, y in (pair.split(",") for pair in element.attrib.get("points", "").split())
    ]
    points += [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in root.iter(f"{SVG}circle")]
    assert points and all(0 <= x <= width and 0 <= y <= height for x, y in points)
    return words, points


def test_curves_have_all_policies_and_a_point_for_each_value(tmp_path: Path) -> None:
    curves = {kind: curve(SETTING, parse_policy(kind)) for kind in ("buildgrid", "arc")}
    draw_curves(curves, SETTING, "a <test>", tmp_path / "waits.svg")
    words, points = shown(tmp_path / "waits.svg")
    assert {"a <test>", "perfect foresight", "buildgrid", "arc", "pod-hours"} <= set(words)
    assert len(points) == 2 * (7 + 6) + 1 + 3


def test_sizes_have_a_panel_for_each_policy_with_its_settings(tmp_path: Path) -> None:
    policies = [parse_policy(text) for text in ("buildgrid:idleTimeout=2m,targetWait=5s", "fixed:size=3")]
    sizes = {str(policy): run(SETTING, policy)[1].sizes for policy in policies}
    draw_sizes(sizes, 1, TRACE, "test", tmp_path / "sizes.svg")
    words, _ = shown(tmp_path / "sizes.svg")
    assert {"buildgrid", "idleTimeout=120", "targetWait=5", "fixed", "size=3", "hours"} <= set(words)
    root = root_of(tmp_path / "sizes.svg")
    assert len(list(root.iter(f"{SVG}polygon"))) == len(list(root.iter(f"{SVG}polyline"))) == 2


@pytest.mark.parametrize("values", [[1.0], [0.1, 1800.0], [17.2, 90.7], [5.0, 5.0], [0.013, 0.014]])
def test_a_logarithmic_axis_holds_all_values_between_marks(values: list[float]) -> None:
    axis = logarithmic(values)
    assert all(-0.01 <= axis.share(value) <= 1.01 for value in values) and len(axis.marks) >= 2


@pytest.mark.parametrize("last", [0.3, 1.0, 8.9, 200.0, 223.0])
def test_an_even_axis_has_a_few_round_marks(last: float) -> None:
    marks = even(last, most=3).marks
    assert marks[0] == 0 and 2 <= len(marks) <= 4 and marks[-1] <= last * 1.001
