"""The chart's templates give the commands flags that they have."""

import argparse
import importlib

import pytest
from buildgrid_operator.cli.main import COMMANDS

from tests.unit.charts.rendering import Json, needs_helm, objects, template

pytestmark = needs_helm
VALUES: dict[str, Json] = {
    "cluster-wide": {},
    "namespaced": {"operator": {"scope": "Namespaced", "allowUnsafePodTemplates": True}},
    "KEDA": {"operator": {"externalScaler": {"enabled": True}}},
    "air gap": {"global": {"imageRegistry": "mirror.example.org", "imagePullSecrets": ["a", "b"]}},
}


def _commands(values: Json) -> list[list[str]]:
    rendered = template(values, release="demo", namespace="home")
    assert rendered.returncode == 0, rendered.stderr
    found: list[list[str]] = []
    for obj in objects(rendered.stdout):
        pod = ((obj.get("spec") or {}).get("template") or {}).get("spec") or {}
        ours = [each for each in pod.get("containers", ()) if "/operator:" in each["image"]]
        found += [each["args"] for each in ours]
    return found


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_of_the_operators_image_gives_flags_that_are_known(name: str) -> None:
    commands = _commands(VALUES[name])
    # Helm shows Jobs of all hooks but the upgrade's, which it shows for upgrades only.
    assert {command[0] for command in commands} >= {"run", "drain"}
    for command, *arguments in commands:
        assert command in COMMANDS
        parser = argparse.ArgumentParser(exit_on_error=False)
        module = importlib.import_module(f"buildgrid_operator.cli.{command.replace('-', '_')}")
        module.configure(parser)
        parser.parse_args(arguments)
