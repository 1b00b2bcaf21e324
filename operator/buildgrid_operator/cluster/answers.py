"""From an answer of the API server to a typed error. Nothing here does I/O."""

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from buildgrid_operator.cluster.errors import (
    AlreadyExists,
    Cause,
    ClusterError,
    Conflict,
    Expired,
    Forbidden,
    Invalid,
    KindMissing,
    NamespaceTerminating,
    NotFound,
    Permission,
    PermissionMissing,
    ServerError,
    ServerTimeout,
    TooManyRequests,
    Unauthorized,
)

# The words of the RBAC authorizer: the only place that says which verb was asked for. A server-side apply of
# an object that does not exist asks for two.
_DENIED = re.compile(
    r'cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]+)")?'
)
# A field that this API server does not know comes as an internal error of server-side apply.
_UNDECLARED = re.compile(r"(?P<field>\.\S+): field not declared in schema")


def error_of(code: int, headers: Mapping[str, str], body: bytes, call: str) -> ClusterError:
    """The error for an answer that is none of 2xx. `call` says what was asked: `apply Pod a/b`."""
    status = _status(body)
    message = f"{call}: {status.get('message') or f'the API server answered {code}'}"
    reason = str(status.get("reason") or "")
    details = status.get("details") or {}
    causes = details.get("causes") or []
    again = _retry_after(headers, details)
    if code == 404:
        # An object or a namespace that is not there has a Status that names it; an unknown path has none.
        kind_known = details.get("kind") is not None
        if not kind_known:
            return KindMissing(f"{call}: the cluster does not serve this kind", code=code, reason=reason)
        return NotFound(message, code=code, reason=reason)
    if code == 409:
        kind = AlreadyExists if reason == "AlreadyExists" else Conflict
        return kind(message, code=code, reason=reason)
    if code == 403:
        return _forbidden(message, code, reason, causes)
    if code in (400, 413, 422):
        return Invalid(message, _causes(causes), code=code, reason=reason)
    if code == 401:
        return Unauthorized(f"{call}: the API server does not accept the operator's credentials", code=code)
    if code == 410:
        return Expired(message, code=code, reason=reason)
    if code == 429:
        return TooManyRequests(message, code=code, reason=reason, retry_after=again)
    if code >= 500:
        if found := _UNDECLARED.search(message):
            cause = Cause(found["field"].lstrip("."), "this cluster's version does not know the field")
            return Invalid(message, [cause], code=code, reason=reason)
        slow = code == 504 or reason in ("ServerTimeout", "Timeout")
        return (ServerTimeout if slow else ServerError)(message, code=code, reason=reason, retry_after=again)
    return ClusterError(message, code=code, reason=reason, retry_after=again)


def _forbidden(message: str, code: int, reason: str, causes: list[dict[str, Any]]) -> Forbidden:
    if found := _DENIED.search(message):
        permission = Permission(found["verb"], found["resource"], found["group"], found["namespace"] or "")
        return PermissionMissing(permission, code=code, reason=reason)
    if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
        return NamespaceTerminating(message, code=code, reason=reason)
    return Forbidden(message, code=code, reason=reason)


def _causes(causes: list[dict[str, Any]]) -> list[Cause]:
    return [Cause(str(cause.get("field") or ""), str(cause.get("message") or "")) for cause in causes]


def _status(body: bytes) -> dict[str, Any]:
    try:
        status = json.loads(body)
    except ValueError:
        return {}
    return status if isinstance(status, dict) and status.get("kind") == "Status" else {}


def _retry_after(headers: Mapping[str, str], details: Mapping[str, Any]) -> timedelta | None:
    for value in (headers.get("Retry-After"), details.get("retryAfterSeconds")):
        # Retry-After may be a date as well; the API server sends seconds.
        if value is not None and str(value).isdigit() and int(value) > 0:
            return timedelta(seconds=int(value))
    return None
