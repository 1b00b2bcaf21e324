"""Tokens and the keys that sign them, made on the spot."""

import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.example.org"
AUDIENCE = "buildgrid"

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class SigningKey:
    """A private key with a name, as an issuer has it. ES256 unless `key` is another."""

    def __init__(
        self, kid: str | None = "one", algorithm: str = "ES256", key: PrivateKey | None = None
    ) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: PrivateKey = key or ec.generate_private_key(ec.SECP256R1())

    def jwk(self, **members: Any) -> dict[str, Any]:
        """The public key for a JWKS, with these members in addition."""
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            jwk = ECAlgorithm.to_jwk(public, as_dict=True)
        else:
            jwk = OKPAlgorithm.to_jwk(public, as_dict=True)
        named = {} if self.kid is None else {"kid": self.kid}
        return {**jwk, "use": "sig", **named, **members}

    def token(self, **claims: Any) -> str:
        """A token that is valid for an hour; claims that are None are left out."""
        headers = None if self.kid is None else {"kid": self.kid}
        return jwt.encode(payload(**claims), self.private, self.algorithm, headers)


def payload(**claims: Any) -> dict[str, Any]:
    """The claims of a usual token, with these in addition or instead; None leaves one out."""
    now = int(time.time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "nbf": now, "exp": now + 3600}
    return {name: value for name, value in {**usual, **claims}.items() if value is not None}


def jwks(*keys: SigningKey) -> bytes:
    """A JWKS document."""
    return json.dumps({"keys": [key.jwk() for key in keys]}).encode()


@cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """Slow to make, so the tests of a process share one."""
    return rsa.generate_private_key(65537, bits)


def service_account(
    pod: str | None = "bot-1", namespace: str = "builds", name: str = "bot"
) -> dict[str, Any]:
    """The claims of a Kubernetes service account token; `pod` None: it is bound to no pod."""
    private: dict[str, Any] = {"namespace": namespace, "serviceaccount": {"name": name, "uid": "11-22"}}
    if pod is not None:
        private["pod"] = {"name": pod, "uid": "33-44"}
        private["node"] = {"name": "node-1", "uid": "55-66"}
    return {"sub": f"system:serviceaccount:{namespace}:{name}", "kubernetes.io": private, "aud": [AUDIENCE]}
