"""The dynamic property set."""

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession
from buildgrid_scheduler.core.errors import FailedPrecondition
from buildgrid_scheduler.properties.dynamic import DynamicPropertySet
from buildgrid_scheduler.properties.property_set import MAX_COMBINATIONS


def platform(*pairs: tuple[str, str]) -> Platform:
    return Platform(properties=[Platform.Property(name=name, value=value) for name, value in pairs])


def bot(*devices: list[tuple[str, str]]) -> BotSession:
    session = BotSession()
    for pairs in devices:
        device = session.worker.devices.add()
        for key, value in pairs:
            device.properties.add(key=key, value=value)
    return session


@pytest.fixture
def properties() -> DynamicPropertySet:
    return DynamicPropertySet(
        unique_property_keys={"OSFamily", "note"},
        match_property_keys={"OSFamily", "ISA"},
        wildcard_property_keys={"note", "Pool"},
        label_key="Pool",
    )


def test_a_platform_without_properties_requires_nothing(properties: DynamicPropertySet) -> None:
    assert properties.execution_properties(platform()) == ("unknown", {})


def test_match_keys_constrain_with_sorted_values_and_wildcard_keys_do_not(
    properties: DynamicPropertySet,
) -> None:
    asked = platform(("Pool", "x"), ("OSFamily", "linux"), ("ISA", "b"), ("ISA", "a"), ("ISA", "b"))
    label, requirements = properties.execution_properties(asked)
    assert requirements == {"ISA": ["a", "b"], "OSFamily": ["linux"]}
    assert label == "x"


def test_the_label_is_the_first_of_the_sorted_values(properties: DynamicPropertySet) -> None:
    assert properties.execution_properties(platform(("Pool", "zoo"), ("Pool", "ant")))[0] == "ant"


def test_without_a_label_key_every_job_is_unknown() -> None:
    plain = DynamicPropertySet(
        unique_property_keys=set(), match_property_keys={"Pool"}, wildcard_property_keys=set()
    )
    assert plain.execution_properties(platform(("Pool", "a"))) == ("unknown", {"Pool": ["a"]})


def test_an_unknown_key_is_refused_and_the_known_ones_are_named(properties: DynamicPropertySet) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        properties.execution_properties(platform(("OSFamily", "linux"), ("Colour", "red")))
    for word in ("Colour", "ISA", "OSFamily", "Pool", "note"):
        assert word in str(caught.value)


@pytest.mark.parametrize("key", ["OSFamily", "note"])
def test_a_unique_key_may_have_one_value(properties: DynamicPropertySet, key: str) -> None:
    properties.execution_properties(platform((key, "a"), (key, "a")))
    with pytest.raises(FailedPrecondition, match=f"{key}.*a, b"):
        properties.execution_properties(platform((key, "b"), (key, "a")))


def test_unique_and_label_keys_must_be_known() -> None:
    with pytest.raises(ValueError, match="unique_property_keys: C, D"):
        DynamicPropertySet(
            unique_property_keys={"D", "C", "A"}, match_property_keys={"A"}, wildcard_property_keys={"B"}
        )
    with pytest.raises(ValueError, match="label_key: C"):
        DynamicPropertySet(
            unique_property_keys=set(),
            match_property_keys={"A"},
            wildcard_property_keys={"B"},
            label_key="C",
        )


# --- what a bot may take, listed


def test_a_bot_may_take_every_combination_of_its_match_pairs(properties: DynamicPropertySet) -> None:
    listed = properties.worker_properties(
        bot([("ISA", "b"), ("ISA", "a"), ("OSFamily", "linux"), ("x", "y")])
    )
    assert sorted(listed, key=repr) == sorted(
        [
            {},
            {"ISA": ["a"]},
            {"ISA": ["b"]},
            {"ISA": ["a", "b"]},
            {"OSFamily": ["linux"]},
            {"ISA": ["a"], "OSFamily": ["linux"]},
            {"ISA": ["b"], "OSFamily": ["linux"]},
            {"ISA": ["a", "b"], "OSFamily": ["linux"]},
        ],
        key=repr,
    )


def test_only_the_primary_device_counts(properties: DynamicPropertySet) -> None:
    assert properties.worker_properties(bot([("ISA", "a")], [("ISA", "b")])) == [{}, {"ISA": ["a"]}]


def test_a_bot_without_devices_may_take_what_requires_nothing(properties: DynamicPropertySet) -> None:
    assert properties.worker_properties(BotSession()) == [{}]


def test_the_list_is_bounded(properties: DynamicPropertySet) -> None:
    assert (
        len(properties.worker_properties(bot([("ISA", str(n)) for n in range(12)])))
        == MAX_COMBINATIONS
        == 4096
    )
    with pytest.raises(FailedPrecondition, match="4096"):
        properties.worker_properties(bot([("ISA", str(n)) for n in range(13)]))
