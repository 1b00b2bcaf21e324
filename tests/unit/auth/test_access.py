"""What services ask: denied are those without the right, and whoever has no identity at all."""

import logging
from collections.abc import Iterator
from contextvars import copy_context

import pytest
from buildgrid_scheduler.auth.access import (
    Access,
    OpenAccess,
    PolicyAccess,
    bind_caller,
    check_bot_identity,
    current_caller,
)
from buildgrid_scheduler.auth.denials import DenialLog
from buildgrid_scheduler.auth.identity import Identity, KubernetesAccount
from buildgrid_scheduler.auth.policy import Matcher, Policy, Right, Rule
from buildgrid_scheduler.core.errors import PermissionDenied, Unauthenticated

ALICE = Identity("corp", "corp", "alice", "alice")
BOB = Identity("corp", "corp", "bob", "bob")
ROOT = Identity("corp", "corp", "root", "root")


def bot(pod: str | None) -> Identity:
    account = KubernetesAccount("builds", "bot", pod)
    return Identity("cluster", "cluster", "sa", "system:serviceaccount:builds:bot", kubernetes=account)


@pytest.fixture
def access() -> Access:
    def rule(matcher: Matcher, right: Right) -> Rule:
        return Rule((matcher,), ("main",), frozenset({right}))

    policy = Policy(
        [
            rule(Matcher(issuer="corp"), Right.EXECUTE),
            rule(Matcher(subject="root"), Right.ADMINISTER),
            rule(Matcher(service_account="builds/bot"), Right.RUN_BOTS),
        ]
    )
    return PolicyAccess(policy, DenialLog())


@pytest.fixture(autouse=True)
def nobody() -> Iterator[None]:
    assert current_caller() is None
    yield
    assert current_caller() is None, "a test left a caller behind; use ask()"


def ask(caller: Identity, question: object, *args: object) -> object:
    """The answer in a call of this caller."""

    def run() -> object:
        bind_caller(caller)
        assert callable(question)
        return question(*args)

    return copy_context().run(run)


def test_who_has_the_right_passes_and_is_named(access: Access) -> None:
    assert ask(ALICE, access.authorize, Right.EXECUTE, "main") is ALICE
    assert ask(ALICE, access.allows, Right.EXECUTE, "main") is True


def test_a_denial_names_the_right_the_instance_and_the_identity(access: Access) -> None:
    with pytest.raises(PermissionDenied, match=r"'alice'.*right 'run-bots' in instance 'main' is missing"):
        ask(ALICE, access.authorize, Right.RUN_BOTS, "main")
    assert ask(ALICE, access.allows, Right.RUN_BOTS, "main") is False


def test_rights_in_one_instance_are_none_in_another(access: Access) -> None:
    with pytest.raises(PermissionDenied, match="instance 'other'"):
        ask(ROOT, access.authorize, Right.CACHE_READ, "other")


def test_a_call_without_identity_is_denied_everything(access: Access) -> None:
    assert not access.allows(Right.CACHE_READ, "main")
    with pytest.raises(Unauthenticated):
        access.authorize(Right.CACHE_READ, "main")
    with pytest.raises(Unauthenticated):
        access.authorize_operation("main", "op", None)
    with pytest.raises(Unauthenticated):
        access.listed_owner("main")
    with pytest.raises(Unauthenticated):
        access.authorize_bot("main", "bot-1")


def test_operations_belong_to_their_identity(access: Access) -> None:
    owner = ALICE.owner_in("main")
    ask(ALICE, access.authorize_operation, "main", "op", owner)
    ask(ROOT, access.authorize_operation, "main", "op", owner)
    with pytest.raises(PermissionDenied, match=r"'bob'.*'op' belongs to another.*'administer'"):
        ask(BOB, access.authorize_operation, "main", "op", owner)


def test_a_row_of_the_database_is_an_owner(access: Access) -> None:
    ask(ALICE, access.authorize_operation, "main", "op", ("main", "corp", "alice", "alice"))


def test_administrators_list_everything_and_others_their_own(access: Access) -> None:
    assert ask(ROOT, access.listed_owner, "main") is None
    assert ask(ALICE, access.listed_owner, "main") == ALICE.owner_in("main")


def test_a_pod_runs_the_bot_of_its_name_and_no_other(access: Access) -> None:
    assert ask(bot("bot-1"), access.authorize_bot, "main", "bot-1") == bot("bot-1")
    with pytest.raises(PermissionDenied, match=r"'run-bots' as bot 'bot-2'.*pod 'bot-1'"):
        ask(bot("bot-1"), access.authorize_bot, "main", "bot-2")


def test_a_service_account_token_without_a_pod_runs_no_bot(access: Access) -> None:
    with pytest.raises(PermissionDenied, match="bound to no pod"):
        ask(bot(None), access.authorize_bot, "main", "bot-1")


def test_the_right_to_run_bots_comes_before_the_name(access: Access) -> None:
    with pytest.raises(PermissionDenied, match="right 'run-bots' in instance 'main' is missing"):
        ask(ALICE, access.authorize_bot, "main", "alice")


def test_identities_from_elsewhere_choose_their_bot_id() -> None:
    check_bot_identity(ALICE, "anything")
    check_bot_identity(None, "anything")


def test_without_authentication_nothing_is_denied() -> None:
    access = OpenAccess()
    assert access.authorize(Right.ADMINISTER, "main") is None
    assert access.allows(Right.ADMINISTER, "main")
    assert access.authorize_bot("main", "x") is None
    assert access.listed_owner("main") is None
    access.authorize_operation("main", "op", ALICE.owner_in("main"))


def test_denials_are_logged(access: Access, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(PermissionDenied):
        ask(ALICE, access.authorize, Right.RUN_BOTS, "main")
    assert "denied: 'alice' (issuer corp): the right 'run-bots'" in caplog.text


def test_a_flood_of_denials_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    now = 5.0
    denials = DenialLog(per_second=3, monotonic=lambda: now)
    for _ in range(10):
        denials.note("x", "no")
    assert len(caplog.records) == 3
    now = 6.0
    denials.note("x", "no")
    denials.note("x", "no")
    assert caplog.messages[3:] == ["denied: x: no (7 more denials were not logged)", "denied: x: no"]
