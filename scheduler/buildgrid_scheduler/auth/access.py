"""What the services ask: may whoever is calling do this, in this instance?

The interceptor binds the caller's identity to the running call. A service holds an `Access`: `OpenAccess`
where there is no authentication, otherwise a `PolicyAccess`, which denies whatever has no identity. So a
call that came by without the interceptor, or code that runs outside of a call, is denied and not let through.
"""

from contextvars import ContextVar
from typing import Protocol

from buildgrid_scheduler.auth.denials import DenialLog
from buildgrid_scheduler.auth.identity import Identity, Owner
from buildgrid_scheduler.auth.policy import Policy, Right, may_touch_operation
from buildgrid_scheduler.core.errors import PermissionDenied, Unauthenticated

_caller: ContextVar[Identity | None] = ContextVar("buildgrid_caller", default=None)


def bind_caller(identity: Identity) -> None:
    """The running call is this identity's. Only for the interceptor: a call has a context of its own."""
    _caller.set(identity)


def current_caller() -> Identity | None:
    """Whose call is running; None without authentication, and outside of calls, as on a pool's threads."""
    return _caller.get()


class Access(Protocol):
    """The questions. All are answered for the caller of the running call, from memory."""

    def authorize(self, right: Right, instance: str) -> Identity | None:
        """The caller; None without authentication. Raises Unauthenticated or PermissionDenied."""

    def allows(self, right: Right, instance: str) -> bool:
        """Whether `authorize` would let it pass."""

    def authorize_operation(self, instance: str, name: str, owner: tuple[str, ...] | None) -> None:
        """Raises PermissionDenied unless the operation `name` is the caller's, or they administer.

        `owner`: (instance, workflow, actor, subject) of whoever made it; None: nobody is known to have.
        """

    def listed_owner(self, instance: str) -> Owner | None:
        """Whose operations the caller may list; None: everybody's."""

    def authorize_bot(self, instance: str, bot_id: str) -> Identity | None:
        """The caller, who may run the bot `bot_id`. Raises Unauthenticated or PermissionDenied."""


class OpenAccess:
    """Without authentication everybody may do everything."""

    def authorize(self, right: Right, instance: str) -> Identity | None:
        """Nobody in particular."""
        return None

    def allows(self, right: Right, instance: str) -> bool:
        """Always."""
        return True

    def authorize_operation(self, instance: str, name: str, owner: tuple[str, ...] | None) -> None:
        """Operations have no owners."""

    def listed_owner(self, instance: str) -> Owner | None:
        """Everybody's."""
        return None

    def authorize_bot(self, instance: str, bot_id: str) -> Identity | None:
        """Nobody in particular."""
        return None


class PolicyAccess:
    """By a policy."""

    def __init__(self, policy: Policy, denials: DenialLog) -> None:
        self.policy = policy
        """may be replaced while calls run"""
        self._denials = denials

    def authorize(self, right: Right, instance: str) -> Identity | None:
        """See `Access`. The error names the right that is missing."""
        identity = _known_caller()
        if self.policy.missing(right, identity, instance) is None:
            return identity
        raise self._denied(
            identity,
            f"the right {right.value!r} in instance {instance!r} is missing; "
            "an administrator grants it with a rule in auth.policy",
        )

    def allows(self, right: Right, instance: str) -> bool:
        """See `Access`."""
        identity = current_caller()
        return identity is not None and self.policy.missing(right, identity, instance) is None

    def authorize_operation(self, instance: str, name: str, owner: tuple[str, ...] | None) -> None:
        """See `Access`."""
        identity = _known_caller()
        rights = self.policy.rights(identity, instance)
        if not may_touch_operation(identity, instance, owner, rights):
            raise self._denied(
                identity,
                f"operation {name!r} belongs to another identity, and the right "
                f"{Right.ADMINISTER.value!r} in instance {instance!r} is missing",
            )

    def listed_owner(self, instance: str) -> Owner | None:
        """See `Access`."""
        return None if self.allows(Right.ADMINISTER, instance) else _known_caller().owner_in(instance)

    def authorize_bot(self, instance: str, bot_id: str) -> Identity | None:
        """See `Access`, and `check_bot_identity`."""
        identity = self.authorize(Right.RUN_BOTS, instance)
        try:
            check_bot_identity(identity, bot_id)
        except PermissionDenied as error:
            raise self._denied(identity, str(error)) from None
        return identity

    def _denied(self, identity: Identity | None, reason: str) -> PermissionDenied:
        self._denials.note(str(identity), reason)
        return PermissionDenied(f"{identity}: {reason}")


def check_bot_identity(identity: Identity | None, bot_id: str) -> None:
    """Raises PermissionDenied when a Kubernetes token runs a bot that is not the token's pod.

    The `bot_id` must be the name of the pod that the token is bound to, so that no pod can take a session,
    and its leases, from another. A token that is bound to no pod runs no bots. Pods of two namespaces may
    have one name: which service accounts run bots in an instance is the policy's to say. Identities that are
    not from Kubernetes are not bound to a `bot_id`.
    """
    if identity is None or identity.kubernetes is None or identity.kubernetes.pod == bot_id:
        return
    if identity.kubernetes.pod is None:
        raise PermissionDenied(
            f"the right {Right.RUN_BOTS.value!r} as bot {bot_id!r} is missing: the token is bound to no pod; "
            "use one from a projected volume of the bot's pod"
        )
    raise PermissionDenied(
        f"the right {Right.RUN_BOTS.value!r} as bot {bot_id!r} is missing: the token is that of pod "
        f"{identity.kubernetes.pod!r}; bot_id must be the pod's name"
    )


def _known_caller() -> Identity:
    identity = current_caller()
    if identity is None:
        raise Unauthenticated("the call has no identity; send credentials")
    return identity
