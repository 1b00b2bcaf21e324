"""Who may call the scheduler and the managed storage.

Two callers are the operator's own: the operator asks the replicas how they are, and the replicas use the
storage. Both show tokens of their ServiceAccount for an audience that nothing else has. Where the spec does
not let this cluster's tokens in, the rules of its policy are narrowed to the issuers that it names: otherwise
"whoever is authenticated" would be any pod of the cluster, since each can get a token for any audience.
"""

import re
from collections.abc import Iterable

from buildgrid_operator.api import SchedulerSpec
from buildgrid_operator.api.auth import CERTIFICATE_ISSUER, KUBERNETES_ISSUER, Auth, JwtIssuer
from buildgrid_operator.api.problems import InvalidSpec, Problem
from buildgrid_operator.desired import names
from buildgrid_operator.desired.files import Files
from buildgrid_operator.desired.inputs import ClusterTokens, Inputs
from buildgrid_operator.desired.names import Json
from buildgrid_operator.desired.walk import configured

INTERNAL_AUDIENCE = "internal.buildgrid.build"
"""of the operator's tokens for schedulers, and of the schedulers' tokens for their storage"""
JWKS_KEY = "jwks.json"
"""the key of the ConfigMap with the cluster's public keys"""


def auth_of(spec: SchedulerSpec) -> Auth | None:
    """The section, if calls are authenticated."""
    auth = spec.auth
    return auth if auth is not None and (auth.kubernetes or auth.jwt or auth.mtls) else None


def scheduler_auth(inputs: Inputs, auth: Auth, files: Files) -> Json:
    """The section `auth` of a scheduler. Raises InvalidSpec."""
    operator = inputs.settings.operator
    section: Json = {
        "jwt": _issuers(inputs, auth, files),
        "policy": [*_policy(auth), _grant(operator.namespace, operator.service_account, "administer")],
    }
    if auth.mtls is not None:
        section["mtls"] = configured(auth.mtls, files)
    return section


def storage_auth(inputs: Inputs, auth: Auth, files: Files, *, for_all: bool) -> Json:
    """The section `auth` of a managed storage.

    `for_all`: whoever may use the scheduler's CAS may use the storage; otherwise only the replicas may.
    """
    owner = inputs.metadata
    replicas = _grant(owner.namespace, names.scheduler_name(owner), "cas-write")
    if for_all:
        return {"jwt": _issuers(inputs, auth, files), "policy": [*_policy(auth), replicas]}
    return {"jwt": [_cluster(inputs, None, files)], "policy": [replicas]}


def _issuers(inputs: Inputs, auth: Auth, files: Files) -> list[Json]:
    cluster = _cluster(inputs, auth, files)
    for number, jwt in enumerate(auth.jwt):
        _must_be_another(jwt, cluster["issuer"], f"spec.auth.jwt[{number}].issuer")
    return [cluster, *(configured(jwt, files) for jwt in auth.jwt)]


def _must_be_another(jwt: JwtIssuer, cluster: str, field: str) -> None:
    if jwt.issuer is None:
        message = "must be set: this cluster, whose tokens the operator uses, is an issuer, too"
        raise InvalidSpec([Problem(field, message)])
    if jwt.issuer == cluster:
        message = "is this cluster; remove the issuer from jwt, and set auth.kubernetes instead"
        raise InvalidSpec([Problem(field, message)])


def _cluster(inputs: Inputs, auth: Auth | None, files: Files) -> Json:
    """This cluster as an issuer: for the spec's audience, if it lets its tokens in, and for our own."""
    tokens = cluster_tokens(inputs)
    wanted = auth.kubernetes if auth is not None else None
    return {
        "name": KUBERNETES_ISSUER,
        "issuer": tokens.issuer if wanted is None or wanted.issuer is None else wanted.issuer,
        "audiences": [*([wanted.audience] if wanted is not None else []), INTERNAL_AUDIENCE],
        "jwks": {"file": files.config_map(names.jwks_name(inputs.metadata), JWKS_KEY)},
        "kubernetes": True,
    }


def cluster_tokens(inputs: Inputs) -> ClusterTokens:
    """What tokens of this cluster are checked with. Raises InvalidSpec where that is not known."""
    if inputs.tokens is None:
        message = (
            "needs the cluster's token issuer and public keys, which the API server does not tell; "
            "allow the operator to read /.well-known/openid-configuration and /openid/v1/jwks "
            "(ClusterRole system:service-account-issuer-discovery)"
        )
        raise InvalidSpec([Problem("spec.auth", message)])
    return inputs.tokens


def _grant(namespace: str, service_account: str, right: str) -> Json:
    account = {"issuer": KUBERNETES_ISSUER, "service_account": f"{namespace}/{service_account}"}
    return {"identities": [account], "rights": [right]}


def _policy(auth: Auth) -> list[Json]:
    rules = [configured(rule, Files()) for rule in auth.policy]
    if auth.kubernetes is not None:
        return rules
    others = [jwt.name for jwt in auth.jwt] + ([CERTIFICATE_ISSUER] if auth.mtls is not None else [])
    narrowed = [
        {**rule, "identities": [one for each in rule["identities"] for one in _narrowed(each, others)]}
        for rule in rules
    ]
    return [rule for rule in narrowed if rule["identities"]]


def _narrowed(matcher: Json, issuers: Iterable[str]) -> list[Json]:
    """The matcher, for each of the issuers if this cluster's tokens could match it otherwise."""
    pattern = matcher.get("issuer", "**")
    if not _matches(pattern, KUBERNETES_ISSUER):
        return [matcher]
    return [{**matcher, "issuer": name} for name in issuers if _matches(pattern, name)]


def _matches(pattern: str, issuer: str) -> bool:
    """Whether a pattern of a policy fits an issuer's name, in which there are no slashes."""
    parts = re.findall(r"\*+|\?|[^*?]+", pattern)
    meaning = "".join(".*" if part[0] == "*" else "." if part == "?" else re.escape(part) for part in parts)
    return re.fullmatch(meaning, issuer) is not None
