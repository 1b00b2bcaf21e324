"""How jobs and bots meet, for any property set."""

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession
from buildgrid_scheduler.core.errors import FailedPrecondition
from buildgrid_scheduler.core.requirements import satisfies
from buildgrid_scheduler.properties.dynamic import DynamicPropertySet
from buildgrid_scheduler.properties.matching import Matching
from hypothesis import given
from hypothesis import strategies as st


def bot(*pairs: tuple[str, str]) -> BotSession:
    session = BotSession()
    device = session.worker.devices.add()
    for key, value in pairs:
        device.properties.add(key=key, value=value)
    return session


KEYS = ["A", "B", "C"]
DYNAMIC = DynamicPropertySet(
    unique_property_keys=set(), match_property_keys={"A", "B"}, wildcard_property_keys={"C"}
)
PAIRS = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from("xyz")), max_size=6)


class Listing:
    """The same rules, by a property set that is not built in: it can only list what a bot may take."""

    def execution_properties(self, platform: Platform) -> tuple[str, dict[str, list[str]]]:
        return DYNAMIC.execution_properties(platform)

    def worker_properties(self, bot_session: BotSession) -> list[dict[str, list[str]]]:
        return DYNAMIC.worker_properties(bot_session)


@given(PAIRS, PAIRS)
def test_subset_matching_agrees_with_the_list_of_what_a_bot_may_take(
    asked: list[tuple[str, str]], offered: list[tuple[str, str]]
) -> None:
    platform = Platform(properties=[Platform.Property(name=k, value=v) for k, v in asked])
    _, requirements = DYNAMIC.execution_properties(platform)
    answers = set()
    for matching in (Matching(DYNAMIC), Matching(Listing())):
        answers.add(satisfies(matching.offer(bot(*offered)), matching.requires(requirements)))
    assert answers == {{p for p in asked if p[0] != "C"} <= set(offered)}


def test_a_bot_with_many_properties_is_cheap_for_the_built_in_set() -> None:
    wide = DynamicPropertySet(
        unique_property_keys=set(),
        match_property_keys={f"key {n}" for n in range(25)},
        wildcard_property_keys=set(),
    )
    session = bot(*((f"key {n}", "v") for n in range(25)))
    offer = Matching(wide).offer(session)
    assert satisfies(offer, Matching(wide).requires({"key 3": ["v"], "key 24": ["v"]}))
    with pytest.raises(FailedPrecondition):
        wide.worker_properties(session)


def test_a_bot_does_not_offer_what_does_not_constrain() -> None:
    assert Matching(DYNAMIC).offer(bot(("A", "x"), ("C", "y"), ("other", "z"))) == {("A", "x")}


def test_a_bot_that_a_property_set_refuses_is_refused() -> None:
    class Strict(Listing):
        def worker_properties(self, bot_session: BotSession) -> list[dict[str, list[str]]]:
            raise FailedPrecondition("no label is served")

    with pytest.raises(FailedPrecondition):
        Matching(Strict()).offer(bot())


def test_for_a_set_that_lists_only_exactly_listed_requirements_match() -> None:
    class Whole(Listing):
        def worker_properties(self, bot_session: BotSession) -> list[dict[str, list[str]]]:
            return [{"A": ["x"], "B": ["y"]}]

    matching = Matching(Whole())
    offer = matching.offer(bot())
    assert satisfies(offer, matching.requires({"B": ["y"], "A": ["x"]}))
    assert not satisfies(offer, matching.requires({"A": ["x"]}))
    assert not satisfies(offer, matching.requires({}))
