"""Which tokens are believed. Keys are here already, unless a test says otherwise."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from buildgrid_scheduler.auth.jwt import Issuer, JwtAuthenticator
from buildgrid_scheduler.auth.key_ring import KeyRing
from buildgrid_scheduler.auth.key_set import KeySet, UnusableKeysError, parse_jwks, secret_key
from buildgrid_scheduler.core.errors import Unauthenticated, Unavailable
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from tests.credentials.tokens import AUDIENCE, ISSUER, SigningKey, jwks, payload, rsa_key, service_account

KEY = SigningKey()
RSA = SigningKey("rsa", "RS256", rsa_key())
SECRET = b"0123456789abcdef0123456789abcdef"


class Keys:
    """A source whose keys a test changes."""

    def __init__(self, keys: KeySet) -> None:
        self.keys = keys

    def fetch(self) -> KeySet:
        return self.keys


def ring(keys: KeySet, name: str = "corp") -> KeyRing:
    made = KeyRing(name, Keys(keys), refresh_interval=timedelta(hours=1), min_interval=timedelta(hours=1))
    made.load()
    return made


def issuer(*keys: SigningKey, **settings: Any) -> Issuer:
    usual: dict[str, Any] = {
        "name": "corp",
        "keys": ring(parse_jwks(jwks(*(keys or (KEY, RSA))))),
        "issuer": ISSUER,
        "audiences": (AUDIENCE,),
    }
    return Issuer(**{**usual, **settings})


def authenticator(*issuers: Issuer, clock: Callable[[], datetime] | None = None) -> JwtAuthenticator:
    chosen = issuers or (issuer(),)
    return JwtAuthenticator(chosen) if clock is None else JwtAuthenticator(chosen, clock)


def crafted(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token as an attacker writes it."""

    def encoded(part: bytes) -> str:
        return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

    return (
        ".".join(encoded(json.dumps(part).encode()) for part in (header, claims)) + "." + encoded(signature)
    )


async def refused(token: str, *issuers: Issuer) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await authenticator(*issuers).authenticate(token)
    message = str(caught.value)
    assert not any(len(part) > 8 and part in message for part in token.split(".")), (
        "the message quotes the token"
    )
    return message


@pytest.mark.parametrize(
    "key",
    [
        KEY,
        RSA,
        SigningKey("rsa", "PS512", rsa_key()),
        SigningKey("ed", "EdDSA", ed25519.Ed25519PrivateKey.generate()),
    ],
    ids=["ES256", "RS256", "PS512", "EdDSA"],
)
async def test_a_good_token_says_who_calls(key: SigningKey) -> None:
    identity = await authenticator(issuer(key)).authenticate(key.token(groups=["developers"]))
    assert (identity.subject, identity.issuer, identity.groups) == (
        "alice",
        "corp",
        frozenset({"developers"}),
    )


async def test_the_audience_may_be_one_of_several_on_both_sides() -> None:
    trusted = issuer(audiences=("x", AUDIENCE))
    assert await authenticator(trusted).authenticate(KEY.token(aud=["y", AUDIENCE]))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "other"}, "another audience; wanted: buildgrid"),
        ({"aud": ["other"]}, "another audience"),
        ({"aud": None}, "no claim aud"),
        ({"aud": {"buildgrid": 1}}, "another audience"),
        ({"iss": "https://evil.example.org"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"exp": None}, "no claim exp"),
        ({"exp": 1_000_000_000}, "expired"),
        ({"exp": "never"}, "exp is not a time"),
        ({"nbf": 4_000_000_000}, "not valid yet"),
        ({"iat": 4_000_000_000}, "not valid yet"),
        ({"sub": None}, "sub"),
        ({"sub": 7}, "malformed"),
    ],
)
async def test_a_signed_token_is_refused_for_its_claims(claims: dict[str, Any], reason: str) -> None:
    assert reason in await refused(KEY.token(**claims))


@pytest.mark.parametrize(
    "token", ["", "x", "a.b.c", "....", "é.é.é", "a" * 5000, "e30.e30.", "W10.W10.", "\x00"]
)
async def test_what_is_no_token_is_refused(token: str) -> None:
    await refused(token)


async def test_a_changed_token_is_refused() -> None:
    header, _, signature = KEY.token().split(".")
    other = KEY.token(sub="root").split(".")[1]
    assert "signature" in await refused(f"{header}.{other}.{signature}")


async def test_a_key_of_somebody_else_with_a_known_name_is_refused() -> None:
    assert "signature" in await refused(SigningKey("one").token())


async def test_an_unknown_key_is_refused() -> None:
    assert "no known key" in await refused(SigningKey("three").token())


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", None, ["ES256"]])
async def test_an_unsigned_token_is_refused(algorithm: object) -> None:
    for header in ({"alg": algorithm, "typ": "JWT"}, {"alg": algorithm, "kid": "one"}):
        assert "algorithm is not accepted" in await refused(crafted(header, payload()))


async def test_a_public_key_is_not_a_secret() -> None:
    """The attack: HS256, with the RSA key that everybody can fetch as the secret."""
    public = RSA.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    unsigned = crafted({"alg": "HS256", "kid": "rsa"}, payload()).removesuffix(".")
    signature = hmac.digest(public, unsigned.encode(), hashlib.sha256)
    token = crafted({"alg": "HS256", "kid": "rsa"}, payload(), signature)
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    assert "algorithm is not accepted" in await refused(token)
    # Not even where an issuer's settings would allow HS256 by mistake: the key's type decides.
    careless = issuer(algorithms=frozenset({"HS256", "RS256"}))
    assert "no known key" in await refused(token, careless)


async def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    own = SigningKey("one")
    headers = {"kid": "one", "jwk": own.jwk(), "jku": "http://127.0.0.1:1/jwks"}
    assert "signature" in await refused(jwt.encode(payload(), own.private, "ES256", headers))


async def test_only_the_algorithms_of_the_settings_are_accepted() -> None:
    assert "accepted: RS256" in await refused(KEY.token(), issuer(algorithms=frozenset({"RS256"})))


async def test_a_critical_extension_that_nobody_knows_is_refused() -> None:
    token = jwt.encode(payload(), KEY.private, "ES256", {"kid": "one", "crit": ["x"], "x": 1})
    await refused(token)


async def test_a_token_without_a_key_name_is_tried_with_all_keys() -> None:
    two = SigningKey("two")
    nameless = SigningKey(None, "ES256", two.private)
    assert await authenticator(issuer(KEY, two)).authenticate(nameless.token())


async def test_a_shared_secret_verifies_hmac() -> None:
    shared = issuer(keys=ring(secret_key(SECRET, frozenset({"HS256"}))), algorithms=frozenset({"HS256"}))
    assert await authenticator(shared).authenticate(jwt.encode(payload(), SECRET, "HS256"))
    assert await authenticator(shared).authenticate(jwt.encode(payload(), SECRET, "HS256", {"kid": "any"}))
    await refused(jwt.encode(payload(), SECRET[::-1], "HS256"), shared)
    await refused(KEY.token(), shared)


async def test_an_issuer_cannot_speak_for_another() -> None:
    cluster_key = SigningKey("cluster")
    cluster = issuer(
        cluster_key,
        name="cluster",
        issuer="https://cluster",
        keys=ring(parse_jwks(jwks(cluster_key)), "cluster"),
    )
    both = authenticator(issuer(), cluster)
    assert (await both.authenticate(KEY.token())).issuer == "corp"
    assert (await both.authenticate(cluster_key.token(iss="https://cluster"))).issuer == "cluster"
    await refused(KEY.token(iss="https://cluster"), issuer(), cluster)


async def test_a_service_account_is_believed_of_a_cluster_only() -> None:
    token = KEY.token(**service_account("bot-1"))
    cluster = await authenticator(issuer(kubernetes=True)).authenticate(token)
    assert cluster.kubernetes is not None
    assert (cluster.kubernetes.qualified, cluster.kubernetes.pod) == ("builds/bot", "bot-1")
    assert (await authenticator().authenticate(token)).kubernetes is None
    assert "service account" in await refused(KEY.token(), issuer(kubernetes=True))


async def test_a_token_that_was_good_is_refused_once_it_has_expired() -> None:
    now = datetime.now(UTC)
    tokens = authenticator(clock=lambda: now)
    token = KEY.token(exp=int(now.timestamp()) + 60)
    await tokens.authenticate(token)
    now += timedelta(seconds=80)  # within the leeway of 30 s
    await tokens.authenticate(token)
    now += timedelta(seconds=15)
    with pytest.raises(Unauthenticated, match="expired"):
        await tokens.authenticate(token)


async def test_a_token_that_is_too_new_is_believed_later() -> None:
    now = datetime.now(UTC)
    tokens = authenticator(clock=lambda: now)
    token = KEY.token(nbf=int(time.time()) + 60)
    with pytest.raises(Unauthenticated, match="not valid yet"):
        await tokens.authenticate(token)
    now += timedelta(seconds=60)
    assert await tokens.authenticate(token)


async def test_a_token_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    verifications = 0
    decode = jwt.decode

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal verifications
        verifications += 1
        return decode(*args, **kwargs)

    monkeypatch.setattr(jwt, "decode", counted)
    tokens, token = authenticator(), KEY.token()
    first = await tokens.authenticate(token)
    assert await tokens.authenticate(token) is first
    assert verifications == 1
    await tokens.authenticate(KEY.token(sub="bob"))
    assert verifications == 2


async def test_a_token_is_worthless_when_its_key_was_withdrawn() -> None:
    source = Keys(parse_jwks(jwks(KEY)))
    keys = KeyRing("corp", source, refresh_interval=timedelta(hours=1), min_interval=timedelta(hours=1))
    keys.load()
    tokens, token = authenticator(issuer(keys=keys)), KEY.token()
    assert await tokens.authenticate(token)
    source.keys = parse_jwks(jwks(SigningKey("two")))
    keys.load()
    with pytest.raises(Unauthenticated, match="no known key"):
        await tokens.authenticate(token)


async def test_without_keys_it_is_not_known_whether_a_token_is_good() -> None:
    class Away:
        def fetch(self) -> KeySet:
            raise UnusableKeysError("away")

    keys = KeyRing("corp", Away(), refresh_interval=timedelta(hours=1), min_interval=timedelta(0))
    with pytest.raises(Unavailable, match="issuer corp cannot be fetched just now"):
        await authenticator(issuer(keys=keys)).authenticate(KEY.token())
