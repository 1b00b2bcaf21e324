"""Rules grant rights to identities in instances, and nothing else does."""

import pytest
from buildgrid_scheduler.auth.identity import Identity, KubernetesAccount
from buildgrid_scheduler.auth.policy import Matcher, Policy, Right, Rule, may_touch_operation

ALICE = Identity("corp", "corp", "alice", "alice", frozenset({"developers", "linux"}))
BOT = Identity(
    "cluster",
    "cluster",
    "sa",
    "system:serviceaccount:builds:bot",
    kubernetes=KubernetesAccount("builds", "bot"),
)
EVERYBODY = (Matcher(subject="**"),)


def rule(
    *rights: Right, identities: tuple[Matcher, ...] = EVERYBODY, instances: tuple[str, ...] = ("**",)
) -> Rule:
    return Rule(identities, instances, frozenset(rights))


def test_without_a_rule_nobody_may_do_anything() -> None:
    assert Policy([]).rights(ALICE, "") == frozenset()


def test_a_right_that_is_missing_is_named() -> None:
    policy = Policy([rule(Right.EXECUTE)])
    assert policy.missing(Right.EXECUTE, ALICE, "main") is None
    assert policy.missing(Right.RUN_BOTS, ALICE, "main") is Right.RUN_BOTS


def test_rights_are_granted_in_the_instances_of_the_rule_only() -> None:
    policy = Policy([rule(Right.EXECUTE, instances=("team/*", ""))])
    assert Right.EXECUTE in policy.rights(ALICE, "team/a")
    assert Right.EXECUTE in policy.rights(ALICE, "")
    assert policy.rights(ALICE, "other") == policy.rights(ALICE, "team/a/b") == frozenset()


def test_the_rights_of_all_rules_that_match_add_up() -> None:
    policy = Policy([rule(Right.EXECUTE), rule(Right.RUN_BOTS, instances=("bots",))])
    assert {Right.EXECUTE, Right.RUN_BOTS} <= policy.rights(ALICE, "bots")
    assert Right.RUN_BOTS not in policy.rights(ALICE, "main")


@pytest.mark.parametrize(
    ("granted", "included"),
    [
        (Right.CACHE_READ, {Right.CACHE_READ}),
        (Right.CAS_WRITE, {Right.CAS_WRITE, Right.CACHE_READ}),
        (Right.EXECUTE, {Right.EXECUTE, Right.CAS_WRITE, Right.CACHE_READ}),
        (Right.ACTION_CACHE_UPDATE, {Right.ACTION_CACHE_UPDATE, Right.CAS_WRITE, Right.CACHE_READ}),
        (Right.RUN_BOTS, {Right.RUN_BOTS, Right.CAS_WRITE, Right.CACHE_READ}),
        (Right.ADMINISTER, set(Right)),
    ],
)
def test_a_right_includes_those_without_which_it_is_of_no_use(granted: Right, included: set[Right]) -> None:
    assert Policy([rule(granted)]).rights(ALICE, "") == included


@pytest.mark.parametrize(
    ("matcher", "alice", "bot"),
    [
        (Matcher(subject="al*"), True, False),
        (Matcher(subject="**", issuer="corp"), True, False),
        (Matcher(subject="alice", issuer="cluster"), False, False),
        (Matcher(actor="alice"), True, False),
        (Matcher(workflow="c*"), True, True),
        (Matcher(group="linux"), True, False),
        (Matcher(group="windows"), False, False),
        (Matcher(group="linux", subject="bob"), False, False),
        (Matcher(service_account="builds/*"), False, True),
        (Matcher(service_account="other/bot"), False, False),
    ],
)
def test_all_patterns_of_a_matcher_must_match(matcher: Matcher, alice: bool, bot: bool) -> None:
    assert (matcher.matches(ALICE), matcher.matches(BOT)) == (alice, bot)


def test_one_of_several_matchers_is_enough() -> None:
    policy = Policy([rule(Right.EXECUTE, identities=(Matcher(subject="bob"), Matcher(subject="alice")))])
    assert Right.EXECUTE in policy.rights(ALICE, "")


def test_a_matcher_without_a_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="without a pattern"):
        Matcher()


def test_a_subject_that_looks_like_a_service_account_is_not_one() -> None:
    pretender = Identity("corp", "corp", "x", "system:serviceaccount:builds:bot")
    assert not Matcher(service_account="builds/bot").matches(pretender)


def test_an_operation_is_for_its_own_identity_and_for_administrators() -> None:
    own, foreign = ALICE.owner_in("main"), BOT.owner_in("main")
    execute, administer = frozenset({Right.EXECUTE}), frozenset(Right)
    assert may_touch_operation(ALICE, "main", own, execute)
    assert not may_touch_operation(ALICE, "main", foreign, execute)
    assert not may_touch_operation(ALICE, "other", own, execute)
    assert may_touch_operation(ALICE, "main", foreign, administer)


def test_an_operation_of_nobody_is_for_administrators() -> None:
    assert not may_touch_operation(ALICE, "main", None, frozenset({Right.EXECUTE}))
    assert may_touch_operation(ALICE, "main", None, frozenset(Right))


def test_without_authentication_operations_are_for_everybody() -> None:
    assert may_touch_operation(None, "main", None, frozenset())
    assert may_touch_operation(None, "main", ALICE.owner_in("main"), frozenset())
