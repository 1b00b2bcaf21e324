"""What exists for a fleet besides its pods: an account, a budget, a policy, and which image it runs."""

from dataclasses import replace

import pytest
from buildgrid_operator.api import BotFleet, InvalidSpec
from buildgrid_operator.cluster.kinds import ObjectRef
from buildgrid_operator.desired.bots import KINDS, bot_pod, fleet_objects, names, resolve_bot_image
from buildgrid_operator.reconcile.apply_set import prunable

from tests.unit.operator.desired.bots.cases import CASES, IMAGE, UID, Json, fleet, fleet_inputs
from tests.unit.operator.desired.cases import NAMESPACE, SETTINGS, scheduler
from tests.unit.operator.desired.flows import Outside, Pod, is_allowed

WITH_BOT = replace(SETTINGS, bot_image=IMAGE)


def one(kind: str, name: str = "minimal") -> Json:
    (found,) = [obj for obj in fleet_objects(CASES[name]) if obj["kind"] == kind]
    return found


@pytest.mark.parametrize("name", CASES)
def test_all_of_it_is_the_fleets_and_of_kinds_that_are_looked_for(name: str) -> None:
    owner = CASES[name].metadata
    for obj in fleet_objects(CASES[name]):
        assert (obj["apiVersion"], obj["kind"]) in KINDS
        assert obj["metadata"]["namespace"] == owner.namespace
        assert obj["metadata"]["ownerReferences"] == [names.owner_reference(owner)]
        assert obj["metadata"]["labels"]["buildgrid.build/fleet-uid"] == UID
        assert obj["metadata"]["labels"]["buildgrid.build/owner-uid"] == UID
        assert "buildgrid.build/scheduler" not in obj["metadata"]["labels"]


def test_the_account_may_do_nothing_and_has_the_identity_that_it_is_given() -> None:
    account = one("ServiceAccount", "full")
    assert account["automountServiceAccountToken"] is False
    assert account["metadata"]["annotations"] == {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/bots"}
    assert account["metadata"]["name"] == bot_pod(CASES["full"], 1)["spec"]["serviceAccountName"]


def test_no_bot_is_evicted_until_it_loses_its_label() -> None:
    budget, pod = one("PodDisruptionBudget")["spec"], bot_pod(CASES["minimal"], 1)
    selected = budget["selector"]["matchLabels"]
    assert selected.items() <= pod["metadata"]["labels"].items()
    assert budget["unhealthyPodEvictionPolicy"] == "IfHealthyBudget"
    # A number above all fleets: for a share somebody would have to know how many there should be.
    assert budget["minAvailable"] == 1_000_000
    drained = {name: value for name, value in pod["metadata"]["labels"].items() if "protected" not in name}
    assert not selected.items() <= drained.items()


def test_a_fleet_of_the_same_name_that_was_made_later_has_pods_of_its_own() -> None:
    before = fleet_inputs(fleet()).metadata
    after = before.model_copy(update={"uid": "another"})
    assert names.selector(before) != names.selector(after)


def test_nobody_connects_to_a_bot_and_it_goes_where_it_likes() -> None:
    policy = one("NetworkPolicy")
    bot = Pod(NAMESPACE, bot_pod(CASES["minimal"], 1)["metadata"]["labels"])
    for caller in (Pod(NAMESPACE), Pod("monitoring"), bot, Outside("203.0.113.9")):
        for port in (22, 50051, 9090):
            assert not is_allowed([policy], caller, bot, port)
    assert policy["spec"]["policyTypes"] == ["Ingress"] and "egress" not in policy["spec"]
    assert is_allowed([policy], bot, Pod(NAMESPACE, {"app": "other"}), 80)


def test_a_policy_that_is_not_wanted_any_more_is_removed_and_no_pod_is() -> None:
    without = fleet_inputs(fleet(), scheduler(networkPolicy={"enabled": False}))
    live = {ObjectRef.of(obj): obj for obj in [*fleet_objects(CASES["minimal"]), bot_pod(without, 1)]}
    gone = prunable([ObjectRef.of(obj) for obj in fleet_objects(without)], live, UID)
    assert [obj["kind"] for _, obj in gone] == ["NetworkPolicy"]


def test_there_is_no_policy_where_the_scheduler_has_none() -> None:
    without = fleet_inputs(fleet(), scheduler(networkPolicy={"enabled": False}))
    assert [obj["kind"] for obj in fleet_objects(without)] == ["ServiceAccount", "PodDisruptionBudget"]


@pytest.mark.parametrize(
    ("spec", "status", "expected"),
    [
        ({}, {}, IMAGE),
        ({}, {"image": "running:1"}, "running:1"),
        ({"image": "mirror.example.org/bot:2"}, {"image": "running:1"}, "mirror.example.org/bot:2"),
    ],
)
def test_an_upgrade_of_the_operator_changes_no_image(spec: Json, status: Json, expected: str) -> None:
    found = BotFleet.parse({**fleet(**spec), "status": status})
    assert resolve_bot_image(found, WITH_BOT) == expected


def test_a_registry_stands_in_front_of_images_that_name_none() -> None:
    settings = replace(SETTINGS, bot_image="buildgrid/bot:1", image_registry="mirror.local")
    assert resolve_bot_image(BotFleet.parse(fleet()), settings) == "mirror.local/buildgrid/bot:1"
    assert resolve_bot_image(BotFleet.parse(fleet(image="bot:2")), settings) == "mirror.local/bot:2"


def test_without_any_image_the_spec_is_asked_for_one() -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.image: is needed"):
        resolve_bot_image(BotFleet.parse(fleet()), SETTINGS)
