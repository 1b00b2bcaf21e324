"""What matching costs: comparisons are counted, not timed.

A bot is not compared by the subsets of what it offers, nor each bot by itself: bots that offer the same are
one kind, jobs that require the same are one hash, and each kind is held against each hash a few times.
"""

from typing import Any

import pytest
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession
from buildgrid_scheduler.assigner.waiting import Arrival, WaitingBots
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.properties.dynamic import DynamicPropertySet
from buildgrid_scheduler.properties.matching import Matching
from buildgrid_scheduler.properties.static import PropertyLabel, StaticPropertySet

from tests.unit.assigner.calls import Call

KINDS, HASHES = 4, 10


class Comparisons:
    """Counts the subset tests of what it has made."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, pairs: Offer) -> Offer:
        """These pairs, as something that counts when it is held against others."""
        comparisons = self

        class Counted(frozenset[tuple[str, str]]):
            def __le__(self, other: Any) -> bool:
                comparisons.count += 1
                return super().__le__(other)

        return Counted(pairs)


def offer_of(kind: int, properties: int) -> Offer:
    return frozenset({("kind", str(kind)), *((f"key {n}", "value") for n in range(properties - 1))})


def bots(properties: int, of_each_kind: int) -> list[Call]:
    return [
        Call(f"bot {kind}.{number}", offer_of(kind, properties))
        for kind in range(KINDS)
        for number in range(of_each_kind)
    ]


def arrivals(properties: int, comparisons: Comparisons) -> list[Arrival]:
    """Jobs with different requirements, for all kinds in turn, that ask for as much as there is."""
    return [
        Arrival("", f"hash {n}", comparisons.of(offer_of(n % KINDS, properties - n % 3)))
        for n in range(HASHES)
    ]


def jobs_come_to_waiting_bots(properties: int, of_each_kind: int) -> int:
    comparisons, waiting = Comparisons(), WaitingBots()
    calls = bots(properties, of_each_kind)
    for call in calls:
        assert waiting.hold(call) is None
    jobs = arrivals(properties, comparisons)
    waiting.arrived(jobs, heard=True)
    taken = waiting.plan([])
    assert len(taken) == min(HASHES, len(calls))
    return comparisons.count


def bots_come_to_waiting_jobs(properties: int, of_each_kind: int) -> int:
    comparisons, waiting = Comparisons(), WaitingBots()
    waiting.arrived(arrivals(properties, comparisons), heard=True)
    for call in bots(properties, of_each_kind):
        assert call.wakes_for is not None
        kind = int(call.session_name.removeprefix("bot ").partition(".")[0])
        assert waiting.candidates("", call.wakes_for) == {
            f"hash {n}" for n in range(HASHES) if n % KINDS == kind
        }
    return comparisons.count


@pytest.mark.parametrize("scenario", [jobs_come_to_waiting_bots, bots_come_to_waiting_jobs])
def test_neither_properties_nor_bots_of_a_kind_multiply_what_is_compared(scenario: Any) -> None:
    plain = scenario(properties=5, of_each_kind=HASHES)
    assert 0 < plain <= 2 * KINDS * HASHES
    assert scenario(properties=25, of_each_kind=HASHES) == plain
    assert scenario(properties=25, of_each_kind=64) == plain
    assert scenario(properties=200, of_each_kind=64) == plain


def described(pairs: Offer) -> BotSession:
    session = BotSession()
    device = session.worker.devices.add()
    for key, value in sorted(pairs):
        device.properties.add(key=key, value=value)
    return session


@pytest.mark.parametrize("properties", [25, 200])
def test_what_a_bot_offers_is_as_much_as_it_has(properties: int) -> None:
    pairs = frozenset((f"key {n // 2}", f"value {n}") for n in range(properties))
    keys = {key for key, _ in pairs}
    dynamic = DynamicPropertySet(
        unique_property_keys=set(), match_property_keys=keys, wildcard_property_keys=set()
    )
    assert Matching(dynamic).offer(described(pairs)) == pairs
    required: dict[str, list[str]] = {}
    for key, value in sorted(pairs):
        required.setdefault(key, []).append(value)
    assert Matching(dynamic).requires(required) == pairs


def test_a_bot_is_held_against_each_label_of_a_static_set_once() -> None:
    comparisons = Comparisons()
    pairs = frozenset((f"key {n}", "value") for n in range(25))
    labels = [
        PropertyLabel(f"label {n}", comparisons.of(frozenset({(f"key {n}", "value")})))  # type: ignore[arg-type]
        for n in range(64)
    ]
    static = StaticPropertySet(property_labels=labels, wildcard_property_keys=set())
    assert Matching(static).offer(described(pairs)) == pairs
    assert comparisons.count == len(labels)
