"""Settings of identity, rights and TLS that contradict themselves are refused, naming the field."""

from typing import Any, get_args

import pytest
from buildgrid_scheduler.auth.key_set import ASYMMETRIC_ALGORITHMS, SECRET_BYTES
from buildgrid_scheduler.auth.mtls import FIELDS, ISSUER
from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.config import auth
from buildgrid_scheduler.config.auth import AuthConfig, FleetConfig, TlsConfig, contradiction
from buildgrid_scheduler.config.changes import changes
from buildgrid_scheduler.config.model import Config
from buildgrid_scheduler.config.section import FieldError
from pydantic import ValidationError

POLICY = [{"identities": [{"subject": "**"}], "rights": ["execute"]}]
JWT = {"audiences": ["buildgrid"], "jwks": {"file": "jwks.json"}}
TLS = {"certificate_file": "tls.crt", "key_file": "tls.key"}


def problem(values: dict[str, Any]) -> str:
    """Field and message, as people are told."""
    with pytest.raises(ValidationError) as caught:
        AuthConfig.model_validate(values)
    error = caught.value.errors()[0]
    place = [str(part) for part in error["loc"]]
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, FieldError):
        place.append(cause.field)
    return f"{'.'.join(place)}: {error['msg']}"


def test_by_default_there_is_no_authentication() -> None:
    assert not AuthConfig().enabled


def test_names_mean_the_same_in_settings_and_in_the_program() -> None:
    assert set(get_args(auth.RightName)) == {right.value for right in Right}
    assert set(get_args(auth.CertificateField)) == set(FIELDS)
    assert set(get_args(auth.AsymmetricAlgorithm)) == ASYMMETRIC_ALGORITHMS
    assert set(get_args(auth.SymmetricAlgorithm)) == set(SECRET_BYTES)
    assert auth.CERTIFICATE_ISSUER == ISSUER


@pytest.mark.parametrize(
    "jwt",
    [
        JWT,
        {**JWT, "jwks": {"url": "https://k/openid/v1/jwks", "ca_file": "ca", "bearer_token_file": "token"}},
        {**JWT, "kubernetes": True, "issuer": "https://kubernetes.default.svc"},
        {"audiences": ["x"], "secret_file": "secret", "algorithms": ["HS512"]},
    ],
)
def test_an_issuer_has_keys_at_one_place(jwt: dict[str, Any]) -> None:
    assert AuthConfig.model_validate({"jwt": [jwt], "policy": POLICY}).enabled


@pytest.mark.parametrize(
    ("jwt", "said"),
    [
        ({"jwks": {"file": "x"}}, "jwt.0.audiences: Field required"),
        ({**JWT, "audiences": []}, "jwt.0.audiences"),
        ({"audiences": ["x"]}, "jwt.0: Value error, needs jwks or secret_file"),
        ({**JWT, "secret_file": "x"}, "jwt.0.secret_file: Value error, excludes jwks"),
        ({**JWT, "algorithms": ["HS256"]}, "jwt.0.algorithms: Value error, HS256 needs a secret_file"),
        ({**JWT, "algorithms": ["none"]}, "jwt.0.algorithms"),
        (
            {"audiences": ["x"], "secret_file": "x", "algorithms": ["HS256", "ES256"]},
            "jwt.0.algorithms: Value error, ES256 needs jwks",
        ),
        ({**JWT, "kubernetes": True}, "jwt.0.issuer: Value error, must be set for Kubernetes"),
        ({**JWT, "name": "mtls"}, "jwt.0.name: Value error, 'mtls' is taken"),
        ({**JWT, "name": "a b"}, "jwt.0.name"),
        ({**JWT, "leeway": "1h"}, "jwt.0.leeway"),
        ({**JWT, "jwks": {}}, "jwt.0.jwks: Value error, needs file or url"),
        ({**JWT, "jwks": {"file": "x", "url": "https://x"}}, "jwt.0.jwks.url: Value error, excludes file"),
        ({**JWT, "jwks": {"url": "file:///etc/passwd"}}, "jwt.0.jwks.url"),
        ({**JWT, "jwks": {"file": "x", "ca_file": "y"}}, "jwt.0.jwks.ca_file: Value error, is of no use"),
        (
            {**JWT, "jwks": {"url": "http://x", "bearer_token_file": "y"}},
            "jwt.0.jwks.bearer_token_file: Value error, would be sent unencrypted",
        ),
    ],
)
def test_an_issuer_that_cannot_work_is_refused(jwt: dict[str, Any], said: str) -> None:
    assert problem({"jwt": [jwt], "policy": POLICY}).startswith(said)


def test_several_issuers_are_told_apart() -> None:
    a, b = {**JWT, "name": "a", "issuer": "https://a"}, {**JWT, "name": "b", "issuer": "https://b"}
    assert AuthConfig.model_validate({"jwt": [a, b], "policy": POLICY}).enabled
    for other, said in (
        ({**b, "name": "a"}, "jwt.1.name"),
        ({**b, "issuer": "https://a"}, "jwt.1.issuer"),
        ({**b, "issuer": None}, "jwt.1.issuer"),
    ):
        assert problem({"jwt": [a, other], "policy": POLICY}).startswith(said)


def test_authentication_and_policy_need_each_other() -> None:
    assert problem({"mtls": {}}).startswith("policy: Value error, is empty")
    assert problem({"policy": POLICY}).startswith("policy: Value error, has no effect")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"identities": [], "rights": ["execute"]}, "policy.0.identities"),
        ({"identities": [{}], "rights": ["execute"]}, "policy.0.identities.0: Value error, needs a pattern"),
        ({"identities": [{"subject": "x"}], "rights": []}, "policy.0.rights"),
        ({"identities": [{"subject": "x"}], "rights": ["fly"]}, "policy.0.rights"),
        ({"identities": [{"subject": "x"}], "rights": ["execute"], "instances": []}, "policy.0.instances"),
        ({"identities": [{"user": "x"}], "rights": ["execute"]}, "policy.0.identities.0.user"),
    ],
)
def test_a_rule_that_grants_nothing_is_refused(rule: dict[str, Any], said: str) -> None:
    assert problem({"mtls": {}, "policy": [rule]}).startswith(said)


def test_client_certificates_need_a_ca() -> None:
    mtls = AuthConfig.model_validate({"mtls": {}, "policy": POLICY})
    assert "tls.client_ca_file" in (contradiction(mtls, None) or "")
    assert "tls.client_ca_file" in (contradiction(mtls, TlsConfig.model_validate(TLS)) or "")
    assert contradiction(mtls, TlsConfig.model_validate({**TLS, "client_ca_file": "ca.crt"})) is None
    assert contradiction(AuthConfig(), None) is None


# The Fleet service on a port of its own

FLEET_AUTH = {"jwt": [JWT], "policy": POLICY}


@pytest.mark.parametrize(
    ("auth", "field"),
    [
        ({}, "auth.jwt"),
        ({**FLEET_AUTH, "jwt": [], "mtls": {}}, "auth.jwt"),
        ({**FLEET_AUTH, "mtls": {}}, "auth.mtls"),
    ],
)
def test_callers_of_the_fleet_port_are_known_by_tokens_alone(auth: dict[str, Any], field: str) -> None:
    assert FleetConfig.model_validate({"listen": "[::]:50052", "auth": FLEET_AUTH}).auth.enabled
    with pytest.raises(ValidationError) as caught:
        FleetConfig.model_validate({"listen": "[::]:50052", "auth": auth})
    cause = caught.value.errors()[0]["ctx"]["error"]
    assert isinstance(cause, FieldError) and cause.field == field


def test_a_server_that_only_stores_has_no_fleet() -> None:
    fleet = {"listen": "[::]:50052", "auth": FLEET_AUTH}
    assert Config.model_validate({"fleet": fleet}).fleet is not None
    with pytest.raises(ValidationError, match="is of no use without"):
        Config.model_validate({"fleet": fleet, "services": {"execution": False, "bots": False}})


def test_only_the_policy_of_the_fleet_port_changes_without_a_restart() -> None:
    def config(**auth: Any) -> Config:
        fleet = {"listen": "[::]:50052", "auth": {**FLEET_AUTH, **auth}}
        return Config.model_validate({"fleet": fleet})

    policy = [{**POLICY[0], "rights": ["administer"]}]
    assert changes(config(), config(policy=policy)).reloadable == ["fleet.auth.policy"]
    assert changes(config(), config(jwt=[{**JWT, "leeway": "5s"}])).at_restart == ["fleet.auth.jwt"]
    assert changes(Config(), config()).at_restart == ["fleet"]
