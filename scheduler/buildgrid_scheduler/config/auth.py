"""Who calls, what they may do, and TLS. Secrets are never here: they are in files, which are read again when
they change."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from buildgrid_scheduler.config.section import RELOADABLE_ALONE, FieldError, Section
from buildgrid_scheduler.config.values import Address, Duration, HttpUrl

IssuerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Pattern = Annotated[str, StringConstraints(max_length=512)]
SymmetricAlgorithm = Literal["HS256", "HS384", "HS512"]
AsymmetricAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
CertificateField = Literal[
    "spiffe", "uri", "dns", "email", "common-name", "organization", "organizational-unit"
]
RightName = Literal["cache-read", "cas-write", "execute", "action-cache-update", "run-bots", "administer"]

CERTIFICATE_ISSUER = "mtls"
_SECOND = timedelta(seconds=1)


class JwksConfig(Section):
    """Where an issuer's public keys (JSON Web Key Set, RFC 7517) come from: one of `file` and `url`."""

    file: Path | None = None
    """read again when it changes"""
    url: HttpUrl | None = None
    """https, or http in a trusted network; Kubernetes: https://kubernetes.default.svc/openid/v1/jwks"""
    ca_file: Path | None = None
    """certificates to trust for `url`, PEM; unset: the system's"""
    bearer_token_file: Path | None = None
    """a token to send to `url`, which must be https then; read for every request"""
    timeout: Duration = Field(default=timedelta(seconds=5), ge=_SECOND, le=timedelta(minutes=1))
    """what a request to `url` may take"""
    refresh_interval: Duration = Field(default=timedelta(minutes=5), ge=_SECOND)
    """`url` is asked this often; the last good keys stay in use while it does not answer"""
    min_interval: Duration = timedelta(seconds=5)
    """`url` is not asked more often than this because of tokens with unknown keys"""

    @model_validator(mode="after")
    def _one_source(self) -> "JwksConfig":
        if self.file is not None and self.url is not None:
            raise FieldError("url", "excludes file; keep one of the two")
        if self.url is None:
            if self.file is None:
                raise ValueError("needs file or url")
            for field in ("ca_file", "bearer_token_file"):
                if getattr(self, field) is not None:
                    raise FieldError(field, "is of no use with file, only with url")
        elif self.bearer_token_file is not None and not self.url.startswith("https://"):
            raise FieldError("bearer_token_file", "would be sent unencrypted; use an https url")
        return self


class ClaimsConfig(Section):
    """Which claims make an identity.

    Each is a list of paths, of which the first that is in the token counts; `a.b` is claim b inside of a.
    """

    workflow: tuple[str, ...] = ()
    """for what; unset: the issuer's `name`, which keeps equal subjects of two issuers apart"""
    actor: tuple[str, ...] = ("act.sub", "sub")
    """who acts; differs from the subject where somebody acts on another's behalf (RFC 8693)"""
    subject: tuple[str, ...] = Field(default=("sub",), min_length=1)
    """on whose behalf; a token without it is refused"""
    groups: tuple[str, ...] = ("groups",)
    """a list of names, or one name"""


class JwtIssuerConfig(Section):
    """An issuer of JSON Web Tokens that is trusted to say who calls."""

    name: IssuerName = "jwt"
    """what policies and logs call it"""
    issuer: str | None = Field(default=None, min_length=1)
    """the tokens' claim `iss`, exactly; needed where there are several issuers, and for Kubernetes"""
    audiences: tuple[str, ...] = Field(min_length=1)
    """one of these must be in the tokens' claim `aud`: tokens for other services are worthless here"""
    jwks: JwksConfig | None = None
    """its public keys"""
    secret_file: Path | None = None
    """instead of `jwks`: a secret that the issuer shares, for HMAC; as long as the hash, 32 bytes or more"""
    algorithms: tuple[AsymmetricAlgorithm | SymmetricAlgorithm, ...] | None = Field(
        default=None, min_length=1
    )
    """signatures to accept; unset: all asymmetric ones, or HS256 with a `secret_file`"""
    leeway: Duration = Field(default=timedelta(seconds=30), le=timedelta(minutes=5))
    """by how much clocks may differ"""
    kubernetes: bool = False
    """a Kubernetes API server: service accounts are believed, and a bot's `bot_id` must be its token's pod"""
    claims: ClaimsConfig = ClaimsConfig()

    @model_validator(mode="after")
    def _keys_and_algorithms(self) -> "JwtIssuerConfig":
        if self.jwks is not None and self.secret_file is not None:
            raise FieldError("secret_file", "excludes jwks; keep one of the two")
        if self.jwks is None and self.secret_file is None:
            raise ValueError("needs jwks or secret_file")
        for name in self.algorithms or ():
            if name.startswith("HS") != (self.secret_file is not None):
                needed = "a secret_file" if name.startswith("HS") else "jwks"
                raise FieldError("algorithms", f"{name} needs {needed}")
        if self.kubernetes and self.issuer is None:
            raise FieldError("issuer", "must be set for Kubernetes: its --service-account-issuer")
        return self


class MtlsConfig(Section):
    """Identities from client certificates, which `tls.client_ca_file` verifies.

    Each is a list of fields, of which the first that is in the certificate counts.
    """

    workflow: tuple[CertificateField, ...] = ()
    """for what; unset: `mtls`"""
    actor: tuple[CertificateField, ...] = ()
    """who acts; unset: the subject"""
    subject: tuple[CertificateField, ...] = Field(default=("spiffe", "common-name", "dns"), min_length=1)
    """on whose behalf; a certificate without it is refused"""
    groups: tuple[CertificateField, ...] = ("organization",)
    """the values of all of these"""


class MatcherConfig(Section):
    """Identities, by patterns, all of which must match: `*` is anything without a slash, `**` anything."""

    issuer: Pattern | None = None
    """the issuer's name; `mtls` for certificates"""
    subject: Pattern | None = None
    """the identity's subject"""
    actor: Pattern | None = None
    """the identity's actor"""
    workflow: Pattern | None = None
    """the identity's workflow"""
    group: Pattern | None = None
    """one of the identity's groups"""
    service_account: Pattern | None = None
    """NAMESPACE/NAME of a Kubernetes service account"""

    @model_validator(mode="after")
    def _some(self) -> "MatcherConfig":
        if not any(value for _, value in self):
            raise ValueError("needs a pattern; subject: '**' is whoever is authenticated")
        return self


class RuleConfig(Section):
    """Grants rights. An identity has the rights of all rules that match it."""

    identities: tuple[MatcherConfig, ...] = Field(min_length=1)
    """any of these"""
    instances: tuple[Pattern, ...] = Field(default=("**",), min_length=1)
    """in any of these instances, by patterns; unset: in all"""
    rights: frozenset[RightName] = Field(min_length=1)
    """execute, action-cache-update and run-bots include cas-write, which includes cache-read; administer
    includes all"""


class AuthConfig(Section):
    """Who calls, and what they may do. Without `jwt` and `mtls` everybody may do everything.

    With both, a token counts where the call has one, and the certificate otherwise.
    """

    jwt: tuple[JwtIssuerConfig, ...] = ()
    """issuers of tokens"""
    mtls: MtlsConfig | None = None
    """`{}`: identities from client certificates"""
    policy: tuple[RuleConfig, ...] = Field(default=(), json_schema_extra=RELOADABLE_ALONE)
    """who may do what, where; a new one waits for the next start when `jwt` or `mtls` change with it"""

    @property
    def enabled(self) -> bool:
        """Whether calls are authenticated."""
        return bool(self.jwt) or self.mtls is not None

    @model_validator(mode="after")
    def _consistent(self) -> "AuthConfig":
        if self.enabled and not self.policy:
            raise FieldError("policy", "is empty, so that nobody could do anything; add a rule")
        if self.policy and not self.enabled:
            raise FieldError("policy", "has no effect without jwt or mtls; set one of them")
        names, issuers = {CERTIFICATE_ISSUER}, set[str]()
        for number, issuer in enumerate(self.jwt):
            if issuer.name in names:
                raise FieldError(f"jwt.{number}.name", f"{issuer.name!r} is taken; choose another")
            if len(self.jwt) > 1 and issuer.issuer is None:
                raise FieldError(f"jwt.{number}.issuer", "must be set where there are several issuers")
            if issuer.issuer in issuers:
                raise FieldError(f"jwt.{number}.issuer", f"{issuer.issuer!r} is there twice")
            names.add(issuer.name)
            issuers.add(issuer.issuer or "")
        return self


class TlsConfig(Section):
    """The server's certificate. Files are PEM; new connections use what is in them then."""

    certificate_file: Path
    """the certificate, and the intermediate ones after it"""
    key_file: Path
    """its private key, not encrypted"""
    client_ca_file: Path | None = None
    """every caller must show a certificate that one of these CAs signed, those with a token, too"""


class FleetConfig(Section):
    """The Fleet service on a port of its own, for whoever looks after the farm from within its network.

    Callers show a token there, and no certificate, whatever `tls.client_ca_file` says. With `tls` the port is
    encrypted like `listen`. No other service is there, and `listen` has the Fleet service, too.
    """

    listen: Address
    """HOST:PORT"""
    auth: AuthConfig
    """who may call it, by tokens: `jwt`, and a `policy` that gives them administer"""

    @model_validator(mode="after")
    def _by_token(self) -> "FleetConfig":
        if not self.auth.jwt:
            raise FieldError("auth.jwt", "must be set: callers are known by nothing but their token here")
        if self.auth.mtls is not None:
            raise FieldError("auth.mtls", "is of no use here, where nobody is asked for a certificate")
        return self


def contradiction(auth: AuthConfig, tls: TlsConfig | None) -> str | None:
    """Why these two cannot be used together, for a FieldError of `auth.mtls`; None if they can."""
    if auth.mtls is not None and (tls is None or tls.client_ca_file is None):
        return "needs tls.client_ca_file: without it nobody is asked for a certificate"
    return None
