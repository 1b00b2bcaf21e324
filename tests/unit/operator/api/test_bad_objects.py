"""The models refuse what the API server refuses (tests/cluster/api), with the same fields and words."""

from collections import Counter
from typing import Any

import pytest
from buildgrid_operator.api import InvalidSpec, PropertySet, Scheduler
from buildgrid_operator.api.resource import Resource, update_problems

from tests.cluster.api.bad_objects import BAD, BAD_EDITS, GOOD_EDITS, Bad, BadEdit
from tests.cluster.api.objects import GOOD, Json
from tests.unit.operator.api.rules_of_models import all_rules, all_transitions

_KINDS: dict[str, type[Resource[Any, Any]]] = {"Scheduler": Scheduler, "PropertySet": PropertySet}


def parse(obj: Json) -> Resource[Any, Any]:
    return _KINDS[obj["kind"]].parse(obj)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_object_is_refused_with_its_field_named(bad: Bad) -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse(bad.obj)
    blamed = [problem for problem in caught.value.problems if bad.field in problem.field]
    assert blamed, f"{bad.field} is not named:\n{caught.value}"
    assert any(bad.says in problem.message for problem in blamed), caught.value


@pytest.mark.parametrize("name", GOOD)
def test_a_good_object_is_accepted(name: str) -> None:
    parse(GOOD[name])


@pytest.mark.parametrize("edit", BAD_EDITS, ids=lambda edit: edit.name)
def test_an_edit_that_is_not_allowed_is_refused_with_its_field_named(edit: BadEdit) -> None:
    problems = update_problems(parse(edit.before).spec, parse(edit.after).spec)
    assert any(problem.field == edit.field and edit.says in problem.message for problem in problems), problems


@pytest.mark.parametrize(("before", "after"), GOOD_EDITS)
def test_other_edits_are_allowed(before: Json, after: Json) -> None:
    assert update_problems(parse(before).spec, parse(after).spec) == []


def test_the_table_is_long_and_names_are_unique() -> None:
    assert len(BAD) >= 60
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
    edits = {edit.says for edit in BAD_EDITS}
    for transition in all_transitions(_KINDS[kind].spec_model):
        assert any(says in transition.message for says in edits), transition.message
