"""A field that is reloaded leaves the pods alone; one that rolls them changes their template."""

from functools import cache

import pytest
from buildgrid_operator.api.model import Effect
from buildgrid_operator.desired import Inputs, build

from tests.unit.operator.desired.cases import CORP, EVERYBODY, FULL, PRODUCTION, changed, inputs, scheduler
from tests.unit.operator.desired.fields import Leaf, edited, leaves
from tests.unit.operator.desired.found import Json, deployment

BASES: tuple[Json, ...] = (
    scheduler(),
    FULL,
    PRODUCTION,
    scheduler(
        storage={"remote": {"endpoint": "grpcs://cas:443", "tls": {}, "tier": {}}},
        assets={"endpoint": "grpcs://assets:443", "tls": {}},
        logStreams={"endpoint": "grpcs://logs:443", "tls": {}},
        monitoring={"serviceMonitor": {"interval": "5m"}},
        grpcRoute={"parentRefs": [{"name": "gateway"}]},
    ),
    scheduler(
        auth={
            "jwt": [{**CORP, "jwks": {"configMapRef": {"name": "corp", "key": "jwks.json"}}}],
            "policy": EVERYBODY,
        },
        networkPolicy={"clients": [{"namespace": "ci"}]},
    ),
    changed(FULL, {"spec.storage.objectStore.endpoint": "https://minio.example.org"}),
    changed(FULL, {"spec.auth.jwt[0]": FULL["spec"]["auth"]["jwt"][1], "spec.auth.jwt[1]": CORP}),
    changed(FULL, {"spec.networkPolicy.clients": [{"cidr": "10.0.0.0/8"}]}),
    changed(FULL, {"spec.networkPolicy.clients": [{"podLabels": {"a": "b"}}]}),
)
LEAVES = tuple(leaves())
BY_INPUT = ("spec.propertySetRef.name",)
"""What is at the other end is another input."""


@cache
def before_and_after(leaf: Leaf) -> tuple[Inputs, Inputs]:
    """The first of the bases that can have another value of the field, and with that value."""
    for base in BASES:
        if (obj := edited(base, leaf)) is not None:
            return inputs(base), inputs(obj)
    raise AssertionError(f"no other value of {leaf.path} is known; add one to fields.py, or to BASES")


def each(*effects: Effect, but: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    found = [leaf for leaf in LEAVES if leaf.effect in effects and leaf.path not in but]
    return pytest.mark.parametrize("leaf", found, ids=lambda leaf: leaf.path)


@each(Effect.ROLLOUT)
def test_a_field_that_rolls_changes_the_template(leaf: Leaf) -> None:
    before, after = before_and_after(leaf)
    assert build(after).template_hash != build(before).template_hash
    assert deployment(after)["spec"]["template"] != deployment(before)["spec"]["template"]


@each(Effect.RELOAD, Effect.APPLY)
def test_any_other_field_leaves_the_template_as_it_is(leaf: Leaf) -> None:
    before, after = before_and_after(leaf)
    assert deployment(after)["spec"]["template"] == deployment(before)["spec"]["template"]
    assert build(after).template_hash == build(before).template_hash


@each(Effect.RELOAD, but=BY_INPUT)
def test_a_field_that_is_reloaded_is_in_the_configuration(leaf: Leaf) -> None:
    before, after = before_and_after(leaf)
    assert build(before).config_hash != build(after).config_hash


def test_there_are_fields_of_each_kind() -> None:
    counts = {effect: [leaf.effect for leaf in LEAVES].count(effect) for effect in Effect}
    assert min(counts.values()) > 15
    assert all(leaf.effect is not None for leaf in LEAVES)
