"""Which identities may do what, in which instances. Pure.

| right | what it allows | includes |
|---|---|---|
| cache-read | read the CAS and the action cache, see the capabilities | |
| cas-write | upload blobs | cache-read |
| execute | execute actions, follow, list and cancel one's own operations | cas-write |
| action-cache-update | store action results | cas-write |
| run-bots | open bot sessions and work on leases | cas-write |
| administer | everything, everybody's operations included | all others |

Rules only grant; an identity has the rights of all rules that match it, and without a rule none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from buildgrid_scheduler.auth.identity import Identity
from buildgrid_scheduler.auth.patterns import matches


class Right(StrEnum):
    """What a policy grants."""

    CACHE_READ = "cache-read"
    CAS_WRITE = "cas-write"
    EXECUTE = "execute"
    ACTION_CACHE_UPDATE = "action-cache-update"
    RUN_BOTS = "run-bots"
    ADMINISTER = "administer"


_WRITES = frozenset({Right.CACHE_READ, Right.CAS_WRITE})
INCLUDES: dict[Right, frozenset[Right]] = {
    Right.CACHE_READ: frozenset({Right.CACHE_READ}),
    Right.CAS_WRITE: _WRITES,
    Right.EXECUTE: _WRITES | {Right.EXECUTE},
    Right.ACTION_CACHE_UPDATE: _WRITES | {Right.ACTION_CACHE_UPDATE},
    Right.RUN_BOTS: _WRITES | {Right.RUN_BOTS},
    Right.ADMINISTER: frozenset(Right),
}
"""Each right with those that are of no use to have without it: who executes uploads inputs first."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """Identities, by patterns; all that are given must match, and at least one must be given.

    `group` matches when one of the groups does. `service_account` is `NAMESPACE/NAME` of a Kubernetes token.
    """

    issuer: str | None = None
    subject: str | None = None
    actor: str | None = None
    workflow: str | None = None
    group: str | None = None
    service_account: str | None = None

    def __post_init__(self) -> None:
        if not any((self.issuer, self.subject, self.actor, self.workflow, self.group, self.service_account)):
            raise ValueError("a matcher without a pattern; write subject: '**' for whoever is authenticated")

    def matches(self, identity: Identity) -> bool:
        """Whether the identity is one of these."""
        plain = (
            (self.issuer, identity.issuer),
            (self.subject, identity.subject),
            (self.actor, identity.actor),
            (self.workflow, identity.workflow),
        )
        if not all(pattern is None or matches(pattern, value) for pattern, value in plain):
            return False
        if self.group is not None and not any(matches(self.group, group) for group in identity.groups):
            return False
        if self.service_account is None:
            return True
        account = identity.kubernetes
        return account is not None and matches(self.service_account, account.qualified)


@dataclass(frozen=True, slots=True)
class Rule:
    """Grants rights in the instances that match to the identities that match."""

    identities: tuple[Matcher, ...]
    instances: tuple[str, ...]
    rights: frozenset[Right]


class Policy:
    """All rules. What an identity may do in an instance is worked out once and remembered."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self._rules = tuple(rules)
        self.rights = lru_cache(maxsize=65_536)(self._rights)

    def missing(self, right: Right, identity: Identity, instance: str) -> Right | None:
        """The right, if the identity lacks it in the instance; None if it has it."""
        return None if right in self.rights(identity, instance) else right

    def _rights(self, identity: Identity, instance: str) -> frozenset[Right]:
        granted: set[Right] = set()
        for rule in self._rules:
            if any(matches(pattern, instance) for pattern in rule.instances) and any(
                matcher.matches(identity) for matcher in rule.identities
            ):
                granted.update(*(INCLUDES[right] for right in rule.rights))
        return frozenset(granted)


def may_touch_operation(
    identity: Identity | None, instance: str, owner: tuple[str, ...] | None, rights: frozenset[Right]
) -> bool:
    """Whether a caller may look at an operation of this instance, wait for it and cancel it.

    `identity` None: no authentication, everybody may. `owner`: see `Owner`; None: nobody's, because it was
    made without authentication, which leaves it to administrators. `rights`: the identity's in the instance.
    """
    return identity is None or owner == identity.owner_in(instance) or Right.ADMINISTER in rights
