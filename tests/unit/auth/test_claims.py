"""The claims of a verified token become an identity, or the reason why not."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from buildgrid_scheduler.auth.claims import ClaimMapping, verified_claims
from buildgrid_scheduler.auth.identity import Identity, KubernetesAccount, Owner, Verified
from buildgrid_scheduler.core.errors import Unauthenticated

from tests.credentials.tokens import service_account

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LEEWAY = timedelta(seconds=30)
USUAL = {"sub": "alice", "exp": NOW.timestamp() + 60}


def verified(claims: dict[str, Any], *, kubernetes: bool = False, **mapping: tuple[str, ...]) -> Verified:
    claims = {name: value for name, value in {**USUAL, **claims}.items() if value is not None}
    return verified_claims(claims, "corp", ClaimMapping(**mapping), kubernetes=kubernetes, leeway=LEEWAY)


def test_by_default_the_subject_is_sub_and_the_workflow_is_the_issuer() -> None:
    identity = verified({"groups": ["a", "b"]}).identity
    assert identity == Identity("corp", "corp", "alice", "alice", frozenset({"a", "b"}))
    assert identity.owner_in("main") == Owner("main", "corp", "alice", "alice")


def test_who_acts_on_anothers_behalf_is_the_actor() -> None:
    identity = verified({"act": {"sub": "ci"}}).identity
    assert (identity.actor, identity.subject) == ("ci", "alice")
    assert str(identity) == "'alice' (issuer corp, actor 'ci')"


@pytest.mark.parametrize("claim", [{"https://a.b/id": "x"}, {"a.b": {"c": "x"}}, {"a": {"b": {"c": "x"}}}])
def test_a_path_reaches_into_claims_whose_names_may_hold_dots(claim: dict[str, Any]) -> None:
    assert verified(claim, workflow=("https://a.b/id", "a.b.c")).identity.workflow == "x"


def test_the_first_claim_that_is_there_counts() -> None:
    mapping = ("email", "name", "sub")
    assert verified({"name": "Alice", "email": 7}, subject=mapping).identity.subject == "Alice"


@pytest.mark.parametrize(
    ("claim", "groups"), [("one", {"one"}), (["one", 2, "two"], {"one", "two"}), ({"one": 1}, set())]
)
def test_groups_are_a_list_of_names_or_one(claim: object, groups: set[str]) -> None:
    assert verified({"groups": claim}).identity.groups == groups


@pytest.mark.parametrize("subject", [None, "", "a\0b", "x" * 513, "é" * 300, ["alice"]])
def test_a_subject_that_cannot_be_stored_is_refused(subject: object) -> None:
    with pytest.raises(Unauthenticated, match="sub"):
        verified({"sub": subject})


def test_control_characters_do_not_reach_logs() -> None:
    assert "\n" not in str(verified({"sub": "x\ndenied: nobody"}).identity)


def test_a_token_that_never_expires_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="never expires"):
        verified({"exp": None})


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["soon", True, float("nan"), float("inf"), [1]])
def test_a_time_that_is_none_is_refused(name: str, value: object) -> None:
    with pytest.raises(Unauthenticated, match=f"{name} is not a time"):
        verified({name: value})


@pytest.mark.parametrize("value", [10**300, 1e300, -(10**300), 0])
def test_no_time_is_too_far_away(value: float) -> None:
    far = verified({"exp": value})
    assert (far.expires > NOW) == (value > 0)


@pytest.mark.parametrize(
    ("claims", "at", "problem"),
    [
        ({}, 0, None),
        ({}, 60 + 29, None),
        ({}, 60 + 30, "expired"),
        ({"nbf": NOW.timestamp() + 30}, 0, None),
        ({"nbf": NOW.timestamp() + 31}, 0, "not valid yet"),
        ({"iat": NOW.timestamp() + 31}, 0, "not valid yet"),
        ({"iat": NOW.timestamp() + 31}, 1, None),
    ],
)
def test_clocks_may_differ_by_the_leeway_and_no_more(
    claims: dict[str, Any], at: float, problem: str | None
) -> None:
    token = verified(claims)
    if problem is None:
        token.check(NOW + timedelta(seconds=at))
    else:
        with pytest.raises(Unauthenticated, match=problem):
            token.check(NOW + timedelta(seconds=at))


def test_a_service_account_token_names_account_and_pod() -> None:
    identity = verified(service_account("bot-1"), kubernetes=True).identity
    assert identity.subject == "system:serviceaccount:builds:bot"
    assert identity.kubernetes == KubernetesAccount("builds", "bot", "bot-1")
    assert identity.kubernetes.qualified == "builds/bot"
    assert "pod 'bot-1'" in str(identity)


def test_a_service_account_token_may_be_bound_to_no_pod() -> None:
    identity = verified(service_account(None), kubernetes=True).identity
    assert identity.kubernetes == KubernetesAccount("builds", "bot", None)


def test_the_kubernetes_claim_of_another_issuer_is_not_believed() -> None:
    assert verified(service_account("bot-1")).identity.kubernetes is None


@pytest.mark.parametrize(
    "claim",
    [
        None,
        "x",
        {},
        {"namespace": "builds"},
        {"namespace": "builds", "serviceaccount": "bot"},
        {"namespace": "builds", "serviceaccount": {"name": "bot"}, "pod": {"name": 7}},
    ],
)
def test_a_token_of_a_cluster_must_be_that_of_a_service_account(claim: object) -> None:
    with pytest.raises(Unauthenticated, match="service account"):
        verified({"kubernetes.io": claim}, kubernetes=True)
