"""The conditions of a Scheduler: each reason, and that its message says what to do."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from buildgrid_operator.status.conditions import GOOD, SCHEDULER_CONDITIONS, Verdict
from buildgrid_operator.status.property_set_conditions import property_set_verdicts
from buildgrid_operator.status.scheduler_conditions import (
    ConfigState,
    Draining,
    Orphans,
    Refusal,
    SchedulerFacts,
    config_verdict,
    reference_missing,
    scheduler_verdicts,
)
from buildgrid_operator.status.workload import Trouble, Workload

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
PODS = Workload(3, 3, 3, 3, settled=True)
ROLLING = Workload(3, 4, 3, 1, settled=False)
CONFIG = ConfigState("abc", ready=3, configured=3)
WELL = SchedulerFacts(pods=PODS, config=CONFIG)
SECRET = Trouble("SecretMissing", "the Secret db does not exist: create it")
DENIED = Refusal("PermissionMissing", "Deployment farm/a: the operator may not create deployments.apps")
NO_ROUTE = Refusal("KindMissing", "the cluster does not serve GRPCRoute: install its CRD", blocking=False)


def judge(**facts: Any) -> dict[str, Verdict]:
    return {verdict.type: verdict for verdict in scheduler_verdicts(replace(WELL, **facts))}


def test_when_all_is_well_every_condition_is_good() -> None:
    verdicts = judge()
    assert {name: verdict.status for name, verdict in verdicts.items()} == {
        name: GOOD[name] for name in SCHEDULER_CONDITIONS
    }
    assert verdicts["Ready"].message == "3 of 3 replicas serve"
    assert verdicts["ConfigApplied"].message == "3 of 3 replicas have the configuration abc"


@pytest.mark.parametrize(
    ("facts", "reason", "words"),
    [
        (
            {"draining": Draining(4, 1, NOON, 2, 2)},
            "Deleting",
            "waits for 1 job executing and 4 queued; new jobs are refused; it ends at 2026-01-02T12:00:00Z "
            "at the latest: to end it at once, remove spec.deletion.drain",
        ),
        (
            {"draining": Draining(0, 0, NOON, 1, 2)},
            "Deleting",
            "has no jobs left; 1 of 2 replicas refuse new jobs yet",
        ),
        (
            {"draining": Draining(4, 1, NOON, 0, 2, "too old")},
            "Deleting",
            "new jobs are still taken (too old)",
        ),
        (
            {"draining": Draining(None, None, NOON)},
            "Deleting",
            "the replicas do not answer; no replica is known",
        ),
        ({"problems": ("spec.replicas: must be 1 or more",)}, "InvalidSpec", "(what runs stays as it is)"),
        (
            {"missing": (reference_missing("PropertySet", "linux", "spec.propertySetRef.name"),)},
            "ReferenceMissing",
            "linux does not exist in this namespace: create it, or change spec.propertySetRef.name",
        ),
        ({"refusals": (NO_ROUTE, DENIED)}, "PermissionMissing", "may not create deployments.apps"),
        ({"pods": None}, "Progressing", "the pods are being made"),
        ({"pods": Workload(3, 0, 0, 0, settled=False)}, "Progressing", "the pods are being made"),
        ({"pods": Workload(3, 0, 0, 0, settled=False), "troubles": (SECRET,)}, "SecretMissing", "create it"),
        ({"pods": ROLLING}, "Progressing", "3 of 3 replicas serve, 1 of the newest template"),
        ({"pods": ROLLING, "troubles": (SECRET,)}, "SecretMissing", "create it (3 of 3 replicas serve"),
        ({"pods": replace(ROLLING, deadline_exceeded=True)}, "RolloutStuck", "see kubectl describe and logs"),
        ({"pods": Workload(3, 3, 0, 3, settled=True)}, "Progressing", "0 of 3 replicas serve"),
        (
            {"storage": Workload(1, 1, 0, 1, settled=True)},
            "StorageNotReady",
            "the storage's pod is not ready",
        ),
        ({"pods": Workload(0, 0, 0, 0, settled=True)}, "ScaledToZero", "spec.replicas is 0"),
    ],
)
def test_why_it_is_not_ready(facts: dict[str, Any], reason: str, words: str) -> None:
    ready = judge(**facts)["Ready"]
    assert (ready.status, ready.reason) == ("False", reason)
    assert words in ready.message


@pytest.mark.parametrize(
    ("config", "status", "reason", "words"),
    [
        (replace(CONFIG, configured=2), "False", "Applying", "2 of 3 replicas have the configuration abc"),
        (replace(CONFIG, ready=0, configured=0), "False", "NoReplicas", "no replica is ready yet"),
        (
            replace(CONFIG, errors=(("r1", "jobs: unknown field"), ("r2", "x"))),
            "False",
            "ConfigRefused",
            "replica r1 (and 1 other replica) keeps the configuration that it had: jobs: unknown field",
        ),
        (
            replace(CONFIG, unreachable="no answer within 5 s"),
            "Unknown",
            "SchedulerUnreachable",
            "within 5 s",
        ),
        (
            replace(CONFIG, orphans=Orphans(7, 5, (("OSFamily=windows", 4), ("Pool=gpu", 1)))),
            "False",
            "WouldOrphan",
            "5 waiting jobs no longer (4 of OSFamily=windows, 1 of Pool=gpu)",
        ),
    ],
)
def test_why_the_configuration_is_not_in_force(
    config: ConfigState, status: str, reason: str, words: str
) -> None:
    verdict = config_verdict(config)
    assert (verdict.status, verdict.reason) == (status, reason)
    assert words in verdict.message


def test_orphans_can_be_allowed_as_the_message_says() -> None:
    message = config_verdict(replace(CONFIG, orphans=Orphans(7, 1, (("a", 1),)))).message
    assert "annotate this object with buildgrid.build/allow-orphans=7" in message


def test_a_lost_replica_degrades_but_does_not_end_readiness() -> None:
    verdicts = judge(pods=Workload(3, 3, 2, 3, settled=True), troubles=(SECRET,))
    assert verdicts["Ready"].status == "True"
    assert (verdicts["Degraded"].status, verdicts["Degraded"].reason) == ("True", "ReplicasMissing")
    assert "only 2 of 3 replicas serve: the Secret db" in verdicts["Degraded"].message


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"refusals": (NO_ROUTE,)}, "KindMissing"),
        ({"config": replace(CONFIG, errors=(("r1", "x"),))}, "ConfigRefused"),
        ({"storage": Workload(1, 1, 0, 1, settled=True)}, "StorageNotReady"),
    ],
)
def test_what_else_degrades(facts: dict[str, Any], reason: str) -> None:
    degraded = judge(**facts)["Degraded"]
    assert (degraded.status, degraded.reason) == ("True", reason)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"problems": ("spec.replicas: must be 1 or more",)}, "InvalidSpec"),
        ({"refusals": (DENIED,)}, "PermissionMissing"),
        ({"pods": replace(ROLLING, deadline_exceeded=True)}, "RolloutStuck"),
    ],
)
def test_what_does_not_go_on_by_itself_is_stalled(facts: dict[str, Any], reason: str) -> None:
    stalled = judge(**facts)["Stalled"]
    assert (stalled.status, stalled.reason) == ("True", reason)


@pytest.mark.parametrize(
    "facts",
    [
        {"pods": ROLLING},
        {"refusals": (NO_ROUTE,)},
        {"refusals": (Refusal("ApplyFailed", "x"),)},
        {"missing": ("the PropertySet linux does not exist",)},
    ],
)
def test_what_waits_or_can_be_done_without_is_not_stalled(facts: dict[str, Any]) -> None:
    assert judge(**facts)["Stalled"].status == "False"


def test_nothing_is_said_of_what_was_not_looked_at() -> None:
    verdicts = scheduler_verdicts(SchedulerFacts(problems=("spec: x",)))
    assert [verdict.type for verdict in verdicts] == ["Ready", "Stalled"]


def test_a_property_set_tells_who_uses_it() -> None:
    ready, stalled = property_set_verdicts([], ["b", "a"])
    assert (ready.status, ready.reason, ready.message) == ("True", "Valid", "used by a, b")
    assert stalled.status == "False"
    assert "spec.propertySetRef" in property_set_verdicts([], [])[0].message


def test_a_property_set_that_is_invalid_says_what_stays_in_force() -> None:
    ready, stalled = property_set_verdicts(["spec.dynamic: x"], ["a"])
    assert (ready.status, ready.reason, stalled.status) == ("False", "InvalidSpec", "True")
    assert "Schedulers keep the content before" in ready.message
