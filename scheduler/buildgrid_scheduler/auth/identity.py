"""Who is calling: what verified credentials say of them, and nothing with which anybody else could call."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from buildgrid_scheduler.core.errors import Unauthenticated

MAX_NAME_BYTES = 512
"""Of each part of an identity: three of them and the instance must fit into one entry of a database index."""


class Owner(NamedTuple):
    """To whom an operation belongs, as a row of `client_identities`."""

    instance: str
    workflow: str
    actor: str
    subject: str


@dataclass(frozen=True, slots=True)
class KubernetesAccount:
    """The service account of a token that a Kubernetes API server issued.

    `pod` is the name of the pod that the token is bound to; None for tokens that are bound to no pod.
    """

    namespace: str
    service_account: str
    pod: str | None = None

    @property
    def qualified(self) -> str:
        """`NAMESPACE/SERVICE_ACCOUNT`, the form that policies match."""
        return f"{self.namespace}/{self.service_account}"


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller. `issuer` is the name that the configuration gives to whoever vouches for them."""

    issuer: str
    workflow: str
    actor: str
    subject: str
    groups: frozenset[str] = frozenset()
    kubernetes: KubernetesAccount | None = None

    def owner_in(self, instance: str) -> Owner:
        """As the owner of the operations that they make in an instance."""
        return Owner(instance, self.workflow, self.actor, self.subject)

    def __str__(self) -> str:
        """For logs and messages: control characters are escaped."""
        actor = "" if self.actor == self.subject else f", actor {self.actor!r}"
        pod = f", pod {self.kubernetes.pod!r}" if self.kubernetes and self.kubernetes.pod else ""
        return f"{self.subject!r} (issuer {self.issuer}{actor}{pod})"


@dataclass(frozen=True, slots=True)
class Verified:
    """An identity and the time for which its credentials hold, allowance for skewed clocks included."""

    identity: Identity
    not_before: datetime
    expires: datetime

    def check(self, now: datetime) -> None:
        """Raises Unauthenticated when the credentials do not hold now."""
        if now >= self.expires:
            raise Unauthenticated("the credentials have expired; get new ones")
        if now < self.not_before:
            raise Unauthenticated(
                "the credentials are not valid yet; compare the clocks of their issuer and of this server"
            )


def checked_name(what: str, value: str) -> str:
    """A part of an identity as it may be stored; `what` names it in the error. Raises Unauthenticated."""
    if not value or "\0" in value or len(value.encode(errors="replace")) > MAX_NAME_BYTES:
        raise Unauthenticated(f"{what} is empty, holds a NUL or is longer than {MAX_NAME_BYTES} bytes")
    return value
