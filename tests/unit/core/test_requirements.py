"""Requirement hashes and the matching rule."""

import hashlib
from random import Random

from buildgrid_scheduler.core.requirements import pairs, requirement_hash, satisfies
from hypothesis import given
from hypothesis import strategies as st

REQUIREMENTS = st.dictionaries(st.text(max_size=6), st.lists(st.text(max_size=6), max_size=4), max_size=4)


def test_the_hash_is_the_sha1_of_the_json_with_sorted_keys() -> None:
    requirements = {"OSFamily": ["linux"], "ISA": ["arm", "x86-64"]}
    text = '{"ISA": ["arm", "x86-64"], "OSFamily": ["linux"]}'
    assert requirement_hash(requirements) == hashlib.sha1(text.encode()).hexdigest()  # noqa: S324
    assert requirement_hash({}) == "bf21a9e8fbc5a3846fb05b4fa0859e0917b2202f"


@given(REQUIREMENTS, st.randoms())
def test_neither_the_order_of_keys_nor_that_of_values_matters(
    requirements: dict[str, list[str]], random: Random
) -> None:
    items = [(key, sorted(values, key=lambda _: random.random())) for key, values in requirements.items()]
    random.shuffle(items)
    assert requirement_hash(dict(items)) == requirement_hash(requirements)


@given(REQUIREMENTS, REQUIREMENTS)
def test_other_requirements_have_another_hash(one: dict[str, list[str]], two: dict[str, list[str]]) -> None:
    same = {k: sorted(v) for k, v in one.items()} == {k: sorted(v) for k, v in two.items()}
    assert (requirement_hash(one) == requirement_hash(two)) is same


def test_a_bot_satisfies_what_is_part_of_its_offer() -> None:
    offer = pairs({"ISA": ["x86-64", "x86-64-v3"], "Pool": ["large"]})
    assert satisfies(offer, pairs({}))
    assert satisfies(offer, pairs({"ISA": ["x86-64"], "Pool": ["large"]}))
    assert satisfies(offer, pairs({"ISA": ["x86-64-v3", "x86-64"]}))
    assert not satisfies(offer, pairs({"ISA": ["arm"]}))
    assert not satisfies(offer, pairs({"ISA": ["x86-64", "arm"]}))
    assert not satisfies(offer, pairs({"Other": ["large"]}))
    assert not satisfies(frozenset(), pairs({"Pool": ["large"]}))
