"""A field that replaces bots changes their template; another one leaves pods and hash as they are."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from buildgrid_operator.api import BotFleet, InvalidSpec
from buildgrid_operator.api.bot_fleet import BotFleetSpec
from buildgrid_operator.api.model import Effect
from buildgrid_operator.desired.bots import bot_pod, bot_template_hash, resolve_bot_image
from buildgrid_operator.desired.names import TEMPLATE_HASH

from tests.cluster.api.objects import REMOVE
from tests.unit.operator.desired.bots.cases import FULL, IMAGE, Json, fleet, fleet_inputs
from tests.unit.operator.desired.cases import SETTINGS, changed, scheduler
from tests.unit.operator.desired.fields import Leaf, leaves

SETTINGS_WITH_BOT = replace(SETTINGS, bot_image=IMAGE)
OWNER = scheduler(instances=["", "team/a", "other"], allowedFleetNamespaces=["other"])
_RULES = {"policies": [{"type": "Bots", "value": 1}, {"type": "Bots", "value": 2}]}
SCALED = {
    "spec.replicas": 1,
    "spec.scaling": {
        "scaleUp": _RULES,
        "scaleDown": _RULES,
        "schedules": [{"start": "0 8 * * 1-5", "duration": "10h", "minBots": 1}],
        "fallback": {"bots": 1},
    },
}
BASES: tuple[Json, ...] = (
    fleet(resources={}),
    FULL,
    fleet(sandbox={"type": "RuntimeClass", "runtimeClassName": "gvisor"}),
)
MORE: dict[str, Any] = {
    "spec.instance": "other",
    "spec.podTemplate": {"spec": {"priorityClassName": "another"}},
    "spec.sandbox.type": "UserNamespace",
    "spec.schedulerRef.namespace": "farm",
    "spec.cacheSize": "77Gi",
    "spec.scaling.mode": "External",
    "spec.scaling.scaleUp.policies[0].type": "Percent",
    "spec.scaling.scaleDown.policies[0].type": "Percent",
    "spec.scaling.scaleUp.selectPolicy": "Min",
    "spec.scaling.scaleDown.selectPolicy": "Min",
    "spec.scaling.schedules[0].start": "0 9 * * *",
    "spec.scaling.schedules[0].timeZone": "Europe/Berlin",
}
"""Values for fields that have none among those of all other tests."""
ELSEWHERE = ("spec.schedulerRef.name", "spec.schedulerRef.namespace")
"""What they name is another input."""
LEAVES = tuple(leaves(BotFleetSpec))


@cache
def before_and_after(leaf: Leaf) -> tuple[Json, Json]:
    """The first base that can have another value of the field, and with that value."""
    for base in (*BASES, changed(fleet(), SCALED)):
        for other in [*([MORE[leaf.path]] if leaf.path in MORE else []), *leaf.others()]:
            try:
                obj = changed(base, {leaf.path: other})
                if BotFleet.parse(obj).spec.to_dict() != BotFleet.parse(base).spec.to_dict():
                    return base, obj
            except (InvalidSpec, LookupError, TypeError):
                continue
    raise AssertionError(f"no other value of {leaf.path} is known; add one")


def made(obj: Json) -> tuple[str, Json]:
    """The hash, and a pod without it."""
    inputs = fleet_inputs(obj, OWNER, image=resolve_bot_image(BotFleet.parse(obj), SETTINGS_WITH_BOT))
    return bot_template_hash(inputs), changed(
        bot_pod(inputs, 1), {"metadata.annotations": {"changed": "away"}}
    )


def each(effect: Effect, but: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    found = [leaf for leaf in LEAVES if leaf.effect is effect and leaf.path not in but]
    return pytest.mark.parametrize("leaf", found, ids=lambda leaf: leaf.path)


@each(Effect.ROLLOUT, but=ELSEWHERE)
def test_a_field_that_replaces_bots_changes_the_pods_and_their_hash(leaf: Leaf) -> None:
    before, after = map(made, before_and_after(leaf))
    assert after[0] != before[0] and after[1] != before[1]


@each(Effect.APPLY)
def test_any_other_field_leaves_the_pods_and_their_hash_as_they_are(leaf: Leaf) -> None:
    before, after = map(made, before_and_after(leaf))
    assert after == before


def test_there_are_fields_of_both_kinds_and_no_others() -> None:
    effects = [leaf.effect for leaf in LEAVES]
    assert effects.count(Effect.ROLLOUT) > 15 and effects.count(Effect.APPLY) > 15
    assert set(effects) == {Effect.ROLLOUT, Effect.APPLY}


FULL_OWNER = scheduler(
    auth={"kubernetes": {}, "jwt": [], "policy": [{"identities": [{"subject": "**"}], "rights": ["RunBots"]}]}
)
MOVES = {
    "spec.instances": ["first", "second"],
    "spec.auth.kubernetes.audience": "others",
    "spec.auth": REMOVE,
    "spec.tls": {"secretName": "server-tls"},
    "spec.storage": {"remote": {"endpoint": "grpc://cas:50051"}},
    "spec.jobs.maxExecutionTimeout": "9h",
    "spec.jobs.executionTimeoutGrace": "9m",
}
STAYS = {
    "spec.image": "ghcr.io/example/buildgrid-scheduler:9",
    "spec.replicas": 7,
    "spec.database.poolSize": 9,
    "spec.jobs.maxAttempts": 9,
    "spec.auth.policy[0].rights": ["Administer"],
    "spec.logging.level": "Debug",
    "spec.service.port": 443,
    "spec.networkPolicy": {"enabled": False},
    "spec.storage": {"managed": {"size": "3Ti"}},
}


def hash_for(owner: Json, **spec: Any) -> str:
    return bot_template_hash(fleet_inputs(fleet(**spec), owner))


@pytest.mark.parametrize("path", MOVES)
def test_where_the_scheduler_is_reached_and_how_long_it_lets_actions_run_replaces_bots(path: str) -> None:
    assert hash_for(changed(FULL_OWNER, {path: MOVES[path]})) != hash_for(FULL_OWNER)


@pytest.mark.parametrize("path", STAYS)
def test_nothing_else_of_the_scheduler_does(path: str) -> None:
    assert hash_for(changed(FULL_OWNER, {path: STAYS[path]})) == hash_for(FULL_OWNER)


def test_a_grace_period_of_the_fleets_own_does_not_follow_the_scheduler() -> None:
    longer = changed(FULL_OWNER, {"spec.jobs.maxExecutionTimeout": "9h"})
    assert hash_for(longer, terminationGracePeriod="1h") == hash_for(FULL_OWNER, terminationGracePeriod="1h")


def test_a_newer_operator_replaces_no_bot_and_a_newer_image_does() -> None:
    fleet_of = fleet_inputs(fleet(), OWNER)
    assert bot_template_hash(fleet_of) == bot_template_hash(fleet_inputs(fleet(), OWNER))
    settings = replace(SETTINGS, bot_image="bot:9", image_pull_secrets=("air-gap",))
    assert bot_template_hash(fleet_inputs(fleet(), OWNER, settings=settings)) == bot_template_hash(fleet_of)
    assert bot_template_hash(fleet_inputs(fleet(), OWNER, image="bot:9")) != bot_template_hash(fleet_of)


def test_the_hash_is_on_each_pod() -> None:
    inputs = fleet_inputs(fleet(), OWNER)
    assert bot_pod(inputs, 1)["metadata"]["annotations"][TEMPLATE_HASH] == bot_template_hash(inputs)
