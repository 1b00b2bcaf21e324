"""The hashes under which suspects wait, and who may take them."""

from buildgrid_scheduler.core.requirements import pairs, requirement_hash, satisfies
from buildgrid_scheduler.core.suspects import is_suspect, plain_hash, suspect_hash, with_alone

HASH = requirement_hash({"Pool": ["large"]})


def test_a_suspect_waits_under_a_hash_of_its_own_and_is_shown_under_the_plain_one() -> None:
    assert suspect_hash(HASH) != HASH
    assert is_suspect(suspect_hash(HASH))
    assert not is_suspect(HASH)
    assert plain_hash(suspect_hash(HASH)) == plain_hash(HASH) == HASH


def test_a_suspect_that_fails_again_stays_what_it_is() -> None:
    assert suspect_hash(suspect_hash(HASH)) == suspect_hash(HASH)


def test_only_a_bot_that_can_be_alone_with_it_may_take_a_suspect() -> None:
    requires, offer = pairs({"Pool": ["large"]}), pairs({"Pool": ["large"], "ISA": ["arm"]})
    assert satisfies(with_alone(offer), with_alone(requires))
    assert satisfies(with_alone(offer), requires)
    assert not satisfies(offer, with_alone(requires))
    assert not satisfies(with_alone(pairs({"ISA": ["arm"]})), with_alone(requires))


def test_no_property_of_a_bot_makes_it_look_alone() -> None:
    assert not satisfies(pairs({"alone": ["", "true"], "": [""]}), with_alone(frozenset()))
