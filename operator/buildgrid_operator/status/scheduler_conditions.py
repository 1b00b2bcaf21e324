"""The conditions of a Scheduler, from what a pass saw.

| condition | reasons, that of the good state first |
|---|---|
| Ready | Serving; Deleting, InvalidSpec, ReferenceMissing, PermissionMissing, ObjectRefused, NameTaken, |
|       | ApplyFailed, StorageNotReady, RolloutStuck, ScaledToZero, Progressing, and a pod's trouble |
|       | (SecretMissing, ImagePullFailed, CrashLoop, Unschedulable ...: see `workload`) |
| ConfigApplied | Applied; WouldOrphan, ConfigRefused, SchedulerUnreachable, Applying, NoReplicas |
| Degraded | AsExpected; ReplicasMissing, StorageNotReady, ConfigRefused, ObjectRefused and alike |
| Stalled | AsExpected; InvalidSpec, PermissionMissing, ObjectRefused, NameTaken, RolloutStuck |

Ready means: this generation of the spec is in force, and it serves. A replica that is lost makes Degraded
True, not Ready False.
"""

from dataclasses import dataclass, field
from datetime import datetime

from buildgrid_operator.status.conditions import (
    CONFIG_APPLIED,
    DEGRADED,
    READY,
    STALLED,
    State,
    Verdict,
    rfc3339,
)
from buildgrid_operator.status.messages import counted, listed
from buildgrid_operator.status.workload import Trouble, Workload

ALLOW_ORPHANS = "buildgrid.build/allow-orphans"
"""Annotation: the generation whose edit may leave jobs without a bot that could take them."""
_STALLING = ("PermissionMissing", "ObjectRefused", "NameTaken")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An object that could not be applied. `blocking`: without it there is no scheduler."""

    reason: str
    """PermissionMissing, ObjectRefused, NameTaken, KindMissing or ApplyFailed"""
    message: str
    blocking: bool = True


@dataclass(frozen=True, slots=True)
class Orphans:
    """Waiting jobs that the new property set would not accept: how many of which requirements."""

    generation: int
    """what to annotate the Scheduler with: see ALLOW_ORPHANS"""
    jobs: int
    by_requirements: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class ConfigState:
    """Which replicas have the configuration. `ready` counts those that serve."""

    hash: str
    ready: int
    configured: int
    errors: tuple[tuple[str, str], ...] = ()
    """(replica, why it keeps the configuration that it had)"""
    orphans: Orphans | None = None
    unreachable: str | None = None
    """why the Fleet service could not be asked"""


@dataclass(frozen=True, slots=True)
class Draining:
    """A Scheduler that is being deleted, and what it waits for."""

    queued: int | None
    executing: int | None
    until: datetime
    """when it ends all the same"""
    refusing: int = 0
    """replicas that refuse new jobs already"""
    replicas: int = 0
    accepts: str | None = None
    """why new jobs are not refused everywhere"""


@dataclass(frozen=True, slots=True)
class SchedulerFacts:
    """What a pass saw. What was not looked at stays None, and so do conditions about it as they are."""

    problems: tuple[str, ...] = ()
    """of the spec: `field: what to do`"""
    missing: tuple[str, ...] = ()
    """what it refers to and is not there, with what to do: see `reference_missing`"""
    refusals: tuple[Refusal, ...] = ()
    draining: Draining | None = None
    pods: Workload | None = None
    storage: Workload | None = None
    """None: the storage is not ours to look after"""
    troubles: tuple[Trouble, ...] = ()
    config: ConfigState | None = None
    notes: tuple[str, ...] = field(default=())
    """what else to tell in Ready's message"""


def reference_missing(kind: str, name: str, field_path: str) -> str:
    """The words for something that is referred to and does not exist."""
    return f"the {kind} {name} does not exist in this namespace: create it, or change {field_path}"


def scheduler_verdicts(facts: SchedulerFacts) -> tuple[Verdict, ...]:
    """All that can be said now, in the order of SCHEDULER_CONDITIONS."""
    found = [_ready(facts)]
    if facts.config is not None:
        found.append(config_verdict(facts.config))
    if facts.pods is not None:
        found.append(_degraded(facts, facts.pods))
    found.append(_stalled(facts))
    return tuple(found)


def _ready(facts: SchedulerFacts) -> Verdict:
    def no(reason: str, message: str, status: State = "False") -> Verdict:
        return Verdict(READY, status, reason, message)

    if facts.draining is not None:
        return no("Deleting", _draining_words(facts.draining))
    if facts.problems:
        return no("InvalidSpec", _problem_words(facts.problems))
    if facts.missing:
        return no("ReferenceMissing", "; ".join(facts.missing))
    blocking = [refusal for refusal in facts.refusals if refusal.blocking]
    if blocking:
        return no(blocking[0].reason, blocking[0].message)
    pods = facts.pods
    if pods is None or (pods.total == 0 and pods.wanted > 0 and not facts.troubles):
        return no("Progressing", "the pods are being made")
    if facts.storage is not None and facts.storage.ready == 0:
        return no("StorageNotReady", _trouble_words(facts, "the storage's pod is not ready"))
    if not pods.settled or (pods.ready == 0 and pods.wanted > 0):
        return _rolling(facts, pods)
    notes = "".join(f"; {note}" for note in facts.notes)
    if pods.wanted == 0:
        return no("ScaledToZero", f"spec.replicas is 0: nothing serves{notes}")
    return Verdict(READY, "True", "Serving", f"{_of(pods.ready, pods.wanted)} serve{notes}")


def _rolling(facts: SchedulerFacts, pods: Workload) -> Verdict:
    serving = f"{_of(pods.ready, pods.wanted)} serve, {pods.updated} of the newest template"
    if facts.troubles:
        trouble = facts.troubles[0]
        return Verdict(READY, "False", trouble.reason, f"{trouble.message} ({serving})")
    if pods.deadline_exceeded:
        words = (
            f"the new pods do not become ready ({serving}); see kubectl describe and logs of the newest pod"
        )
        return Verdict(READY, "False", "RolloutStuck", words)
    return Verdict(READY, "False", "Progressing", serving)


def config_verdict(config: ConfigState) -> Verdict:
    """ConfigApplied."""

    def no(reason: str, message: str, status: State = "False") -> Verdict:
        return Verdict(CONFIG_APPLIED, status, reason, message)

    if config.orphans is not None:
        return no("WouldOrphan", _orphan_words(config.orphans))
    if config.unreachable is not None:
        words = f"the replicas cannot be asked which configuration they have: {config.unreachable}"
        return no("SchedulerUnreachable", words, "Unknown")
    if config.errors:
        replica, error = config.errors[0]
        others = (
            f" (and {counted(len(config.errors) - 1, 'other replica')})" if len(config.errors) > 1 else ""
        )
        return no("ConfigRefused", f"replica {replica}{others} keeps the configuration that it had: {error}")
    if config.ready == 0:
        return no("NoReplicas", "no replica is ready yet to take the configuration")
    if config.configured < config.ready:
        return no("Applying", f"{_of(config.configured, config.ready)} have the configuration {config.hash}")
    return Verdict(
        CONFIG_APPLIED,
        "True",
        "Applied",
        f"{_of(config.ready, config.ready)} have the configuration {config.hash}",
    )


def _degraded(facts: SchedulerFacts, pods: Workload) -> Verdict:
    def yes(reason: str, message: str) -> Verdict:
        return Verdict(DEGRADED, "True", reason, message)

    # First: what it may not look at, it knows nothing new of.
    for refusal in facts.refusals:
        if refusal.reason == "PermissionMissing":
            return yes(refusal.reason, refusal.message)
    if pods.settled and pods.ready < pods.wanted:
        return yes("ReplicasMissing", _trouble_words(facts, f"only {_of(pods.ready, pods.wanted)} serve"))
    if facts.storage is not None and facts.storage.ready == 0:
        return yes("StorageNotReady", _trouble_words(facts, "the storage's pod is not ready"))
    if facts.config is not None and facts.config.errors:
        return yes("ConfigRefused", config_verdict(facts.config).message)
    if facts.refusals:
        return yes(facts.refusals[0].reason, facts.refusals[0].message)
    return Verdict(DEGRADED, "False", "AsExpected", "")


def _stalled(facts: SchedulerFacts) -> Verdict:
    def yes(reason: str, message: str) -> Verdict:
        return Verdict(STALLED, "True", reason, message)

    if facts.problems:
        return yes("InvalidSpec", _problem_words(facts.problems))
    for refusal in facts.refusals:
        if refusal.blocking and refusal.reason in _STALLING:
            return yes(refusal.reason, refusal.message)
    if facts.pods is not None and facts.pods.deadline_exceeded:
        return yes("RolloutStuck", _rolling(facts, facts.pods).message)
    return Verdict(STALLED, "False", "AsExpected", "")


def _of(some: int, all_: int) -> str:
    return f"{some} of {counted(all_, 'replica')}"


def _trouble_words(facts: SchedulerFacts, otherwise: str) -> str:
    return f"{otherwise}: {facts.troubles[0].message}" if facts.troubles else otherwise


def _problem_words(problems: tuple[str, ...]) -> str:
    return f"{'; '.join(problems)} (what runs stays as it is)"


def _draining_words(draining: Draining) -> str:
    if draining.queued is None or draining.executing is None:
        left = "it is being deleted; how many jobs are left is not known, for the replicas do not answer"
    elif draining.queued or draining.executing:
        jobs = f"{counted(draining.executing, 'job')} executing and {draining.queued} queued"
        left = f"it is being deleted, and waits for {jobs}"
    else:
        left = "it is being deleted, and has no jobs left"
    return (
        f"{left}; {_refusing_words(draining)}; it ends at {rfc3339(draining.until)} at the latest: to end it "
        "at once, remove spec.deletion.drain"
    )


def _refusing_words(draining: Draining) -> str:
    if draining.accepts is not None:
        return f"new jobs are still taken ({draining.accepts})"
    if draining.replicas and draining.refusing >= draining.replicas:
        return "new jobs are refused"
    told = "no replica is known to" if not draining.refusing else _of(draining.refusing, draining.replicas)
    return f"{told} refuse new jobs yet"


def _orphan_words(orphans: Orphans) -> str:
    sets = listed([f"{count} of {requirements}" for requirements, count in orphans.by_requirements])
    return (
        f"the property set accepts {counted(orphans.jobs, 'waiting job')} no longer ({sets}), so the one "
        "before stays in force: wait for them, put the property back, or give them up: "
        f"annotate this object with {ALLOW_ORPHANS}={orphans.generation}"
    )
