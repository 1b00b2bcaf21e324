"""A server with TLS, tokens and a policy, and whoever calls it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from buildgrid_scheduler.auth.policy import INCLUDES, Right

from tests.credentials.certificates import Authority, Pair
from tests.credentials.tokens import SigningKey, jwks, service_account
from tests.integration.server.server_process import Server

CLUSTER = "https://kubernetes.example.org"
SHARED_SECRET = "the-secret-of-the-internal-issuer-0123456789"
INTERNAL = "https://internal.example.org"
_LOCAL = [("grpc.use_local_subchannel_pool", 1)]


class Credentials:
    """The authority of the server's certificate, the keys of its issuers, and all tokens that were made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.authority = Authority()
        self.corp = SigningKey("corp-1")
        self.cluster = SigningKey("cluster-1")
        self.made: list[str] = []
        certificate, key = self.authority.server().write(folder)
        self.tls = {"certificate_file": str(certificate), "key_file": str(key)}
        """the section of the configuration"""
        for name, signing in (("corp", self.corp), ("cluster", self.cluster)):
            (folder / f"{name}.json").write_bytes(jwks(signing))
        (folder / "secret").write_text(SHARED_SECRET)

    def settings(self, policy: Sequence[dict[str, Any]], **jwt: Any) -> dict[str, Any]:
        """The sections `tls` and `auth`; `jwt`: further fields of the issuer corp."""
        corp = {"name": "corp", "issuer": "https://issuer.example.org", "jwks": self._jwks("corp"), **jwt}
        cluster = {"name": "cluster", "issuer": CLUSTER, "jwks": self._jwks("cluster"), "kubernetes": True}
        internal = {"name": "internal", "issuer": INTERNAL, "secret_file": str(self._folder / "secret")}
        issuers = [{"audiences": ["buildgrid"], **issuer} for issuer in (corp, cluster, internal)]
        return {
            "tls": self.tls,
            "auth": {"jwt": issuers, "policy": list(policy)},
        }

    def _jwks(self, name: str) -> dict[str, str]:
        return {"file": str(self._folder / f"{name}.json")}

    def token(self, subject: str, key: SigningKey | None = None, **claims: Any) -> str:
        """A token of the issuer corp."""
        token = (key or self.corp).token(sub=subject, **claims)
        self.made.append(token)
        return token

    def pod(self, pod: str | None, namespace: str = "builds") -> str:
        """A Kubernetes service account token of the account `bot`, bound to a pod."""
        token = self.cluster.token(iss=CLUSTER, **service_account(pod, namespace))
        self.made.append(token)
        return token

    def channel(self, address: str, token: str | None = None, pair: Pair | None = None) -> grpc.aio.Channel:
        """A connection of its own, whose calls carry the token."""
        credentials = self._channel_credentials(pair)
        if token is not None:
            calls = grpc.access_token_call_credentials(token)
            credentials = grpc.composite_channel_credentials(credentials, calls)
        return grpc.aio.secure_channel(address, credentials, _LOCAL)

    def plain_channel(self, address: str, pair: Pair | None = None) -> grpc.Channel:
        """One for calls that block; they carry what they are given."""
        return grpc.secure_channel(address, self._channel_credentials(pair), _LOCAL)

    def _channel_credentials(self, pair: Pair | None) -> grpc.ChannelCredentials:
        key, certificate = (pair.key, pair.certificate) if pair is not None else (None, None)
        return grpc.ssl_channel_credentials(self.authority.pem, key, certificate)


def grants(subject: str, *rights: Right, instance: str = "main", issuer: str = "corp") -> dict[str, Any]:
    """A rule for one subject."""
    return {
        "identities": [{"issuer": issuer, "subject": subject}],
        "instances": [instance],
        "rights": [right.value for right in rights],
    }


def with_right(right: Right) -> str:
    """The subject that has just this right, and what it includes, in the instance main."""
    return f"with-{right}"


def without_right(right: Right) -> str:
    """The subject that has all rights in the instance main but this one and those that include it."""
    return f"without-{right}"


ADMIN_ELSEWHERE = "administrator-of-other"
POLICY = [
    *(grants(with_right(right), right) for right in Right),
    *(
        grants(without_right(right), *others)
        for right in Right
        if (others := [other for other in Right if right not in INCLUDES[other]])
    ),
    grants(ADMIN_ELSEWHERE, Right.ADMINISTER, instance="other"),
    grants("alice", Right.EXECUTE),
    grants("bob", Right.EXECUTE),
    grants("olga", Right.EXECUTE, instance="other"),
    grants("bot-of-main", Right.RUN_BOTS),
    grants("bot-of-other", Right.RUN_BOTS, instance="other"),
    {"identities": [{"service_account": "builds/bot"}], "instances": ["main"], "rights": ["run-bots"]},
]


class Secured:
    """The server that tests of access share, and its credentials."""

    def __init__(self, server: Server, credentials: Credentials) -> None:
        self.server = server
        self.credentials = credentials

    def shown(self, text: str) -> list[str]:
        """Which of the secrets, parts of tokens included, a text shows."""
        parts = {part for token in self.credentials.made for part in token.split(".")}
        return [part for part in (*parts, SHARED_SECRET) if len(part) > 8 and part in text]
