"""The page about commands names what there is."""

import argparse
import importlib
import re
from pathlib import Path

import pytest
from buildgrid_scheduler.cli.main import COMMANDS

PAGE = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
EVERYWHERE = {"--help", "--config", "--data", "--database-url", "--instance"}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_flag_is_on_the_page_and_the_other_way_round(name: str) -> None:
    parser = argparse.ArgumentParser()
    module = importlib.import_module(f"buildgrid_scheduler.cli.{name.replace('-', '_')}")
    subparsers = parser.add_subparsers()
    module.add_parser(subparsers)
    known = {flag for action in subparsers.choices[name]._actions for flag in action.option_strings}
    lines = [line for line in PAGE.replace("\n[", " [").splitlines() if line.lstrip("| `").startswith(name)]
    assert lines, f"{name} is not on the page"
    told = {flag for line in lines for flag in re.findall(r"--[a-z-]+", line)}
    assert told <= known
    assert {flag for flag in known if flag.startswith("--")} - EVERYWHERE <= told
