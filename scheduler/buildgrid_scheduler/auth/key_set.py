"""The keys of one issuer, and which of them may have signed a token.

What a key may verify is decided by its type, never by what a token says of itself: a public key is not
usable as the secret of an HMAC, and a secret comes from a file of its own, never from a JWKS (RFC 8725,
sections 2.1 and 3.1).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

RSA_ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
EC_ALGORITHMS = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
EDWARDS_ALGORITHM = "EdDSA"
ASYMMETRIC_ALGORITHMS = RSA_ALGORITHMS | frozenset(EC_ALGORITHMS.values()) | {EDWARDS_ALGORITHM}
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The symmetric algorithms, and how long a secret must be at least (RFC 7518, section 3.2)."""
MIN_RSA_BITS = 2048

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


class UnusableKeysError(Exception):
    """A JWKS or secret that cannot be used; the message says why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `kid` None: it has no name, and may have signed any token."""

    kid: str | None
    algorithms: frozenset[str]
    material: PublicKey | bytes


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys of an issuer."""

    keys: tuple[Key, ...] = ()

    def knows(self, kid: str | None) -> bool:
        """Whether a key has this name."""
        return kid is not None and any(key.kid == kid for key in self.keys)

    def candidates(self, kid: str | None, algorithm: str) -> tuple[Key, ...]:
        """The keys that may have signed a token with this header."""
        return tuple(
            key
            for key in self.keys
            if algorithm in key.algorithms and (kid is None or key.kid is None or key.kid == kid)
        )


NO_KEYS: Final = KeySet()


def parse_jwks(content: bytes) -> KeySet:
    """The keys of a JSON Web Key Set (RFC 7517) that can verify signatures.

    Others (for encryption, symmetric, private, of unknown types, RSA below 2048 bits) are passed over. Raises
    UnusableKeysError when none is left.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnusableKeysError("it is not JSON") from error
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise UnusableKeysError("it is not a JSON Web Key Set: an object with a list `keys`")
    keys = tuple(key for entry in entries if isinstance(entry, dict) and (key := _parse(entry)) is not None)
    if not keys:
        raise UnusableKeysError(f"none of its {len(entries)} keys is a public key that verifies signatures")
    return KeySet(keys)


def secret_key(content: bytes, algorithms: frozenset[str]) -> KeySet:
    """A shared secret, for HMAC. White space around it is not part of it. Raises UnusableKeysError."""
    secret = content.strip()
    needed = max(SECRET_BYTES[algorithm] for algorithm in algorithms)
    if len(secret) < needed:
        raise UnusableKeysError(f"the secret has {len(secret)} bytes, {needed} are needed at least")
    return KeySet((Key(None, algorithms, secret),))


def _parse(entry: Mapping[str, Any]) -> Key | None:
    # PyJWK wants an algorithm that fits; one that the entry itself names is looked at below.
    plain = {name: value for name, value in entry.items() if name != "alg"}
    kid, named = entry.get("kid"), entry.get("alg")
    try:
        if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
            return None
        material = jwt.PyJWK.from_dict(plain).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    algorithms = frozenset(name for name in _algorithms(material) if named in (None, name))
    return Key(kid, algorithms, material) if algorithms and isinstance(kid, str | None) else None


def _algorithms(material: object) -> frozenset[str]:
    if isinstance(material, rsa.RSAPublicKey) and material.key_size >= MIN_RSA_BITS:
        return RSA_ALGORITHMS
    if isinstance(material, ec.EllipticCurvePublicKey) and material.curve.name in EC_ALGORITHMS:
        return frozenset({EC_ALGORITHMS[material.curve.name]})
    if isinstance(material, ed25519.Ed25519PublicKey):
        return frozenset({EDWARDS_ALGORITHM})
    return frozenset()
