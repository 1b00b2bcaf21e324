"""What the models say, the API server does: it refuses, names the field, accepts, and fills in defaults."""

import json
from typing import Any

import pytest
from buildgrid_operator.api.crd import KINDS, crd_of
from buildgrid_operator.api.resource import Resource

from tests.cluster.api.bad import Bad, BadEdit
from tests.cluster.api.bad_objects import BAD, BAD_EDITS, GOOD_EDITS
from tests.cluster.api.fleets import GOOD_FLEETS, fleet
from tests.cluster.api.objects import GOOD, Json, property_set, scheduler
from tests.cluster.conftest import Kubectl

pytestmark = pytest.mark.usefixtures("crds")
_KINDS = {kind.names.kind: kind for kind in KINDS}
_GOOD = [*GOOD.values(), *GOOD_FLEETS.values()]


def stored_as(kubectl: Kubectl, obj: Json, namespace: str) -> Json:
    """An object as the API server has it."""
    kind, name = obj["kind"].lower(), obj["metadata"]["name"]
    found: Json = json.loads(kubectl("get", kind, name, "-n", namespace, "-o", "json", check=True).stdout)
    return found


def remove(kubectl: Kubectl, obj: Json, namespace: str) -> None:
    """Away with what another test has made of this name."""
    kind, name = obj["kind"].lower(), obj["metadata"]["name"]
    kubectl("delete", kind, name, "-n", namespace, "--ignore-not-found", check=True)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.names.kind)
def test_the_api_server_accepts_the_crd(kind: type[Resource[Any, Any]], kubectl: Kubectl) -> None:
    crd = crd_of(kind)
    answer = kubectl("get", "crd", crd["metadata"]["name"], "-o", "json", check=True)
    stored = json.loads(answer.stdout)
    assert stored["spec"]["versions"][0]["schema"] == crd["spec"]["versions"][0]["schema"]
    conditions = {each["type"]: each["status"] for each in stored["status"]["conditions"]}
    assert conditions["NamesAccepted"] == conditions["Established"] == "True"
    assert "NonStructuralSchema" not in conditions


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_object_is_refused_at_apply_with_its_field_named(bad: Bad, apply: Kubectl) -> None:
    answer = apply(bad.obj, "--dry-run=server")
    assert answer.returncode != 0, answer.stdout
    assert bad.field in answer.stderr
    assert bad.says in answer.stderr


@pytest.mark.parametrize("obj", _GOOD, ids=[*GOOD, *GOOD_FLEETS])
def test_a_good_object_is_accepted_with_the_defaults_of_the_model(
    obj: Json, apply: Kubectl, kubectl: Kubectl, namespace: str
) -> None:
    apply(obj, check=True)
    stored = stored_as(kubectl, obj, namespace)
    resource = _KINDS[obj["kind"]]
    parsed = resource.parse(stored)
    assert parsed.spec == resource.parse(obj).spec
    written = resource.parse(obj | {"spec": stored["spec"]}).spec.to_dict()
    assert parsed.spec.to_dict() == written
    assert _missing(written, stored["spec"]) <= {"storage"}, "only this default is not for the API server"
    assert stored["status"] == {"observedGeneration": -1}


def _missing(wanted: Json, found: Json) -> set[str]:
    """Paths that the model fills in and the API server does not."""
    missing = {name for name in wanted if name not in found}
    for name, value in wanted.items():
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            missing |= {f"{name}.{below}" for below in _missing(value, found[name])}
    return missing


@pytest.mark.parametrize("edit", BAD_EDITS, ids=lambda edit: edit.name)
def test_an_edit_that_is_not_allowed_is_refused_with_its_field_named(
    edit: BadEdit, apply: Kubectl, kubectl: Kubectl, namespace: str
) -> None:
    remove(kubectl, edit.before, namespace)
    apply(edit.before, check=True)
    answer = apply(edit.after, "--dry-run=server")
    assert answer.returncode != 0, answer.stdout
    assert edit.field in answer.stderr
    assert edit.says in answer.stderr


@pytest.mark.parametrize("way", [[], ["--server-side"]], ids=["client-side", "server-side"])
@pytest.mark.parametrize(("before", "after"), GOOD_EDITS)
def test_other_edits_are_allowed(
    before: Json, after: Json, way: list[str], apply: Kubectl, kubectl: Kubectl, namespace: str
) -> None:
    remove(kubectl, before, namespace)
    apply(before, *way, check=True)
    apply(after, *way, check=True)
    stored = stored_as(kubectl, after, namespace)
    resource = _KINDS[after["kind"]]
    assert resource.parse(stored).spec == resource.parse(after).spec


def test_all_problems_are_told_at_once(apply: Kubectl) -> None:
    bad = scheduler(
        jobs={"maxExecutionTimeout": "0s"}, instances=["blobs"], upgradePolicy="Automatic", image="x"
    )
    answer = apply(bad, "--dry-run=server")
    for field in ("spec.jobs.maxExecutionTimeout", "spec.instances", "spec.upgradePolicy"):
        assert field in answer.stderr


def test_short_names_category_and_columns(apply: Kubectl, kubectl: Kubectl, namespace: str) -> None:
    apply(scheduler("shown"), check=True)
    apply(property_set("shown"), check=True)
    apply(fleet("shown"), check=True)
    in_category = kubectl("get", "buildgrid", "-n", namespace, "-o", "name", check=True).stdout
    assert "scheduler.buildgrid.build/shown" in in_category
    assert "propertyset.buildgrid.build/shown" in in_category
    assert "botfleet.buildgrid.build/shown" in in_category
    wide = kubectl("get", "bgs", "shown", "-n", namespace, "-o", "wide", check=True).stdout
    assert wide.splitlines()[0].split() == [
        "NAME", "READY", "CONFIG", "REPLICAS", "SERVING", "QUEUED", "EXECUTING", "OLDEST", "BOTS", "ENDPOINT",
        "IMAGE", "MESSAGE", "AGE",
    ]  # fmt: skip
    table = kubectl("get", "bgps", "shown", "-n", namespace, check=True).stdout
    assert table.splitlines()[0].split() == ["NAME", "KIND", "USED", "BY", "READY", "AGE"]
    table = kubectl("get", "bgf", "shown", "-n", namespace, check=True).stdout
    assert table.splitlines()[0].split() == [
        "NAME", "DESIRED", "READY", "IDLE", "BUSY", "DRAINING", "QUEUED", "OLDEST", "AGE",
    ]  # fmt: skip


def test_every_field_is_explained(kubectl: Kubectl) -> None:
    answer = kubectl("explain", "bgs.spec.storage.managed.size", check=True).stdout
    assert "it can grow where" in answer
    answer = kubectl("explain", "bgf.spec.scaling.schedules.timeZone", check=True).stdout
    assert "Europe/Berlin" in answer


EMPTY_SECTIONS = {
    "dynamic": property_set(dynamic={}),
    "mtls": scheduler(
        auth={"mtls": {}, "policy": [{"identities": [{"subject": "**"}], "rights": ["Administer"]}]},
        tls={"secretName": "tls", "clientCaSecretRef": {"name": "ca", "key": "ca.crt"}},
    ),
}


@pytest.mark.parametrize("section", EMPTY_SECTIONS)
def test_a_section_that_is_empty_stays_there_when_it_is_applied_again(
    section: str, apply: Kubectl, kubectl: Kubectl, namespace: str
) -> None:
    obj = EMPTY_SECTIONS[section]
    obj["metadata"]["name"] = f"empty-{section}"
    for _ in range(3):
        apply(obj, "--server-side", check=True)
    stored = stored_as(kubectl, obj, namespace)
    assert stored["metadata"]["generation"] == 1
    assert section in json.dumps(stored["spec"])
