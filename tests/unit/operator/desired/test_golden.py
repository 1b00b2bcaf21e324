"""Everything that is made for a Scheduler, to be read. UPDATE_GOLDEN=1 writes the files again."""

import os
from pathlib import Path

import pytest
import yaml
from buildgrid_operator.desired import build

from tests.unit.operator.desired.cases import CASES

GOLDEN = Path(__file__).parent / "golden"


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks, nothing by reference."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def rendered(name: str) -> str:
    return yaml.dump_all(build(CASES[name]).objects, Dumper=_Dumper, sort_keys=False, width=1000)


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
