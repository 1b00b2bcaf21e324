"""Who calls, what they may do, and the server's certificate."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from buildgrid_operator.api.durations import Duration
from buildgrid_operator.api.model import ApiModel, Config, Effect
from buildgrid_operator.api.rules import Rule, at_least_one_of, exactly_one_of
from buildgrid_operator.api.shapes import Flag, Items, Text
from buildgrid_operator.api.types import (
    CaSecretKeyRef,
    ConfigMapKeyRef,
    HttpUrl,
    ObjectName,
    SecretKey,
    SecretKeyRef,
    ShortText,
)

KUBERNETES_ISSUER = "kubernetes"
CERTIFICATE_ISSUER = "mtls"
_RESERVED = (KUBERNETES_ISSUER, CERTIFICATE_ISSUER)

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
    "HS256", "HS384", "HS512",
]  # fmt: skip
CertificateField = Literal[
    "Spiffe", "Uri", "Dns", "Email", "CommonName", "Organization", "OrganizationalUnit"
]
Right = Literal["CacheRead", "CasWrite", "Execute", "ActionCacheUpdate", "RunBots", "Administer"]
Pattern = Annotated[str, Text(512, 1)]
ServerName = Annotated[
    str,
    Text(
        253,
        1,
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "must be a host such as build.example.org, in lower case, without *",
    ),
]
ClaimPaths = tuple[ShortText, ...]
CertificateFields = tuple[CertificateField, ...]


class Jwks(ApiModel):
    """Where an issuer's public keys (JSON Web Key Set, RFC 7517) come from: a URL or a ConfigMap."""

    url: Annotated[HttpUrl | None, Config("url")] = None
    """https, or http in a trusted network"""
    config_map_ref: Annotated[ConfigMapKeyRef | None, Config("file")] = None
    """a ConfigMap that holds them; read again when it changes"""
    ca_secret_ref: Annotated[CaSecretKeyRef | None, Config("ca_file")] = None
    """certificates to trust for url, PEM; unset: the system's"""
    token_secret_ref: Annotated[SecretKeyRef | None, Config("bearer_token_file")] = None
    """a token to send to url, which must be https then"""
    timeout: Annotated[timedelta, Duration("1s", "1m"), Config("timeout")] = timedelta(seconds=5)
    """what a request to url may take"""
    refresh_period: Annotated[timedelta, Duration("1s", "24h"), Config("refresh_interval")] = timedelta(
        minutes=5
    )
    """url is asked this often; the last good keys stay in use while it does not answer"""
    min_period: Annotated[timedelta, Duration("0s", "1h"), Config("min_interval")] = timedelta(seconds=5)
    """url is not asked more often than this because of tokens with unknown keys"""

    rules = (
        exactly_one_of("url", "configMapRef"),
        Rule(
            cel="!has(self.caSecretRef) || has(self.url)",
            message="is of use with url only; remove it",
            check=lambda jwks: jwks.ca_secret_ref is None or jwks.url is not None,
            field="caSecretRef",
            reason="FieldValueForbidden",
        ),
        Rule(
            cel="!has(self.tokenSecretRef) || (has(self.url) && self.url.startsWith('https://'))",
            message="would be sent unencrypted, or to nobody; use an https url, or remove it",
            check=lambda jwks: jwks.token_secret_ref is None or (jwks.url or "").startswith("https://"),
            field="tokenSecretRef",
            reason="FieldValueForbidden",
        ),
    )


class Claims(ApiModel):
    """Which claims of a token make an identity.

    Each is a list of paths, of which the first that is in the token counts; `a.b` is claim b inside of a.
    """

    workflow: Annotated[ClaimPaths, Items(8), Config("workflow")] = ()
    """for what; unset: the issuer's name, which keeps equal subjects of two issuers apart"""
    actor: Annotated[ClaimPaths, Items(8), Config("actor")] = ("act.sub", "sub")
    """who acts; differs from the subject where somebody acts on another's behalf (RFC 8693)"""
    subject: Annotated[ClaimPaths, Items(8, 1), Config("subject")] = ("sub",)
    """on whose behalf; a token without it is refused"""
    groups: Annotated[ClaimPaths, Items(8), Config("groups")] = ("groups",)
    """a list of names, or one name"""


class JwtIssuer(ApiModel):
    """An issuer of JSON Web Tokens that is trusted to say who calls."""

    name: Annotated[
        str,
        Text(
            63,
            1,
            r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            "must be letters, digits, -, _ and ., not a sign first",
        ),
        Config("name"),
    ]
    """what policies and logs call it"""
    issuer: Annotated[str, Text(1024, 1), Config("issuer")]
    """the tokens' claim `iss`, exactly; of another cluster: its --service-account-issuer"""
    audiences: Annotated[tuple[ShortText, ...], Items(16, 1, "set"), Config("audiences")]
    """one of these must be in the tokens' claim `aud`: tokens for other services are worthless here"""
    jwks: Annotated[Jwks | None, Config("jwks")] = None
    """its public keys"""
    secret_ref: Annotated[SecretKeyRef | None, Config("secret_file")] = None
    """instead of jwks: a secret that the issuer shares, for HMAC; as long as the hash, 32 bytes or more"""
    algorithms: Annotated[tuple[Algorithm, ...] | None, Items(13, 1, "set"), Config("algorithms")] = None
    """signatures to accept; unset: all asymmetric ones, or HS256 with a secretRef"""
    leeway: Annotated[timedelta, Duration("0s", "5m"), Config("leeway")] = timedelta(seconds=30)
    """by how much clocks may differ"""
    kubernetes: Annotated[Flag, Config("kubernetes")] = False
    """the API server of another cluster: its service accounts are believed, and a bot's bot_id must be its
    token's pod. For this cluster use auth.kubernetes"""
    claims: Annotated[Claims, Config("claims")] = Claims()
    """which claims make an identity"""

    rules = (
        exactly_one_of("jwks", "secretRef"),
        Rule(
            cel="!has(self.algorithms) || self.algorithms.all(a, a.startsWith('HS') == has(self.secretRef))",
            message="do not fit the keys: HS256, HS384 and HS512 go with secretRef, all others with jwks",
            check=lambda jwt: all(
                name.startswith("HS") == (jwt.secret_ref is not None) for name in jwt.algorithms or ()
            ),
            field="algorithms",
        ),
        Rule(
            cel=f"!(self.name in [{', '.join(repr(name) for name in _RESERVED)}])",
            message=f"{' and '.join(_RESERVED)} are taken; choose another name",
            check=lambda jwt: jwt.name not in _RESERVED,
            field="name",
        ),
    )


class KubernetesTokens(ApiModel):
    """Tokens of this cluster's service accounts: bots, CI jobs, the operator.

    The operator hands the cluster's public keys to the scheduler. The policy calls the issuer `kubernetes`.
    """

    audience: ShortText = "buildgrid"
    """must be in the tokens' claim `aud`; bots get their tokens for it"""
    issuer: Annotated[str | None, Text(1024, 1)] = None
    """the cluster's --service-account-issuer; unset: as the API server says"""


class Mtls(ApiModel):
    """Identities from client certificates, which tls.clientCaSecretRef verifies.

    Each is a list of fields, of which the first that is in the certificate counts.
    """

    workflow: Annotated[CertificateFields, Items(7, 0, "set"), Config("workflow")] = ()
    """for what; unset: `mtls`"""
    actor: Annotated[CertificateFields, Items(7, 0, "set"), Config("actor")] = ()
    """who acts; unset: the subject"""
    subject: Annotated[CertificateFields, Items(7, 1, "set"), Config("subject")] = (
        "Spiffe",
        "CommonName",
        "Dns",
    )
    """on whose behalf; a certificate without it is refused"""
    groups: Annotated[CertificateFields, Items(7, 0, "set"), Config("groups")] = ("Organization",)
    """the values of all of these"""


class Matcher(ApiModel):
    """Identities, by patterns, all of which must match: `*` is anything without a slash, `**` anything."""

    issuer: Annotated[Pattern | None, Config("issuer")] = None
    """the issuer's name: one of auth.jwt, `kubernetes` for this cluster, `mtls` for certificates"""
    subject: Annotated[Pattern | None, Config("subject")] = None
    """the identity's subject"""
    actor: Annotated[Pattern | None, Config("actor")] = None
    """the identity's actor"""
    workflow: Annotated[Pattern | None, Config("workflow")] = None
    """the identity's workflow"""
    group: Annotated[Pattern | None, Config("group")] = None
    """one of the identity's groups"""
    service_account: Annotated[Pattern | None, Config("service_account")] = None
    """NAMESPACE/NAME of a Kubernetes service account"""

    rules = (
        at_least_one_of(
            "issuer", "subject", "actor", "workflow", "group", "serviceAccount",
            example="subject: '**' is whoever is authenticated",
        ),
    )  # fmt: skip


class PolicyRule(ApiModel):
    """Grants rights. An identity has the rights of all rules that match it."""

    identities: Annotated[tuple[Matcher, ...], Items(32, 1), Config("identities")]
    """any of these"""
    instances: Annotated[tuple[Pattern, ...], Items(32, 1, "set"), Config("instances")] = ("**",)
    """in any of these instances, by patterns; unset: in all"""
    rights: Annotated[tuple[Right, ...], Items(6, 1, "set"), Config("rights")]
    """Execute, ActionCacheUpdate and RunBots include CasWrite, which includes CacheRead; Administer includes
    all"""


def _is_on(auth: Any) -> bool:
    return bool(auth.kubernetes or auth.jwt or auth.mtls)


_ON = "(has(self.kubernetes) || self.jwt.size() > 0 || has(self.mtls))"


class Auth(ApiModel):
    """Who calls, and what they may do. Without kubernetes, jwt and mtls everybody may do everything.

    Where certificates and tokens are both accepted, a token counts where the call has one.
    """

    kubernetes: Annotated[KubernetesTokens | None, Config("auth.jwt")] = None
    """tokens of this cluster's service accounts are accepted; `{}` for the defaults"""
    jwt: Annotated[tuple[JwtIssuer, ...], Items(8, 0, "map", "name"), Config("auth.jwt")] = ()
    """other issuers of tokens"""
    mtls: Annotated[Mtls | None, Config("auth.mtls")] = None
    """identities from client certificates; `{}` for the defaults"""
    policy: Annotated[tuple[PolicyRule, ...], Items(64), Config("auth.policy"), Effect.RELOAD] = ()
    """who may do what, where"""

    rules = (
        Rule(
            cel=f"!{_ON} || self.policy.size() > 0",
            message="is empty, so that nobody could do anything; add a rule",
            check=lambda auth: not _is_on(auth) or bool(auth.policy),
            field="policy",
            reason="FieldValueRequired",
        ),
        Rule(
            cel=f"{_ON} || self.policy.size() == 0",
            message="has no effect without kubernetes, jwt or mtls; set one of them, or remove it",
            check=lambda auth: _is_on(auth) or not auth.policy,
            field="policy",
            reason="FieldValueForbidden",
        ),
        Rule(
            cel="self.jwt.all(a, self.jwt.exists_one(b, b.issuer == a.issuer))",
            message="an issuer is there twice; keep one of them, with the audiences of both",
            check=lambda auth: len({jwt.issuer for jwt in auth.jwt}) == len(auth.jwt),
            field="jwt",
        ),
    )


class CaConfigMapKeyRef(ApiModel):
    """A key of a ConfigMap in the same namespace that holds certificates to trust, PEM."""

    name: ObjectName
    """name of the ConfigMap"""
    key: SecretKey = "ca.crt"
    """which of its keys"""


class Tls(ApiModel):
    """The server's certificate. New connections use what is in the Secret then."""

    secret_name: Annotated[ObjectName, Config("tls.certificate_file", "tls.key_file")]
    """a Secret of type kubernetes.io/tls: tls.crt with the certificate and the intermediate ones, tls.key"""
    client_ca_secret_ref: Annotated[CaSecretKeyRef | None, Config("tls.client_ca_file")] = None
    """every caller must show a certificate that one of these CAs signed, those with a token, too. For
    the operator there is a port of its own then, see docs/security.md"""
    ca_config_map_ref: Annotated[CaConfigMapKeyRef | None, Effect.APPLY] = None
    """whom the operator believes that the certificate is the scheduler's: a CA of your own, for example in a
    ConfigMap of trust-manager; unset: --scheduler-ca-file of the operator, else whom its system believes"""
    server_name: Annotated[ServerName | None, Effect.APPLY] = None
    """a name in the certificate; unset: that of the Service, NAME-scheduler.NAMESPACE.svc.cluster.local"""
