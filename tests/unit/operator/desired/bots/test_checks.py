"""What of a BotFleet does not fit its Scheduler, and what the person who wrote it is told."""

import pytest
from buildgrid_operator.api import InvalidSpec
from buildgrid_operator.desired.bots import bot_pod, check, notices
from buildgrid_scheduler.auth.identity import Identity, KubernetesAccount
from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.config.auth import AuthConfig
from buildgrid_scheduler.server.auth import build_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.operator.desired.bots.cases import CERTIFICATES, OWN_CA, TOKENS, Json, fleet, fleet_inputs
from tests.unit.operator.desired.cases import CORP, EVERYBODY, changed, scheduler

VISITOR = changed(fleet(), {"metadata.namespace": "ci", "spec.schedulerRef.namespace": "farm"})


def problems(obj: Json, owner: Json | None = None) -> list[str]:
    inputs = fleet_inputs(obj, owner)
    try:
        check(inputs)
    except InvalidSpec as error:
        with pytest.raises(InvalidSpec):
            bot_pod(inputs, 1)
        return [str(problem) for problem in error.problems]
    bot_pod(inputs, 1)
    return []


def told(obj: Json, owner: Json) -> list[str]:
    return [str(problem) for problem in notices(fleet_inputs(obj, owner))]


def with_variable(name: str) -> Json:
    env = [{"name": name, "value": "/run/mine"}]
    return fleet(podTemplate={"spec": {"containers": [{"name": "bot", "env": env}]}})


@pytest.mark.parametrize("allowed", [["ci"], ["*"], ["a", "ci"]])
def test_a_fleet_of_another_namespace_needs_to_be_allowed(allowed: list[str]) -> None:
    assert problems(VISITOR, scheduler(allowedFleetNamespaces=allowed)) == []
    (problem,) = problems(VISITOR, scheduler(allowedFleetNamespaces=["other"]))
    assert problem.startswith("spec.schedulerRef.namespace: ")
    assert "add it to the Scheduler's spec.allowedFleetNamespaces" in problem


def test_an_instance_that_is_not_served_is_named_with_those_that_are() -> None:
    (problem,) = problems(fleet(instance="typo"), scheduler(instances=["", "main"]))
    assert problem == "spec.instance: the Scheduler main does not serve 'typo'; it serves '', 'main'"


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert len(problems(changed(VISITOR, {"spec.instance": "typo"}))) == 2


def test_a_fleet_that_fits_is_told_nothing() -> None:
    assert told(fleet(), scheduler()) == told(fleet(), scheduler(auth=TOKENS, tls=OWN_CA)) == []


def test_the_ca_of_another_namespace_is_to_be_copied() -> None:
    (notice,) = told(VISITOR, scheduler(tls=OWN_CA, allowedFleetNamespaces=["ci"]))
    assert "the ConfigMap internal-ca" in notice and "keep a copy there" in notice
    assert told(VISITOR, scheduler(tls={"secretName": "x"}, allowedFleetNamespaces=["ci"])) == []


def test_bots_need_a_certificate_where_everybody_does() -> None:
    owner = scheduler(tls=CERTIFICATES)
    (notice,) = told(fleet(), owner)
    assert "set BUILDGRID_BOT_TLS_CERTIFICATE and BUILDGRID_BOT_TLS_KEY" in notice
    assert told(with_variable("BUILDGRID_BOT_TLS_CERTIFICATE"), owner) == []


def test_bots_need_something_to_show_where_their_tokens_count_for_nothing() -> None:
    owner = scheduler(auth={"jwt": [CORP], "policy": EVERYBODY})
    (notice,) = told(fleet(), owner)
    assert "set auth.kubernetes of the Scheduler" in notice
    assert told(with_variable("BUILDGRID_BOT_TOKEN_FILE"), owner) == []


def test_a_policy_that_lets_no_bot_in_is_told_with_the_rule_that_does() -> None:
    owner = scheduler(auth={"kubernetes": {}, "policy": EVERYBODY})
    (notice,) = told(fleet(), owner)
    assert "add {identities: [{serviceAccount: farm/linux-bots}], rights: [RunBots]}" in notice
    rule = {"identities": [{"serviceAccount": "farm/linux-bots"}], "rights": ["RunBots"]}
    assert told(fleet(), changed(owner, {"spec.auth.policy": [*EVERYBODY, rule]})) == []


def some(*words: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(words), min_size=1, max_size=2, unique=True)


PATTERNS = st.sampled_from(
    [
        "*",
        "**",
        "farm/*",
        "farm/linux-bots",
        "*/linux-????",
        "kubernetes",
        "corp",
        "system:**",
        "**:linux-bots",
        "",
    ]
)
MATCHER = st.dictionaries(
    st.sampled_from(["issuer", "subject", "actor", "workflow", "group", "serviceAccount"]),
    PATTERNS.filter(bool),
    min_size=1,
    max_size=3,
)
RULE = st.fixed_dictionaries(
    {
        "identities": st.lists(MATCHER, min_size=1, max_size=2),
        "instances": some("**", "*", "team/*", "team/a"),
        "rights": some("RunBots", "Execute", "Administer"),
    }
)
WORDS = {"RunBots": "run-bots", "Execute": "execute", "Administer": "administer"}


@settings(deadline=None, max_examples=150)
@given(st.lists(RULE, min_size=1, max_size=3), st.sampled_from(["", "team/a", "main"]))
def test_a_policy_is_read_as_the_scheduler_reads_it(rules: list[Json], instance: str) -> None:
    owner = scheduler(auth={"kubernetes": {}, "policy": rules}, instances=[instance])
    written = [
        {
            **rule,
            "identities": [
                {
                    "service_account" if name == "serviceAccount" else name: value
                    for name, value in each.items()
                }
                for each in rule["identities"]
            ],
            "rights": [WORDS[right] for right in rule["rights"]],
        }
        for rule in rules
    ]
    issuer = {
        "name": "kubernetes",
        "issuer": "k",
        "audiences": ["b"],
        "jwks": {"file": "/k"},
        "kubernetes": True,
    }
    policy = build_policy(AuthConfig.model_validate({"jwt": [issuer], "policy": written}))
    subject = "system:serviceaccount:farm:linux-bots"
    account = KubernetesAccount("farm", "linux-bots", "linux-1")
    bot = Identity("kubernetes", "kubernetes", subject, subject, frozenset(), account)
    allowed = policy.missing(Right.RUN_BOTS, bot, instance) is None
    assert (told(fleet(), owner) == []) is allowed
