"""The operator's own tokens: asked for once for each Scheduler, and again in time."""

from datetime import UTC, datetime, timedelta
from typing import cast

from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.own_tokens import LIFETIME, OwnTokens


class Server:
    """Gives tokens, numbered, which live as long as was asked."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)
        self.asked: list[tuple[str, str, str]] = []

    def request_token(
        self, namespace: str, service_account: str, audience: str, lifetime: timedelta
    ) -> tuple[str, datetime]:
        self.asked.append((namespace, service_account, audience))
        return f"token-{len(self.asked)}", self.now + lifetime

    def tokens(self) -> OwnTokens:
        return OwnTokens(cast(Client, self), "system", "operator", clock=lambda: self.now)


def test_each_audience_has_a_token_of_its_own_that_is_asked_for_once() -> None:
    server = Server()
    tokens = server.tokens()
    assert [tokens(audience) for audience in ("a", "b", "a", "b")] == ["token-1", "token-2"] * 2
    assert server.asked == [("system", "operator", "a"), ("system", "operator", "b")]


def test_it_is_renewed_before_it_expires() -> None:
    server = Server()
    tokens = server.tokens()
    tokens("a")
    server.now += LIFETIME * 0.79
    assert tokens("a") == "token-1"
    server.now += LIFETIME * 0.02
    assert tokens("a") == "token-2"


def test_one_that_was_refused_is_not_shown_again() -> None:
    server = Server()
    tokens = server.tokens()
    tokens("a")
    tokens("b")
    tokens.forget("a")
    assert (tokens("a"), tokens("b")) == ("token-3", "token-2")
