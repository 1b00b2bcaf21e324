"""Takes single rules away from the operator's ServiceAccount, and gives them back.

Import the fixtures.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.connection import connect
from buildgrid_operator.cluster.kinds import BOT_FLEET, ObjectRef
from kubernetes import client as kubernetes

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.accounts import ACCOUNT, grant, kubeconfig_of, rules_of
from tests.cluster.operator.processes import condition, eventually

Json = dict[str, Any]
Permission = tuple[str, str, str]
"""(API group, resource, verb), as a row of tests/unit/charts/permissions.py has it"""


class Rules:
    """The chart's, of which some are withheld."""

    def __init__(
        self, client: Client, api: kubernetes.ApiClient, namespace: str, objects: list[Json]
    ) -> None:
        """All hold. `objects`: see accounts.rules_of; they are in the cluster already."""
        self._client = client
        self._reviews = kubernetes.AuthorizationV1Api(api)
        self._namespace = namespace
        self._roles = [obj for obj in objects if obj["kind"] == "Role"]
        self._withheld: set[Permission] = set()
        self._applied: dict[str, Json] = {}

    def withhold(self, permissions: Iterable[Permission]) -> None:
        """These, and no others. Waits until the API server does as the rules say."""
        before, self._withheld = self._withheld, set(permissions)
        for role in self._roles:
            name, less = role["metadata"]["name"], self._less(role)
            if self._applied.get(name) != less:
                self._client.apply(less, manager="test", force=True)
                self._applied[name] = less
        for permission in before ^ self._withheld:
            wanted = permission not in self._withheld
            eventually(lambda p=permission, w=wanted: self._may(p) == w, f"{permission} is {wanted}")  # type: ignore[misc]

    def _less(self, role: Json) -> Json:
        """With a rule for each resource, since what is withheld are single verbs of single resources."""
        changed: Json = json.loads(json.dumps(role))
        changed["rules"] = [
            {**rule, "resources": [resource], "verbs": verbs}
            for rule in role["rules"]
            for resource in rule["resources"]
            if (verbs := self._verbs(rule["apiGroups"][0], resource, rule["verbs"]))
        ]
        return changed

    def _verbs(self, group: str, resource: str, verbs: list[str]) -> list[str]:
        return [verb for verb in verbs if (group, resource, verb) not in self._withheld]

    def _may(self, permission: Permission) -> bool:
        group, resource, verb = permission
        name, _, subresource = resource.partition("/")
        attributes = kubernetes.V1ResourceAttributes(
            group=group,
            resource=name,
            subresource=subresource,
            verb=verb,
            namespace=self._namespace,
            name=self._name(group, resource, verb),
        )
        user = f"system:serviceaccount:{self._namespace}:{ACCOUNT}"
        spec = kubernetes.V1SubjectAccessReviewSpec(user=user, resource_attributes=attributes)
        review = self._reviews.create_subject_access_review(kubernetes.V1SubjectAccessReview(spec=spec))
        return review.status is not None and review.status.allowed

    def _name(self, group: str, resource: str, verb: str) -> str:
        """Of the one object that a rule is bound to; empty if it is not."""
        names = [
            name
            for role in self._roles
            for rule in role["rules"]
            if group in rule["apiGroups"] and resource in rule["resources"] and verb in rule["verbs"]
            for name in rule.get("resourceNames", ())
        ]
        return names[0] if names else ""


@pytest.fixture(scope="module")
def kubeconfig(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """How the ServiceAccount reaches the cluster."""
    grant(kubectl, rules_of(namespace, {"scope": "Namespaced"}))
    return kubeconfig_of(kubectl, namespace, tmp_path_factory.mktemp("kubeconfig") / "config")


@pytest.fixture(scope="module")
def all_rules(client: Client, namespace: str, kubeconfig: Path) -> Iterator[Rules]:
    """Of the file's operators."""
    with closing(connect(user_agent="test")) as api:
        yield Rules(client, api, namespace, rules_of(namespace, {"scope": "Namespaced"}))


@pytest.fixture
def rules(all_rules: Rules) -> Rules:
    """All hold."""
    all_rules.withhold(())
    return all_rules


def named(group: str, resource: str, verb: str) -> str:
    """The words for a rule that is missing."""
    return f'the verb {verb} on {resource} in the API group "{group}"'


def says(client: Client, ref: ObjectRef, name: str, words: str) -> None:
    """Wait until the message of a condition has these words."""

    def look() -> bool:
        return words in condition(client, ref, name).get("message", "")

    try:
        eventually(look, "", timeout=45)
    except AssertionError:
        raise AssertionError(f"{ref}: {name} does not say {words}: {condition(client, ref, name)}") from None


def apply_fleet(kubectl: Kubectl, namespace: str, name: str, scheduler: str, **spec: Any) -> ObjectRef:
    """A BotFleet that is to have one bot."""
    obj = {
        "apiVersion": "buildgrid.build/v1alpha1",
        "kind": "BotFleet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"schedulerRef": {"name": scheduler}, "scaling": {"minBots": 1}, **spec},
    }
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(obj), check=True)
    return ObjectRef(BOT_FLEET, namespace, name)
