"""PropertySets that are missing, wrong, edited and deleted, and the jobs that an edit would orphan."""

from collections.abc import Iterator

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import CONFIG_MAP, DEPLOYMENT, PROPERTY_SET, ObjectRef

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply
from tests.cluster.operator.fleet import PlayedFleet
from tests.cluster.operator.processes import becomes, condition, eventually

pytestmark = pytest.mark.usefixtures("operator")
WIDE = {"matchKeys": ["OSFamily", "ISA", "Pool"]}
NARROW = {"matchKeys": ["OSFamily", "ISA"]}
ALLOW = "buildgrid.build/allow-orphans"


@pytest.fixture(autouse=True)
def nothing_waits(fleet: PlayedFleet) -> Iterator[None]:
    """No test leaves jobs to the next one."""
    yield
    fleet.waiting()


def _config(client: Client, namespace: str, name: str) -> str:
    text: str = client.get(CONFIG_MAP, namespace, f"{name}-config")["data"]["scheduler.yaml"]
    return text


def _named(name: str) -> dict[str, dict[str, str]]:
    return {"propertySetRef": {"name": name}}


def test_a_missing_one_is_waited_for(client: Client, namespace: str, apply: Apply) -> None:
    waits = apply("waits", **_named("later"))
    found = becomes(client, waits, "Ready", "False", "ReferenceMissing")
    assert "PropertySet later does not exist" in found["message"]
    assert client.find(DEPLOYMENT, namespace, "waits-scheduler") is None
    later = apply("later", kind="PropertySet", dynamic=NARROW)
    becomes(client, waits, "Ready", "True")
    becomes(client, waits, "ConfigApplied", "True")
    becomes(client, later, "Ready", "True", "Valid")
    status = client.get(waits.kind, namespace, "waits")["status"]
    assert status["propertySet"] == {"name": "later", "generation": 1, "kind": "Dynamic"}
    users = eventually(
        lambda: client.get(PROPERTY_SET, namespace, "later")["status"].get("schedulers"), "users"
    )
    assert users == ["waits"]


def test_an_edit_reaches_all_its_schedulers(client: Client, namespace: str, apply: Apply) -> None:
    apply("shared", kind="PropertySet", dynamic=WIDE)
    both = [apply(name, **_named("shared")) for name in ("first", "second")]
    for each in both:
        becomes(client, each, "ConfigApplied", "True")
    apply("shared", kind="PropertySet", dynamic={**WIDE, "wildcardKeys": ["another-key"]})
    for each in both:
        eventually(lambda name=each.name: "another-key" in _config(client, namespace, name), "it is written")  # type: ignore[misc]
        becomes(client, each, "ConfigApplied", "True", "Applied")


def test_one_that_is_deleted_while_it_is_used_stays_in_force(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply
) -> None:
    apply("doomed", kind="PropertySet", dynamic={"matchKeys": ["only-here"]})
    keeps = apply("keeps", **_named("doomed"))
    becomes(client, keeps, "ConfigApplied", "True")
    kubectl("-n", namespace, "delete", "propertyset", "doomed", check=True)
    becomes(client, keeps, "Ready", "False", "ReferenceMissing")
    # Other edits go on.
    apply("keeps", **_named("doomed"), logging={"level": "Debug"})
    eventually(lambda: "level: debug" in _config(client, namespace, "keeps").lower(), "it is written")
    assert "only-here" in _config(client, namespace, "keeps")
    assert condition(client, keeps, "Degraded")["status"] == "False"
    apply("doomed", kind="PropertySet", dynamic={"matchKeys": ["only-here"]})
    becomes(client, keeps, "Ready", "True")


def test_an_edit_that_would_orphan_jobs_is_held_until_they_are_gone(
    client: Client, namespace: str, apply: Apply, fleet: PlayedFleet
) -> None:
    apply("held-set", kind="PropertySet", dynamic=WIDE)
    held = apply("held", **_named("held-set"))
    becomes(client, held, "ConfigApplied", "True")
    fleet.waiting((3, {"OSFamily": ["linux"], "Pool": ["big"]}), (4, {"OSFamily": ["linux"]}))
    apply("held-set", kind="PropertySet", dynamic=NARROW)
    found = becomes(client, held, "ConfigApplied", "False", "WouldOrphan")
    assert "3 waiting jobs" in found["message"]
    assert "{OSFamily=linux, Pool=big}" in found["message"]
    assert f"{ALLOW}=2" in found["message"]
    assert "Pool" in _config(client, namespace, "held")
    # It serves on, and other edits are not held.
    becomes(client, held, "Ready", "True")
    apply("held", **_named("held-set"), logging={"level": "Debug"})
    eventually(lambda: "debug" in _config(client, namespace, "held").lower(), "it is written")
    assert "Pool" in _config(client, namespace, "held")
    fleet.waiting((4, {"OSFamily": ["linux"]}))
    becomes(client, held, "ConfigApplied", "True", "Applied")
    assert "Pool" not in _config(client, namespace, "held").replace("Pools", "")


def test_a_person_may_give_the_jobs_up(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, fleet: PlayedFleet
) -> None:
    apply("given-set", kind="PropertySet", dynamic=WIDE)
    given = apply("given", **_named("given-set"))
    becomes(client, given, "ConfigApplied", "True")
    fleet.waiting((1, {"Pool": ["big"]}))
    apply("given-set", kind="PropertySet", dynamic=NARROW)
    becomes(client, given, "ConfigApplied", "False", "WouldOrphan")
    annotate = ("-n", namespace, "annotate", "--overwrite", "schedulers.buildgrid.build", "given")
    # Not for another generation.
    kubectl(*annotate, f"{ALLOW}=1", check=True)
    before = fleet.calls
    eventually(lambda: fleet.calls > before, "another pass")
    assert "Pool" in _config(client, namespace, "given")
    kubectl(*annotate, f"{ALLOW}=2", check=True)
    becomes(client, given, "ConfigApplied", "True", "Applied")
    assert "Pool" not in _config(client, namespace, "given")


def test_an_edit_that_changes_no_property_set_is_not_held(
    client: Client, apply: Apply, fleet: PlayedFleet
) -> None:
    same = apply("same")
    becomes(client, same, "ConfigApplied", "True")
    fleet.waiting((1, {"a-key-that-nobody-knows": ["x"]}))
    apply("same", logging={"level": "Debug"})
    becomes(client, same, "ConfigApplied", "True", "Applied")


def test_an_invalid_spec_that_slipped_past_the_api_server_changes_nothing_that_runs(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply
) -> None:
    """The API server does not look into podTemplate: what may not be there shows only in the pass."""
    spoiled = apply("spoiled")
    becomes(client, spoiled, "Ready", "True")
    before = client.get(DEPLOYMENT, namespace, "spoiled-scheduler")["metadata"]["generation"]
    apply("spoiled", podTemplate={"spec": {"hostNetwork": True}})
    found = becomes(client, spoiled, "Ready", "False", "InvalidSpec")
    assert "spec.podTemplate" in found["message"]
    becomes(client, spoiled, "Stalled", "True", "InvalidSpec")
    assert client.get(DEPLOYMENT, namespace, "spoiled-scheduler")["metadata"]["generation"] == before
    reference: ObjectRef = spoiled
    kubectl(
        *("-n", namespace, "patch", "schedulers.buildgrid.build", reference.name, "--type=json"),
        *("-p", '[{"op": "remove", "path": "/spec/podTemplate"}]'),
        check=True,
    )
    becomes(client, spoiled, "Ready", "True")
