"""The operator's RBAC rules, one row for each, with what happens without it: docs/rbac.md has them all.

`test_permissions.py` beside it compares the rows with what the chart renders, and with the page;
`tests/cluster/operator/test_withdrawn_rules.py` takes the rules away on a real API server.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

OURS = "buildgrid.build"
BLOCKING = {
    "": ("configmaps", "services", "serviceaccounts", "persistentvolumeclaims"),
    "apps": ("deployments", "statefulsets"),
}
"""by API group: what comes after one that is refused waits"""
OPTIONAL = {
    "policy": ("poddisruptionbudgets",),
    "networking.k8s.io": ("ingresses", "networkpolicies"),
}
"""by API group: the others are applied all the same"""
FOREIGN = {
    "gateway.networking.k8s.io": ("grpcroutes",),
    "monitoring.coreos.com": ("servicemonitors",),
}
"""as OPTIONAL, where the cluster knows the kind"""


class Told(Enum):
    """Where it says which permission is missing."""

    LOG = "log"
    READY = "`Ready` of the Scheduler"
    DEGRADED = "`Degraded` of the Scheduler"
    CONFIG_APPLIED = "`ConfigApplied` of the Scheduler"
    FLEET = "`Ready` of the BotFleet"
    NOWHERE = "nowhere"


@dataclass(frozen=True, slots=True)
class Row:
    """A rule, of which each verb is missed in the same way."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    told: Told
    without: str
    """what does not happen, for people"""
    shown: str
    """the test that takes it away"""

    def permissions(self) -> Iterator[tuple[str, str, str]]:
        """(API group, resource, verb)"""
        for resource in self.resources:
            for verb in self.verbs:
                yield self.group, resource, verb

    def line(self) -> str:
        """As docs/rbac.md has it."""
        resources = ", ".join(f"`{name}`" for name in self.resources)
        return (
            f"| {resources} | {', '.join(self.verbs)} | {self.without} | {self.told.value} | `{self.shown}` |"
        )


_WALK = "test_each_call_that_applies_an_object_is_named"
_FOREIGN_WALK = "test_each_call_for_kinds_of_others_is_named"
_BLIND = "test_it_starts_with_nothing_and_names_one_rule_after_the_other"
_APPLY = ("get", "create", "patch")


_RESTARTS = "all watches end and begin anew, with lists, every half minute"


def _children() -> Iterator[Row]:
    """What a Scheduler becomes."""
    for kinds, told, shown in (
        (BLOCKING, Told.READY, _WALK),
        (OPTIONAL, Told.DEGRADED, _WALK),
        (FOREIGN, Told.DEGRADED, _FOREIGN_WALK),
    ):
        rest = "what comes after it is" if told is Told.READY else "it alone is"
        for group, resources in kinds.items():
            yield Row(group, resources, _APPLY, told, f"{rest} not applied", shown)
            yield Row(group, resources, ("delete",), told, "what is wanted no longer stays", shown)
            blind = _BLIND if kinds is not FOREIGN else _FOREIGN_WALK
            words = "hand-made edits are put right only when a pass comes along"
            yield Row(group, resources, ("list",), Told.DEGRADED, words, blind)
            yield Row(group, resources, ("watch",), Told.LOG, _RESTARTS, blind)


_MISSED = "test_what_a_scheduler_or_a_fleet_misses_is_named"
ROWS = (
    Row("coordination.k8s.io", ("leases",), ("get", "create", "update"), Told.LOG,
        "it does not lead, and does nothing; one that leads ends 10 s later", _BLIND),
    Row(OURS, ("schedulers", "propertysets", "botfleets"), ("list",), Told.LOG,
        "it does nothing, and is not ready", _BLIND),
    Row(OURS, ("schedulers", "propertysets", "botfleets"), ("watch",), Told.LOG, _RESTARTS, _BLIND),
    Row(OURS, ("schedulers",), ("get",), Told.LOG,
        "stopped in a namespace that is being deleted, it leaves finalizers, which hold the namespace",
        "test_the_operator_may_do_what_it_does"),
    Row(OURS, ("schedulers",), ("patch",), Told.READY,
        "a Scheduler with `spec.deletion.drain` is not applied, for deleting it would not wait", _MISSED),
    Row(OURS, ("schedulers/status", "propertysets/status", "botfleets/status"), ("patch",), Told.LOG,
        "all is done, but the status stays as it was", _MISSED),
    *_children(),
    Row("", ("pods",), ("create",), Told.FLEET, "a fleet gets no bots", _MISSED),
    Row("", ("pods",), ("list",), Told.FLEET, "no pod is made or deleted", _BLIND),
    Row("", ("pods",), ("watch",), Told.LOG, _RESTARTS, _BLIND),
    Row("", ("pods",), ("get",), Told.LOG,
        "a fleet gets no more bots where a pod of the next name is there already", _MISSED),
    Row("", ("pods",), ("delete",), Told.LOG, "a fleet does not shrink, and pods that ended stay", _MISSED),
    Row("", ("pods",), ("patch",), Told.DEGRADED,
        "a change of the configuration takes as long as a kubelet takes, a minute or two", _MISSED),
    Row("events.k8s.io", ("events",), ("list",), Told.DEGRADED,
        "a Secret that is missing is not named", _MISSED),
    Row("events.k8s.io", ("events",), ("create",), Told.LOG, "nothing is told in events", _MISSED),
    Row("events.k8s.io", ("events",), ("patch",), Told.LOG,
        "an event does not count how often it happened", "test_the_operator_may_do_what_it_does"),
    Row("", ("serviceaccounts/token",), ("create",), Told.CONFIG_APPLIED,
        "replicas of a Scheduler with `spec.auth` cannot be asked, and its fleets do not grow", _MISSED),
    Row("", ("namespaces",), ("get",), Told.FLEET, "no pod of a fleet is made", _BLIND),
    Row("", ("nodes",), ("list", "watch"), Told.NOWHERE,
        "bots of a node that is about to go get work: see below", "test_the_charts_rules_are_enough"),
)  # fmt: skip
"""All of them."""
