"""Unfinished jobs by what they require of a bot."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.core.suspects import suspect_hash
from buildgrid_scheduler.fleet.requirements import RequirementCount, count_requirements
from buildgrid_scheduler.store.provider import SqlProvider
from sqlalchemy import text

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GPU, LINUX = {"Pool": ["gpu"]}, {"ISA": ["x86"], "OSFamily": ["linux"]}
_QUEUE = text("""
INSERT INTO queue (job_name, instance_name, requirement_hash, property_label, priority, queued_at,
                   avoid_class, avoid_until)
VALUES (:name, :instance, :hash, :label, 0, :queued_at, :avoid, now() + make_interval(mins => :avoid_for))
""")
_LEASE = text("""
INSERT INTO leases (job_name, instance_name, session_name, state, requirement_hash, property_label, priority,
                    queued_at)
VALUES (:name, :instance, 'session', :state, :hash, :label, 0, :queued_at)
""")
_REQUIREMENTS = text("""
INSERT INTO requirements (requirement_hash, requirements) VALUES (:hash, CAST(:requirements AS jsonb))
ON CONFLICT DO NOTHING
""")


class Jobs:
    """Puts jobs where they are when they wait or execute."""

    def __init__(self, provider: SqlProvider) -> None:
        self._provider = provider
        self._made = 0

    def add(
        self,
        requirements: dict[str, list[str]],
        *,
        state: int | None = None,
        instance: str = "",
        label: str = "label",
        minutes: int = 0,
        suspect: bool = False,
        avoid: str | None = None,
        avoid_for: int = 60,
    ) -> None:
        """`state`: of its lease; none: it waits, since `minutes`. `avoid_for`: minutes from now on."""
        self._made += 1
        hash_ = requirement_hash(requirements)
        values: dict[str, Any] = {
            "name": f"job-{self._made}",
            "instance": instance,
            "hash": suspect_hash(hash_) if suspect else hash_,
            "label": label,
            "queued_at": NOW - timedelta(minutes=minutes),
        }
        with self._provider.session() as session:
            session.execute(_REQUIREMENTS, {"hash": hash_, "requirements": json.dumps(requirements)})
            if state is None:
                session.execute(_QUEUE, {**values, "avoid": avoid, "avoid_for": avoid_for})
            else:
                session.execute(_LEASE, {**values, "state": state})

    def counts(self, *instances: str) -> list[RequirementCount]:
        """What is told of them."""
        with self._provider.session() as session:
            return list(count_requirements(session, instances))


def count(
    requirements: dict[str, list[str]], queued: int, executing: int, minutes: int | None, **options: str
) -> RequirementCount:
    oldest = None if minutes is None else NOW - timedelta(minutes=minutes)
    return RequirementCount(
        options.get("instance", ""),
        requirement_hash(requirements),
        requirements,
        options.get("label", "label"),
        queued,
        executing,
        oldest,
    )


def test_without_jobs_there_is_nothing(provider: SqlProvider) -> None:
    assert Jobs(provider).counts("", "other") == []


def test_jobs_are_counted_by_what_they_require_the_longest_wait_first(
    provider: SqlProvider,
) -> None:
    jobs = Jobs(provider)
    jobs.add(LINUX, minutes=1)
    jobs.add(GPU, minutes=5)
    jobs.add(GPU, minutes=2)
    jobs.add(GPU, state=1)
    jobs.add(LINUX, state=2)
    jobs.add(LINUX, state=2)
    assert jobs.counts("") == [count(GPU, 2, 1, 5), count(LINUX, 1, 2, 1)]


def test_jobs_that_only_execute_have_no_oldest_one(provider: SqlProvider) -> None:
    jobs = Jobs(provider)
    jobs.add(GPU, state=2)
    assert jobs.counts("") == [count(GPU, 0, 1, None)]


def test_a_cancelled_lease_is_no_work(provider: SqlProvider) -> None:
    jobs = Jobs(provider)
    jobs.add(GPU, state=5)
    assert jobs.counts("") == []


def test_suspects_require_what_others_do(provider: SqlProvider) -> None:
    jobs = Jobs(provider)
    jobs.add(GPU, minutes=3, suspect=True)
    jobs.add(GPU, minutes=1)
    jobs.add(GPU, state=2, suspect=True)
    assert jobs.counts("") == [count(GPU, 2, 1, 3)]


def test_jobs_that_avoid_a_class_are_counted_by_it_as_long_as_they_do(provider: SqlProvider) -> None:
    jobs = Jobs(provider)
    jobs.add(GPU, minutes=3)
    for number, avoid in ((2, "spot"), (1, "old")):
        for suspect in [True, False][:number]:
            jobs.add(GPU, avoid=avoid, suspect=suspect)
    jobs.add(GPU, avoid="spot", avoid_for=-1)
    jobs.add(LINUX, minutes=1)
    gpu, linux = jobs.counts("")
    assert (gpu.queued, gpu.avoidances) == (5, {"spot": 2, "old": 1})
    assert (linux.queued, linux.avoidances) == (1, {})


def test_instances_and_labels_are_told_apart(provider: SqlProvider) -> None:
    jobs = Jobs(provider)
    jobs.add(GPU, instance="a")
    jobs.add(GPU, instance="b")
    jobs.add(GPU, instance="b", label="other", minutes=1)
    assert jobs.counts("a") == [count(GPU, 1, 0, 0, instance="a")]
    assert jobs.counts("b") == [
        count(GPU, 1, 0, 1, instance="b", label="other"),
        count(GPU, 1, 0, 0, instance="b"),
    ]
    assert len(jobs.counts("a", "b")) == 3
