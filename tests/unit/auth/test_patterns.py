"""Patterns of policies: what a wildcard reaches, and what it must not reach."""

import pytest
from buildgrid_scheduler.auth.patterns import matches


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("alice", "alice"),
        ("*", ""),
        ("*", "main"),
        ("**", ""),
        ("**", "team/main"),
        ("team/*", "team/main"),
        ("team/**", "team/a/b"),
        ("*@example.org", "alice@example.org"),
        ("builds/bot-?", "builds/bot-1"),
        ("system:serviceaccount:*:bot", "system:serviceaccount:builds:bot"),
        ("a.b", "a.b"),
        ("", ""),
    ],
)
def test_it_matches(pattern: str, value: str) -> None:
    assert matches(pattern, value)


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        ("alice", "alice2"),
        ("alice", "Alice"),
        ("alice", "alice\n"),
        ("*", "team/main"),
        ("team/*", "team/a/b"),
        ("team/*", "team"),
        ("team?main", "team/main"),
        ("spiffe://c/ns/*/sa/bot", "spiffe://c/ns/x/sa/evil/sa/bot"),
        ("a.b", "axb"),
        ("[ab]", "a"),
        ("", "x"),
    ],
)
def test_it_does_not_match(pattern: str, value: str) -> None:
    assert not matches(pattern, value)
