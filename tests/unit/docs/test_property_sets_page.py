"""The examples of the page about property sets, put to what a server makes of its configuration."""

import re
from pathlib import Path

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession
from buildgrid_scheduler.config.load import load_config
from buildgrid_scheduler.core.errors import FailedPrecondition
from buildgrid_scheduler.core.requirements import pairs, satisfies
from buildgrid_scheduler.properties.matching import Matching
from buildgrid_scheduler.properties.property_set import PropertySet
from buildgrid_scheduler.properties.static import StaticPropertySet
from buildgrid_scheduler.server.property_sets import build_property_set

PAGE = (Path(__file__).parents[3] / "docs" / "property-sets.md").read_text()
DYNAMIC, STATIC = PAGE.split("\n## Dynamic: ")[1].split("\n## Static: ")
STATIC = STATIC.split("\n## ")[0]
ACTIONS, JOBS, BOTS = "an action with | label | requires", "a bot with | a job with |", "a bot with | serves"
Pairs = frozenset[tuple[str, str]]
Row = tuple[str, ...]


def rows(section: str, head: str) -> list[Row]:
    """The table with this head."""
    lines = section.splitlines()
    first = lines.index(f"| {head} |")
    found = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        found.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    assert found, f"the table {head!r} is empty"
    return found


def written(cell: str) -> Pairs:
    """The properties in a cell."""
    found = frozenset(re.findall(r"`([\w-]+)=([\w-]+)`", cell))
    assert found or cell == "nothing", f"{cell!r} is not a list of `KEY=VALUE`"
    return found


def shown(row: Row) -> str:
    return " | ".join(row).replace("`", "")


@pytest.fixture
def dynamic(tmp_path: Path) -> PropertySet:
    return configured(DYNAMIC, tmp_path)


@pytest.fixture
def static(tmp_path: Path) -> PropertySet:
    return configured(STATIC, tmp_path)


def configured(section: str, folder: Path) -> PropertySet:
    """The property set of a section's configuration."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    file = folder / "server.yaml"
    file.write_text(text)
    return build_property_set(load_config(file, environment={}).property_set)


def platform(asked: Pairs) -> Platform:
    return Platform(properties=[Platform.Property(name=name, value=value) for name, value in sorted(asked)])


def bot(offered: Pairs) -> BotSession:
    session = BotSession()
    device = session.worker.devices.add()
    for key, value in sorted(offered):
        device.properties.add(key=key, value=value)
    return session


def check_action(properties: PropertySet, row: Row) -> None:
    asked, label, requires = row
    if label == "refused":
        with pytest.raises(FailedPrecondition) as caught:
            properties.execution_properties(platform(written(asked)))
        assert requires in str(caught.value)
        return
    got, requirements = properties.execution_properties(platform(written(asked)))
    assert f"`{got}`" == label
    assert pairs(requirements) == written(requires)


@pytest.mark.parametrize("row", rows(DYNAMIC, ACTIONS), ids=shown)
def test_what_an_action_requires_of_a_dynamic_set(dynamic: PropertySet, row: Row) -> None:
    check_action(dynamic, row)


@pytest.mark.parametrize("row", rows(STATIC, ACTIONS), ids=shown)
def test_what_an_action_requires_of_a_static_set(static: PropertySet, row: Row) -> None:
    check_action(static, row)


@pytest.mark.parametrize("row", rows(DYNAMIC, JOBS), ids=shown)
def test_which_bot_takes_which_job_with_a_dynamic_set(dynamic: PropertySet, row: Row) -> None:
    offered, asked, verdict = row
    matching = Matching(dynamic)
    _, requirements = dynamic.execution_properties(platform(written(asked)))
    takes = satisfies(matching.offer(bot(written(offered))), matching.requires(requirements))
    assert verdict == ("takes it" if takes else "does not")


@pytest.mark.parametrize("row", rows(STATIC, BOTS), ids=shown)
def test_which_bot_serves_which_labels_of_a_static_set(static: PropertySet, row: Row) -> None:
    offered, serves = row
    assert isinstance(static, StaticPropertySet)
    matching = Matching(static)
    if serves == "refused":
        with pytest.raises(FailedPrecondition, match="serves no label"):
            matching.offer(bot(written(offered)))
        return
    labels = [
        f"`{label.label}`"
        for label in static.property_labels
        if satisfies(matching.offer(bot(written(offered))), frozenset(label.properties))
    ]
    assert ", ".join(labels) == serves


def test_a_property_that_only_plain_bots_have_keeps_the_dear_ones_free(tmp_path: Path) -> None:
    plain = "        - {key: ISA, value: x86-64}\n    - label: gpu"
    assert plain in STATIC
    marked = plain.replace("\n    -", "\n        - {key: Accelerator, value: none}\n    -")
    matching = Matching(configured(STATIC.replace(plain, marked), tmp_path))
    machine = frozenset({("OSFamily", "linux"), ("ISA", "x86-64")})
    _, job = matching.property_set.execution_properties(platform(frozenset()))
    requires = matching.requires(job)
    assert satisfies(matching.offer(bot(machine | {("Accelerator", "none")})), requires)
    assert not satisfies(matching.offer(bot(machine | {("Accelerator", "a100")})), requires)
