"""An upgrade of the operator rolls nothing: a template stays as it was made first for its hash."""

import copy
import dataclasses
import json

import pytest
from buildgrid_operator.desired import Images, build
from buildgrid_operator.desired.names import TEMPLATE, TEMPLATE_HASH
from buildgrid_operator.desired.rollout import settled

from tests.unit.operator.desired.cases import CASES, FULL, changed, inputs
from tests.unit.operator.desired.found import Json, deployment


def by_an_older_operator(obj: Json) -> Json:
    """As an operator made it that wrote templates without probes."""
    result = copy.deepcopy(obj)
    template = result["spec"]["template"]
    del template["spec"]["containers"][0]["livenessProbe"]
    result["metadata"]["annotations"][TEMPLATE] = json.dumps(template)
    result["spec"]["replicas"] = 9
    return result


def test_the_template_of_an_older_operator_is_kept_and_nothing_else_of_it() -> None:
    wanted = deployment(inputs(FULL))
    live = by_an_older_operator(wanted)
    found = settled(wanted, live)
    assert found["spec"]["template"] == live["spec"]["template"] != wanted["spec"]["template"]
    assert found["spec"]["replicas"] == 3
    assert found["metadata"]["annotations"][TEMPLATE] == live["metadata"]["annotations"][TEMPLATE]
    assert settled(wanted, found) == found


def test_a_hand_edit_of_the_live_template_is_not_kept() -> None:
    wanted = deployment(inputs(FULL))
    live = changed(wanted, {"spec.template.spec.containers[0].image": "evil"})
    assert settled(wanted, live) == wanted


def test_a_rollout_takes_the_template_of_this_operator() -> None:
    live = by_an_older_operator(deployment(inputs(FULL)))
    wanted = deployment(inputs(changed(FULL, {"spec.database.poolSize": 7})))
    assert settled(wanted, live) == wanted


@pytest.mark.parametrize("noted", ["", "not json", "[]", "{}", '{"metadata": {"annotations": {}}}'])
def test_a_note_that_is_not_ours_is_not_believed(noted: str) -> None:
    wanted = deployment(inputs(FULL))
    live = by_an_older_operator(wanted)
    live["metadata"]["annotations"][TEMPLATE] = noted
    assert settled(wanted, live) == wanted


def test_without_a_live_object_it_is_as_this_operator_makes_it() -> None:
    wanted = deployment(inputs(FULL))
    assert settled(wanted, None) == wanted
    assert settled(wanted, {"metadata": {"name": "full-scheduler"}}) == wanted


@pytest.mark.parametrize("name", CASES)
def test_the_hash_is_on_the_object_and_on_its_pods(name: str) -> None:
    found = deployment(CASES[name])
    here = found["metadata"]["annotations"]
    assert here[TEMPLATE_HASH] == build(CASES[name]).template_hash
    assert found["spec"]["template"]["metadata"]["annotations"][TEMPLATE_HASH] == here[TEMPLATE_HASH]
    assert json.loads(here[TEMPLATE]) == found["spec"]["template"]


def test_another_resolved_image_is_another_template() -> None:
    first = inputs(changed(FULL, {"spec.image": None}))
    other = dataclasses.replace(first, images=Images("ghcr.io/example/buildgrid-scheduler:2"))
    assert build(first).template_hash != build(other).template_hash
