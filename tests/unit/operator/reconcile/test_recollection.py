"""What is made anew, and what is not."""

import pytest
from buildgrid_operator.reconcile.recollection import Recollection


class Kitchen:
    """Makes dishes, and counts them."""

    def __init__(self) -> None:
        self.made = 0
        self.dishes = Recollection(self._make, worth=lambda dish: "burnt" not in dish)

    def _make(self, parts: list[str]) -> str:
        self.made += 1
        if "nothing" in parts:
            raise ValueError("of nothing comes nothing")
        return "+".join(parts)


def test_of_the_same_parts_it_is_made_once() -> None:
    kitchen = Kitchen()
    assert [kitchen.dishes.of("ann", ["salt", "egg"]) for _ in range(3)] == ["salt+egg"] * 3
    assert kitchen.made == 1


def test_another_part_makes_another_dish() -> None:
    kitchen = Kitchen()
    assert kitchen.dishes.of("ann", ["egg"]) == "egg"
    assert kitchen.dishes.of("ann", ["egg", "salt"]) == "egg+salt"
    assert kitchen.dishes.of("ann", ["egg"]) == "egg"
    assert kitchen.made == 3


def test_owners_have_their_own() -> None:
    kitchen = Kitchen()
    kitchen.dishes.of("ann", ["egg"])
    assert kitchen.dishes.of("bob", ["salt"]) == "salt"
    assert kitchen.dishes.of("ann", ["egg"]) == "egg"
    assert kitchen.made == 2


def test_what_is_not_worth_it_is_made_again() -> None:
    kitchen = Kitchen()
    for _ in range(2):
        assert kitchen.dishes.of("ann", ["burnt egg"]) == "burnt egg"
    assert kitchen.made == 2


def test_what_cannot_be_made_leaves_nothing_of_before() -> None:
    kitchen = Kitchen()
    kitchen.dishes.of("ann", ["egg"])
    for _ in range(2):
        with pytest.raises(ValueError, match="comes nothing"):
            kitchen.dishes.of("ann", ["nothing"])
    kitchen.dishes.of("ann", ["egg"])
    assert kitchen.made == 4


def test_an_owner_that_is_forgotten_begins_anew() -> None:
    kitchen = Kitchen()
    kitchen.dishes.of("ann", ["egg"])
    kitchen.dishes.forget("ann")
    kitchen.dishes.forget("nobody")
    kitchen.dishes.of("ann", ["egg"])
    assert kitchen.made == 2
