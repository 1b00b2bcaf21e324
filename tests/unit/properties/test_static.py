"""The static property set."""

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotSession
from buildgrid_scheduler.core.errors import FailedPrecondition
from buildgrid_scheduler.properties.matching import Matching
from buildgrid_scheduler.properties.static import PropertyLabel, StaticPropertySet

LINUX = PropertyLabel("linux", {("OSFamily", "linux"), ("ISA", "x86-64")})
LARGE = PropertyLabel("large", {("OSFamily", "linux"), ("ISA", "x86-64"), ("Size", "large")})
MAC = PropertyLabel("mac", {("OSFamily", "mac"), ("ISA", "arm64"), ("ISA", "x86-64")})


def platform(*pairs: tuple[str, str]) -> Platform:
    return Platform(properties=[Platform.Property(name=name, value=value) for name, value in pairs])


def bot(*pairs: tuple[str, str]) -> BotSession:
    session = BotSession()
    device = session.worker.devices.add()
    for key, value in pairs:
        device.properties.add(key=key, value=value)
    return session


@pytest.fixture
def properties() -> StaticPropertySet:
    return StaticPropertySet(property_labels=[LINUX, LARGE, MAC], wildcard_property_keys={"note"})


@pytest.mark.parametrize(
    ("asked", "label", "required"),
    [
        pytest.param((), "linux", {"ISA": ["x86-64"], "OSFamily": ["linux"]}, id="nothing: the first label"),
        pytest.param(
            (("OSFamily", "linux"),),
            "linux",
            {"ISA": ["x86-64"], "OSFamily": ["linux"]},
            id="a part of it: the whole set is required",
        ),
        pytest.param(
            (("Size", "large"),),
            "large",
            {"ISA": ["x86-64"], "OSFamily": ["linux"], "Size": ["large"]},
            id="what only a later label has",
        ),
        pytest.param(
            (("ISA", "arm64"), ("note", "anything")),
            "mac",
            {"ISA": ["arm64", "x86-64"], "OSFamily": ["mac"]},
            id="several values of a key, a wildcard that does not count",
        ),
    ],
)
def test_a_job_belongs_to_the_first_label_that_has_all_its_properties(
    properties: StaticPropertySet,
    asked: tuple[tuple[str, str], ...],
    label: str,
    required: dict[str, list[str]],
) -> None:
    assert properties.execution_properties(platform(*asked)) == (label, required)


def test_a_job_that_fits_no_label_is_refused_and_told_what_there_is(properties: StaticPropertySet) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        properties.execution_properties(platform(("OSFamily", "mac"), ("Size", "large")))
    for word in ("OSFamily=mac, Size=large", "linux: ISA=x86-64", "large:", "mac:"):
        assert word in str(caught.value)


def test_a_bot_serves_every_label_whose_properties_it_offers(properties: StaticPropertySet) -> None:
    offered = bot(("OSFamily", "linux"), ("ISA", "x86-64"), ("Size", "large"), ("Rack", "7"))
    assert properties.worker_properties(offered) == [
        {"ISA": ["x86-64"], "OSFamily": ["linux"]},
        {"ISA": ["x86-64"], "OSFamily": ["linux"], "Size": ["large"]},
    ]


def test_a_bot_that_serves_no_label_is_refused(properties: StaticPropertySet) -> None:
    for session in (bot(("OSFamily", "linux")), BotSession()):
        with pytest.raises(FailedPrecondition, match="serves no label"):
            properties.worker_properties(session)
        with pytest.raises(FailedPrecondition, match="serves no label"):
            Matching(properties).offer(session)


def test_matching_by_subset_agrees_with_the_lists(properties: StaticPropertySet) -> None:
    matching = Matching(properties)
    for offered in (
        bot(*LINUX.properties),
        bot(*LARGE.properties),
        bot(*MAC.properties),
        bot(*LARGE.properties, *MAC.properties, ("Rack", "7")),
    ):
        listed = properties.worker_properties(offered)
        for label in (LINUX, LARGE, MAC):
            _, required = properties.execution_properties(platform(*label.properties))
            assert (matching.requires(required) <= matching.offer(offered)) == (required in listed)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        pytest.param([], "is empty", id="none"),
        pytest.param([LINUX, PropertyLabel("linux", set())], "linux: there twice", id="twice"),
        pytest.param([PropertyLabel("", set())], "no name", id="nameless"),
    ],
)
def test_labels_that_cannot_work_are_refused(labels: list[PropertyLabel], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        StaticPropertySet(property_labels=labels, wildcard_property_keys=set())


def test_more_labels_than_can_be_listed_are_refused_by_the_list_alone() -> None:
    labels = [PropertyLabel(f"label-{number}", set()) for number in range(4097)]
    many = StaticPropertySet(property_labels=labels, wildcard_property_keys=set())
    with pytest.raises(FailedPrecondition, match="4097 labels"):
        many.worker_properties(BotSession())
    assert Matching(many).offer(BotSession()) == frozenset()
