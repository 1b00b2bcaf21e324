"""The chart's ServiceAccount of the operator, with its rules, and how it reaches the cluster."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.conftest import Kubectl
from tests.unit.charts.rendering import objects, template

Json = dict[str, Any]
RELEASE = "rel"
ACCOUNT = f"{RELEASE}-buildgrid-operator"
FLAGS = (f"--leader-election-name={ACCOUNT}", f"--service-account={ACCOUNT}")
"""the Lease, and the tokens, that its rules are bound to"""
_KINDS = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def rules_of(namespace: str, operator: Json) -> list[Json]:
    """The chart's objects that say what the operator may do, with these values of `operator`."""
    rendered = template({"operator": operator}, release=RELEASE, namespace=namespace)
    assert rendered.returncode == 0, rendered.stderr
    found = objects(rendered.stdout)
    return [obj for obj in found if obj["kind"] in _KINDS and ACCOUNT in obj["metadata"]["name"]]


def grant(kubectl: Kubectl, rules: Iterable[Json]) -> None:
    """They hold from now on, and none of them that held before and is not among their rules."""
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(rules), check=True)


def withdraw(kubectl: Kubectl, rules: Iterable[Json]) -> None:
    """They do not hold any more."""
    kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all(rules), check=True)


def kubeconfig_of(kubectl: Kubectl, namespace: str, file: Path) -> Path:
    """How the ServiceAccount reaches the cluster; written to `file`."""
    token = kubectl("-n", namespace, "create", "token", ACCOUNT, check=True).stdout.strip()
    config: Json = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json", check=True).stdout)
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file.write_text(yaml.safe_dump(config))
    return file
