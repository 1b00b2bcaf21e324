"""Of a JWKS only public keys that verify signatures are used, each for its own algorithms."""

import json
from typing import Any

import pytest
from buildgrid_scheduler.auth.key_set import KeySet, UnusableKeysError, parse_jwks, secret_key
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from tests.credentials.tokens import SigningKey, jwks, rsa_key

KEY = SigningKey("good")


def parse(*entries: object) -> KeySet:
    return parse_jwks(json.dumps({"keys": entries}).encode())


def kids(keys: KeySet) -> list[str | None]:
    return [key.kid for key in keys.keys]


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [
        (SigningKey("r", "RS256", rsa_key()), {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (SigningKey("e"), {"ES256"}),
        (SigningKey("e", "ES384", ec.generate_private_key(ec.SECP384R1())), {"ES384"}),
        (SigningKey("e", "ES512", ec.generate_private_key(ec.SECP521R1())), {"ES512"}),
        (SigningKey("d", "EdDSA", ed25519.Ed25519PrivateKey.generate()), {"EdDSA"}),
    ],
    ids=["RSA", "P-256", "P-384", "P-521", "Ed25519"],
)
def test_the_type_of_a_key_says_what_it_verifies(key: SigningKey, algorithms: set[str]) -> None:
    assert parse(key.jwk()).keys[0].algorithms == algorithms


def test_a_key_may_narrow_its_algorithms_but_not_widen_them() -> None:
    key = SigningKey("r", "RS256", rsa_key())
    assert parse(key.jwk(alg="PS256")).keys[0].algorithms == {"PS256"}
    with pytest.raises(UnusableKeysError):
        parse(key.jwk(alg="HS256"))


@pytest.mark.parametrize(
    "entry",
    [
        KEY.jwk(kid="bad", use="enc"),
        KEY.jwk(kid="bad", key_ops=["sign"]),
        KEY.jwk(kid="bad", key_ops=7),
        KEY.jwk(kid="bad", alg="none"),
        KEY.jwk(kid="bad", alg=["ES256"]),
        KEY.jwk(kid="bad", x="AAAA"),
        KEY.jwk(kid=["bad"]),
        {"kty": "oct", "kid": "bad", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"},
        {"kty": "new", "kid": "bad"},
        {"kid": "bad"},
        SigningKey("bad", "RS256", rsa_key(1024)).jwk(),
        "bad",
    ],
)
def test_what_does_not_verify_is_passed_over(entry: object) -> None:
    assert kids(parse(entry, KEY.jwk())) == ["good"]
    with pytest.raises(UnusableKeysError, match="none of its 1 keys"):
        parse(entry)


def test_a_private_key_is_passed_over() -> None:
    from jwt.algorithms import ECAlgorithm

    assert isinstance(KEY.private, ec.EllipticCurvePrivateKey)
    private: dict[str, Any] = ECAlgorithm.to_jwk(KEY.private, as_dict=True)
    assert kids(parse({**private, "kid": "bad"}, KEY.jwk())) == ["good"]


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"{}", b'{"keys": {}}', b"[" * 100_000])
def test_what_is_no_jwks_is_refused(content: bytes) -> None:
    with pytest.raises(UnusableKeysError):
        parse_jwks(content)


def test_a_key_is_found_by_its_name_and_algorithm() -> None:
    keys = parse_jwks(jwks(SigningKey("one"), SigningKey("two"), SigningKey(None)))
    assert [key.kid for key in keys.candidates("two", "ES256")] == ["two", None]
    assert [key.kid for key in keys.candidates(None, "ES256")] == ["one", "two", None]
    assert keys.candidates("one", "RS256") == ()
    assert keys.knows("one")
    assert not keys.knows("three")
    assert not keys.knows(None)


def test_a_secret_must_be_long_enough_for_all_its_algorithms() -> None:
    assert secret_key(b" " + b"x" * 32 + b"\n", frozenset({"HS256"})).keys[0].material == b"x" * 32
    with pytest.raises(UnusableKeysError, match="48 are needed"):
        secret_key(b"x" * 47, frozenset({"HS256", "HS384"}))
