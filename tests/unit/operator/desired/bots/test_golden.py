"""Everything that is made for a BotFleet, and one of its pods, to be read. UPDATE_GOLDEN=1 writes them."""

import os
from pathlib import Path

import pytest
import yaml
from buildgrid_operator.desired.bots import bot_pod, fleet_objects

from tests.unit.operator.desired.bots.cases import CASES
from tests.unit.operator.desired.test_golden import _Dumper

GOLDEN = Path(__file__).parent / "golden"


def rendered(name: str) -> str:
    objects = [*fleet_objects(CASES[name]), bot_pod(CASES[name], 7)]
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=1000)


@pytest.mark.parametrize("name", CASES)
def test_the_objects_are_those_of_the_golden_file(name: str) -> None:
    file = GOLDEN / f"{name}.yaml"
    text = rendered(name)
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert file.exists(), f"{file} is missing; UPDATE_GOLDEN=1 writes it"
    assert text == file.read_text(encoding="utf-8"), "UPDATE_GOLDEN=1 writes the file again"


def test_there_is_no_golden_file_that_nobody_looks_at() -> None:
    assert {file.stem for file in GOLDEN.glob("*.yaml")} == set(CASES)
