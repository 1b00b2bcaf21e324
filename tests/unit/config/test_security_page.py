"""What docs/security.md shows can be used as it is, and does what it says."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from buildgrid_scheduler.auth.access import PolicyAccess
from buildgrid_scheduler.auth.identity import Identity, KubernetesAccount
from buildgrid_scheduler.auth.policy import Matcher, Policy, Right, Rule
from buildgrid_scheduler.config.auth import AuthConfig, TlsConfig, contradiction
from buildgrid_scheduler.server.auth import build_auth

PAGE = Path(__file__).parents[3] / "docs" / "security.md"
SAMPLES: list[dict[str, Any]] = [
    sample
    for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    if "auth" in (sample := yaml.safe_load(block))
]


def policy(sample: dict[str, Any]) -> Policy:
    rules = AuthConfig.model_validate(sample["auth"]).policy
    return Policy(
        Rule(
            tuple(Matcher(**matcher.model_dump()) for matcher in rule.identities),
            rule.instances,
            frozenset(map(Right, rule.rights)),
        )
        for rule in rules
    )


def test_there_are_samples_for_tokens_and_for_certificates() -> None:
    assert [set(sample["auth"]) & {"jwt", "mtls"} for sample in SAMPLES] == [{"jwt"}, {"mtls"}]


@pytest.mark.parametrize("sample", SAMPLES, ids=["tokens", "certificates"])
def test_a_sample_is_a_configuration(sample: dict[str, Any]) -> None:
    auth, tls = AuthConfig.model_validate(sample["auth"]), TlsConfig.model_validate(sample["tls"])
    assert contradiction(auth, tls) is None
    assert isinstance(build_auth(auth, tls).access, PolicyAccess)


def test_the_sample_for_tokens_grants_what_it_seems_to() -> None:
    granted = policy(SAMPLES[0])
    developer = Identity("corp", "corp", "a@example.org", "a@example.org", frozenset({"developers"}))
    pretender = Identity("cluster", "cluster", "x", "x", frozenset({"developers"}))
    bot = Identity("cluster", "cluster", "sa", "sa", kubernetes=KubernetesAccount("builds", "bot", "bot-1"))
    assert Right.EXECUTE in granted.rights(developer, "team/a")
    assert granted.rights(developer, "other") == frozenset()
    assert Right.ACTION_CACHE_UPDATE not in granted.rights(developer, "main")
    assert granted.rights(pretender, "main") == frozenset()
    assert Right.RUN_BOTS in granted.rights(bot, "anything/at/all")
    assert Right.EXECUTE not in granted.rights(bot, "main")


def test_the_sample_for_certificates_grants_what_it_seems_to() -> None:
    granted = policy(SAMPLES[1])
    bot = Identity("mtls", "mtls", "x", "spiffe://example.org/ns/builds/sa/bot")
    assert Right.RUN_BOTS in granted.rights(bot, "main")


def test_the_page_names_every_right() -> None:
    for right in Right:
        assert f"| `{right.value}` |" in PAGE.read_text()
