"""Looking at bundles: by kind and name, the pods, the configurations."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buildgrid_operator.desired import Bundle, Inputs, build
from buildgrid_scheduler.config import Config, load_config

Json = dict[str, Any]


def one(bundle: Bundle, kind: str, name: str) -> Json:
    """The object, which must be there once."""
    (found,) = [obj for obj in bundle.objects if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
    return found


def kinds(bundle: Bundle) -> list[str]:
    """The kinds of all objects, in order."""
    return [obj["kind"] for obj in bundle.objects]


def templates(bundle: Bundle) -> Iterator[Json]:
    """The pod templates."""
    for obj in bundle.objects:
        if "template" in obj.get("spec", {}):
            yield obj["spec"]["template"]


def deployment(inputs: Inputs) -> Json:
    """The Deployment of the replicas."""
    return one(build(inputs), "Deployment", f"{inputs.metadata.name}-scheduler")


def container(template: Json, name: str) -> Json:
    """A container of a pod template, an init container included."""
    spec = template["spec"]
    found: Json
    (found,) = [each for each in spec["containers"] + spec.get("initContainers", []) if each["name"] == name]
    return found


def loaded(text: str, folder: Path) -> Config:
    """A configuration, as the scheduler reads its file."""
    file = folder / "scheduler.yaml"
    file.write_text(text, encoding="utf-8")
    return load_config(file, environment={})
