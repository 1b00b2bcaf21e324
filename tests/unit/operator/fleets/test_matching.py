"""Which bots may take which jobs: as the scheduler matches them."""

from typing import Any

import pytest
from buildgrid_operator.fleets.matching import Serving, offer_of, property_set_of

from tests.unit.operator.fleets.seen import bot_fleet, requirement

USUAL = offer_of(bot_fleet().spec)
LABELS = {
    "kind": "static",
    "labels": [
        {"label": "small", "properties": [{"key": "OSFamily", "value": "linux"}]},
        {
            "label": "gpu",
            "properties": [{"key": "OSFamily", "value": "linux"}, {"key": "Pool", "value": "gpu"}],
        },
    ],
}


def offer(**properties: str) -> tuple[tuple[str, str], ...]:
    told = [{"key": key, "value": value} for key, value in properties.items()]
    return offer_of(bot_fleet(properties=told).spec)


def serving(section: dict[str, Any] | None = None) -> Serving:
    return Serving(property_set_of(section))


def test_a_fleet_offers_linux_on_x86_64_unless_it_says_otherwise() -> None:
    assert set(USUAL) == {("OSFamily", "linux"), ("ISA", "x86-64")}
    assert set(offer(ISA="aarch64")) == {("OSFamily", "linux"), ("ISA", "aarch64")}


@pytest.mark.parametrize(
    ("properties", "served"),
    [
        ({}, True),
        ({"OSFamily": "linux"}, True),
        ({"OSFamily": "linux", "ISA": "x86-64"}, True),
        ({"ISA": "aarch64"}, False),
        ({"Pool": "gpu"}, False),
    ],
    ids=str,
)
def test_bots_take_what_requires_no_more_than_they_offer(properties: dict[str, Any], served: bool) -> None:
    assert serving().serves(USUAL, requirement(**properties)) is served


def test_what_is_offered_with_a_key_that_does_not_match_counts_for_nothing() -> None:
    section = {
        "kind": "dynamic",
        "match_property_keys": ["OSFamily"],
        "unique_property_keys": [],
        "label_key": None,
    }
    assert serving(section).serves(USUAL, requirement(OSFamily="linux"))
    assert not serving(section).serves(offer(Pool="gpu"), requirement(Pool="gpu"))


def test_under_labels_bots_serve_every_label_that_they_offer_all_of() -> None:
    small, gpu = requirement(OSFamily="linux"), requirement(OSFamily="linux", Pool="gpu")
    found = serving(LABELS)
    assert (found.serves(USUAL, small), found.serves(USUAL, gpu)) == (True, False)
    assert (found.serves(offer(Pool="gpu"), small), found.serves(offer(Pool="gpu"), gpu)) == (True, True)


def test_bots_that_fit_no_label_serve_nothing_and_it_is_told_why() -> None:
    found, strange = serving(LABELS), offer(OSFamily="windows")
    assert not found.serves(strange, requirement())
    assert "serves no label" in (found.refusal(strange) or "")
    assert found.refusal(USUAL) is None


def test_the_property_that_no_fleet_offers_is_named() -> None:
    wanted = requirement(OSFamily="linux", Pool="gpu", ISA="aarch64")
    found = serving()
    assert found.missing([USUAL], wanted) == "no fleet offers ISA=aarch64 and Pool=gpu"
    assert found.missing([USUAL, offer(ISA="aarch64")], wanted) == "no fleet offers Pool=gpu"


def test_properties_that_no_fleet_offers_together_are_named() -> None:
    wanted = requirement(Pool="gpu", ISA="aarch64")
    offers = [offer(Pool="gpu"), offer(ISA="aarch64")]
    assert serving().missing(offers, wanted) == "no fleet offers all of ISA=aarch64 and Pool=gpu"


def test_an_instance_without_a_fleet_is_named() -> None:
    assert serving().missing([], requirement(instance="other")) == (
        "no fleet has bots for the instance 'other'"
    )
