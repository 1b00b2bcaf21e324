"""CRDs of another version, made from this one's: without fields that are new, with some that are gone."""

import json
from collections.abc import Mapping
from typing import Any

import yaml

from tests.cluster.conftest import ROOT, Kubectl

Json = dict[str, Any]
PLURALS = ("schedulers", "propertysets", "botfleets")


def crds_of(without: Mapping[str, tuple[str, ...]], also: Mapping[str, Mapping[str, Json]]) -> list[Json]:
    """By plural: paths of fields that they do not have (`spec.logging`), and schemas of fields that they have
    besides."""
    found = []
    for plural in PLURALS:
        text = (ROOT / "crds" / f"buildgrid.build_{plural}.yaml").read_text(encoding="utf-8")
        crd: Json = yaml.safe_load(text)
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for path in without.get(plural, ()):
            parent, name = _parent(schema, path)
            del parent[name]
        for path, added in also.get(plural, {}).items():
            parent, name = _parent(schema, path)
            assert name not in parent
            parent[name] = dict(added)
        found.append(crd)
    return found


def _parent(schema: Json, path: str) -> tuple[Json, str]:
    *sections, name = path.split(".")
    for section in sections:
        schema = schema["properties"][section]
    properties: Json = schema["properties"]
    return properties, name


def install(kubectl: Kubectl, crds: list[Json]) -> None:
    """Waits until the API server knows exactly the fields of these."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": crds})
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=kubectl", "-f", "-")
    kubectl(*apply, stdin=text, check=True)
    names = [f"crd/{crd['metadata']['name']}" for crd in crds]
    kubectl("wait", "--for=condition=Established", "--timeout=60s", *names, check=True, timeout=90)
