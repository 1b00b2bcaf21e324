"""From the claims of a verified token to an identity. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from buildgrid_scheduler.auth.identity import Identity, KubernetesAccount, Verified, checked_name
from buildgrid_scheduler.core.errors import Unauthenticated

_KUBERNETES_CLAIM = "kubernetes.io"
_LATEST = datetime(9000, 1, 1, tzinfo=UTC).timestamp()


@dataclass(frozen=True, slots=True)
class ClaimMapping:
    """Which claims make an identity: paths, of which the first that is there counts.

    `a.b` is the claim `b` inside of `a`; a claim whose own name holds dots is found as well. Without a path
    for it, the workflow is the issuer's name, so that equal subjects of two issuers are never one identity.
    """

    workflow: tuple[str, ...] = ()
    actor: tuple[str, ...] = ("act.sub", "sub")  # RFC 8693: who acts on the subject's behalf
    subject: tuple[str, ...] = ("sub",)
    groups: tuple[str, ...] = ("groups",)


def verified_claims(
    claims: Mapping[str, Any], issuer: str, mapping: ClaimMapping, *, kubernetes: bool, leeway: timedelta
) -> Verified:
    """Who the claims speak of, and for how long.

    `kubernetes`: whether the issuer is a Kubernetes API server. Only then the claim `kubernetes.io` is
    believed, and it must be there. Raises Unauthenticated, naming the claim.
    """
    starts = [_time(claims, name) for name in ("nbf", "iat") if claims.get(name) is not None]
    if claims.get("exp") is None:
        raise Unauthenticated("the token never expires (no claim exp); use one with a limited life")
    account = _kubernetes_account(claims) if kubernetes else None
    subject = _first(claims, mapping.subject)
    if subject is None:
        raise Unauthenticated(f"the token has none of the claims {', '.join(mapping.subject)}")
    identity = Identity(
        issuer=issuer,
        workflow=_first(claims, mapping.workflow) or issuer,
        actor=_first(claims, mapping.actor) or subject,
        subject=subject,
        groups=_groups(claims, mapping.groups),
        kubernetes=account,
    )
    not_before = max(starts, default=datetime(1970, 1, 1, tzinfo=UTC) + leeway)
    return Verified(identity, not_before - leeway, _time(claims, "exp") + leeway)


def _at(claims: Mapping[str, Any], path: str) -> Any:
    if path in claims:
        return claims[path]
    for place, letter in enumerate(path):
        if letter == "." and isinstance(inner := claims.get(path[:place]), Mapping):
            return _at(inner, path[place + 1 :])
    return None


def _first(claims: Mapping[str, Any], paths: tuple[str, ...]) -> str | None:
    for path in paths:
        value = _at(claims, path)
        if isinstance(value, str):
            return checked_name(f"the token's claim {path}", value)
    return None


def _groups(claims: Mapping[str, Any], paths: tuple[str, ...]) -> frozenset[str]:
    for path in paths:
        value = _at(claims, path)
        if isinstance(value, str):
            return frozenset({value})
        if isinstance(value, list):
            return frozenset(group for group in value if isinstance(group, str))
    return frozenset()


def _time(claims: Mapping[str, Any], name: str) -> datetime:
    """A NumericDate (RFC 7519, section 2): seconds since 1970, maybe with a fraction."""
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
        raise Unauthenticated(f"the token's claim {name} is not a time")
    return datetime.fromtimestamp(min(max(value, 86_400), _LATEST), UTC)


def _kubernetes_account(claims: Mapping[str, Any]) -> KubernetesAccount:
    """Of a service account token (Kubernetes, "Managing Service Accounts", schema for private claims)."""
    namespace = _at(claims, f"{_KUBERNETES_CLAIM}.namespace")
    account = _at(claims, f"{_KUBERNETES_CLAIM}.serviceaccount.name")
    pod = _at(claims, f"{_KUBERNETES_CLAIM}.pod.name")
    if not isinstance(namespace, str) or not isinstance(account, str) or not isinstance(pod, str | None):
        raise Unauthenticated(
            "the token is not that of a Kubernetes service account (no usable claim kubernetes.io); "
            "use one from a projected volume"
        )
    return KubernetesAccount(namespace, account, pod)
