"""What the API server refuses, as types: what a pass does next depends on which it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta


class ClusterError(Exception):
    """A call of the API server failed. The text is for the person who reads the condition.

    `code` is the HTTP status, 0 when there was no answer. `reason` is the API's word for it. `transient`: the
    same call may succeed later although nobody changes anything. `retry_after`: not sooner than that.
    """

    transient = False

    def __init__(
        self, message: str, *, code: int = 0, reason: str = "", retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_after = retry_after


class NotFound(ClusterError):
    """There is no such object, or its namespace is gone."""


class KindMissing(NotFound):
    """The cluster does not serve this kind: its CRD is not installed, or not in this version."""


class Conflict(ClusterError):
    """The object is not as it was read (resourceVersion, UID), or another manager owns a field."""

    transient = True


class AlreadyExists(Conflict):
    """An object with this name exists."""

    transient = False


class Expired(ClusterError):
    """A list or a watch must begin anew: what it goes on from is compacted away (410)."""

    transient = True


class Unauthorized(ClusterError):
    """The credentials are not accepted (401). They are read again, so that a new token helps."""

    transient = True


@dataclass(frozen=True, slots=True)
class Permission:
    """What an RBAC rule must grant. `resource` has its subresource: `deployments/scale`."""

    verb: str
    resource: str
    group: str
    namespace: str = ""

    def __str__(self) -> str:
        resource, slash, subresource = self.resource.partition("/")
        name = f"{resource}.{self.group}" if self.group else resource
        where = f" in the namespace {self.namespace}" if self.namespace else ""
        return f"{self.verb} {name}{slash}{subresource}{where}"


class Forbidden(ClusterError):
    """Not allowed (403): by RBAC (see PermissionMissing), Pod Security, a quota or another admission rule."""


class PermissionMissing(Forbidden):
    """The operator's own service account lacks an RBAC rule."""

    def __init__(self, permission: Permission, *, code: int = 403, reason: str = "Forbidden") -> None:
        super().__init__(
            f"the operator may not {permission}: grant its service account the verb {permission.verb} on "
            f'{permission.resource} in the API group "{permission.group}"',
            code=code,
            reason=reason,
        )
        self.permission = permission


class NamespaceTerminating(Forbidden):
    """Nothing can be created in a namespace that is being deleted."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong with an object. `field` is as the API server writes it, or empty."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class Invalid(ClusterError):
    """The object is refused as it is (400, 422): sending it again does not help."""

    def __init__(
        self, message: str, causes: Iterable[Cause] = (), *, code: int = 422, reason: str = "Invalid"
    ) -> None:
        super().__init__(message, code=code, reason=reason)
        self.causes = tuple(causes)


class ServerError(ClusterError):
    """The API server, or an admission webhook that it calls, failed (5xx)."""

    transient = True


class ServerTimeout(ServerError):
    """The API server ran out of time (504, or 500 with this reason). It may have done the work."""


class TooManyRequests(ClusterError):
    """The API server is busy (429), or an eviction is held by a budget."""

    transient = True


class Unreachable(ClusterError):
    """No answer: no connection, it broke, or none in time. The call may have taken effect."""

    transient = True
