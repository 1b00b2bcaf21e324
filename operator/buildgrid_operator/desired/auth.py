"""Who may call the scheduler and the managed storage.

Two callers are the operator's own: the operator asks the replicas how they are, and the replicas use the
storage. Both show tokens of their ServiceAccount for an audience that nothing else has. The operator's is
another one for each Scheduler, so that no Scheduler can use at another one what the operator showed to it.

Where the spec does not let this cluster's tokens in, the rules of its policy are narrowed to the issuers that
it names: otherwise "whoever is authenticated" would be any pod of the cluster, since each can get a token for
any audience. Where callers need a client certificate, which the operator has not, it comes to a port of its
own, and the spec's rules hold as they are written.
"""

import re
from collections.abc import Iterable

from buildgrid_operator.api import SchedulerSpec
from buildgrid_operator.api.auth import CERTIFICATE_ISSUER, KUBERNETES_ISSUER, Auth
from buildgrid_operator.api.problems import InvalidSpec, Problem
from buildgrid_operator.api.resource import GROUP, Metadata
from buildgrid_operator.desired import names
from buildgrid_operator.desired.files import Files
from buildgrid_operator.desired.inputs import ClusterTokens, Inputs
from buildgrid_operator.desired.names import Json
from buildgrid_operator.desired.walk import configured

INTERNAL_AUDIENCE = "internal.buildgrid.build"
"""of the replicas' tokens for their storage"""
JWKS_KEY = "jwks.json"
"""the key of the ConfigMap with the cluster's public keys"""


def auth_of(spec: SchedulerSpec) -> Auth | None:
    """The section, if calls are authenticated."""
    auth = spec.auth
    return auth if auth is not None and (auth.kubernetes or auth.jwt or auth.mtls) else None


def has_fleet_port(spec: SchedulerSpec) -> bool:
    """Whether the operator comes to a port of its own: at the other one it would need a certificate."""
    return spec.tls is not None and spec.tls.client_ca_secret_ref is not None


def checks_operator(spec: SchedulerSpec) -> bool:
    """Whether the operator shows a token, for which the scheduler needs the cluster's keys."""
    return auth_of(spec) is not None or has_fleet_port(spec)


def plain_text_notices(spec: SchedulerSpec) -> tuple[Problem, ...]:
    """What is told where tokens are shown to replicas that have no TLS of their own."""
    if not checks_operator(spec) or spec.tls is not None:
        return ()
    message = "is not set, so tokens come as plain text; set it, unless a mesh encrypts"
    return (Problem("spec.tls", message),)


def operator_audience(owner: Metadata) -> str:
    """Of the operator's tokens for this Scheduler, and for no other."""
    return f"{owner.uid}.scheduler.{GROUP}"


def scheduler_auth(inputs: Inputs, auth: Auth, files: Files) -> Json:
    """The section `auth` of a scheduler. Raises InvalidSpec."""
    section: Json = {}
    if has_fleet_port(inputs.spec):
        section["jwt"] = _issuers(inputs, auth, files, _audiences(auth))
        section["policy"] = [configured(rule, Files()) for rule in auth.policy]
    else:
        section["jwt"] = _issuers(
            inputs, auth, files, [*_audiences(auth), operator_audience(inputs.metadata)]
        )
        section["policy"] = [*_policy(auth), _operator(inputs)]
    if auth.mtls is not None:
        section["mtls"] = configured(auth.mtls, files)
    return section


def fleet_section(inputs: Inputs, files: Files) -> Json:
    """The section `fleet` of a scheduler: the operator's port, for nobody else. Raises InvalidSpec."""
    audiences = [operator_audience(inputs.metadata)]
    auth = {"jwt": [_cluster(inputs, auth_of(inputs.spec), files, audiences)], "policy": [_operator(inputs)]}
    return {"listen": f"[::]:{names.FLEET_PORT}", "auth": auth}


def storage_auth(inputs: Inputs, auth: Auth, files: Files, *, for_all: bool) -> Json:
    """The section `auth` of a managed storage.

    `for_all`: whoever may use the scheduler's CAS may use the storage; otherwise only the replicas may.
    """
    owner = inputs.metadata
    replicas = _grant(owner.namespace, names.scheduler_name(owner), "cas-write")
    if for_all:
        issuers = _issuers(inputs, auth, files, [*_audiences(auth), INTERNAL_AUDIENCE])
        return {"jwt": issuers, "policy": [*_policy(auth), replicas]}
    return {"jwt": [_cluster(inputs, auth, files, [INTERNAL_AUDIENCE])], "policy": [replicas]}


def _audiences(auth: Auth) -> list[str]:
    """For which tokens of this cluster the spec lets in."""
    return [] if auth.kubernetes is None else [auth.kubernetes.audience]


def _issuers(inputs: Inputs, auth: Auth, files: Files, audiences: list[str]) -> list[Json]:
    """Those of the spec, and this cluster if its tokens are let in for any audience."""
    own = cluster_tokens(inputs).issuer if audiences else None
    if auth.kubernetes is not None and auth.kubernetes.issuer is not None:
        own = auth.kubernetes.issuer
    for number, jwt in enumerate(auth.jwt):
        if jwt.issuer == own:
            message = "is this cluster; remove the issuer from jwt, and set auth.kubernetes instead"
            raise InvalidSpec([Problem(f"spec.auth.jwt[{number}].issuer", message)])
    cluster = [_cluster(inputs, auth, files, audiences)] if audiences else []
    return [*cluster, *(configured(jwt, files) for jwt in auth.jwt)]


def _cluster(inputs: Inputs, auth: Auth | None, files: Files, audiences: list[str]) -> Json:
    """This cluster as an issuer."""
    tokens = cluster_tokens(inputs)
    wanted = auth.kubernetes if auth is not None else None
    return {
        "name": KUBERNETES_ISSUER,
        "issuer": tokens.issuer if wanted is None or wanted.issuer is None else wanted.issuer,
        "audiences": audiences,
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


def _operator(inputs: Inputs) -> Json:
    operator = inputs.settings.operator
    return _grant(operator.namespace, operator.service_account, "administer")


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
