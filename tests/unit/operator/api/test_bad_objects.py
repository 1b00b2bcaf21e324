"""The models refuse what the API server refuses (tests/cluster/api), with the same fields and words."""

from collections import Counter
from typing import Any

import pytest
from buildgrid_operator.api import InvalidSpec
from buildgrid_operator.api.crd import KINDS
from buildgrid_operator.api.resource import Resource, update_problems

from tests.cluster.api.bad import Bad, BadEdit
from tests.cluster.api.bad_objects import BAD, BAD_EDITS, GOOD_EDITS
from tests.cluster.api.fleets import GOOD_FLEETS
from tests.cluster.api.objects import GOOD, Json
from tests.unit.operator.api.rules_of_models import all_rules, all_transitions

_KINDS = {kind.names.kind: kind for kind in KINDS}
_GOOD = [*GOOD.values(), *GOOD_FLEETS.values()]


def parse(obj: Json) -> Resource[Any, Any]:
    return _KINDS[obj["kind"]].parse(obj)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_object_is_refused_with_its_field_named(bad: Bad) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse(bad.obj)
    blamed = [problem for problem in caught.value.problems if bad.field in problem.field]
    assert blamed, f"{bad.field} is not named:\n{caught.value}"
    assert any(bad.says in problem.message for problem in blamed), caught.value


@pytest.mark.parametrize("good", _GOOD, ids=[*GOOD, *GOOD_FLEETS])
def test_a_good_object_is_accepted(good: Json) -> None:
    parse(good)


@pytest.mark.parametrize("edit", BAD_EDITS, ids=lambda edit: edit.name)
def test_an_edit_that_is_not_allowed_is_refused_with_its_field_named(edit: BadEdit) -> None:
    problems = update_problems(parse(edit.before).spec, parse(edit.after).spec)
    assert any(problem.field == edit.field and edit.says in problem.message for problem in problems), problems


@pytest.mark.parametrize(("before", "after"), GOOD_EDITS)
def test_other_edits_are_allowed(before: Json, after: Json) -> None:
    assert update_problems(parse(before).spec, parse(after).spec) == []


def test_the_table_is_long_and_names_are_unique() -> None:
    assert len(BAD) >= 150
    assert [name for name, count in Counter(bad.name for bad in BAD).items() if count > 1] == []


@pytest.mark.parametrize("kind", _KINDS)
def test_every_rule_is_broken_by_some_object_of_the_table(kind: str) -> None:
    said = set()
    for bad in BAD:
        with pytest.raises(InvalidSpec) as caught:
            parse(bad.obj)
        said |= {problem.message for problem in caught.value.problems}
    unbroken = [(model, rule.message) for model, rule in all_rules(_KINDS[kind].spec_model)
                if rule.message not in said]  # fmt: skip
    assert unbroken == []
    refused = {
        problem.message
        for edit in BAD_EDITS
        if edit.before["kind"] == kind
        for problem in update_problems(parse(edit.before).spec, parse(edit.after).spec)
    }
    assert {transition.message for transition in all_transitions(_KINDS[kind].spec_model)} <= refused
