"""Which differences of two configurations a running server takes up."""

from pathlib import Path

import pytest
from buildgrid_scheduler.config.changes import Changes, changes, in_force

from tests.unit.config.files import load


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("", "", Changes()),
        ("", "listen: 127.0.0.1:50051", Changes()),
        ("", "listen: 127.0.0.1:1", Changes([], ["listen"])),
        ("", "scheduler: {max_queue_size: 3}", Changes(["scheduler.max_queue_size"], [])),
        ("", "logging: {level: debug, format: json}", Changes(["logging"], [])),
        ("", "property_set: {kind: static, labels: [{label: a}]}", Changes(["property_set"], [])),
        ("", "storage: {type: memory}", Changes([], ["storage"])),
        ("storage: {max_bytes: 1Gi}", "storage: {max_bytes: 2Gi}", Changes([], ["storage.max_bytes"])),
        (
            "scheduler: {max_job_attempts: 2, job_assignment_interval: 2}",
            "scheduler: {max_job_attempts: 3, job_assignment_interval: 3}\ninstances: [a]",
            Changes(["scheduler.max_job_attempts"], ["instances", "scheduler.job_assignment_interval"]),
        ),
    ],
)
def test_changes_are_named(tmp_path: Path, before: str, after: str, found: Changes) -> None:
    assert changes(load(tmp_path, before), load(tmp_path, after)) == found


def auth(issuer: str, right: str) -> str:
    return (
        f"auth: {{jwt: [{{issuer: {issuer}, audiences: [a], jwks: {{file: keys}}}}], "
        f"policy: [{{identities: [{{subject: '*'}}], rights: [{right}]}}]}}"
    )


def test_a_policy_is_taken_up(tmp_path: Path) -> None:
    before, after = load(tmp_path, auth("a", "execute")), load(tmp_path, auth("a", "administer"))
    assert changes(before, after) == Changes(["auth.policy"], [])
    assert in_force(before, after) == after


@pytest.mark.parametrize("changed", [auth("b", "administer"), ""])
def test_a_policy_waits_with_the_issuers_that_it_is_written_for(tmp_path: Path, changed: str) -> None:
    before, after = load(tmp_path, auth("a", "execute")), load(tmp_path, changed)
    assert changes(before, after) == Changes([], ["auth.jwt", "auth.policy"])
    assert in_force(before, after) == before


def test_what_is_in_force_has_the_reloadable_fields_of_the_new_and_the_others_of_the_old(
    tmp_path: Path,
) -> None:
    before = load(tmp_path, "listen: 127.0.0.1:1\nscheduler: {max_queue_size: 1, job_assignment_interval: 2}")
    after = load(tmp_path, "listen: 127.0.0.1:2\nscheduler: {max_queue_size: 2, job_assignment_interval: 3}")
    effective = in_force(before, after)
    assert effective.listen == "127.0.0.1:1"
    assert effective.scheduler.max_queue_size == 2
    assert effective.scheduler.job_assignment_interval == before.scheduler.job_assignment_interval
    # What takes effect at the next start is still different; nothing else is.
    assert changes(effective, after) == Changes([], ["listen", "scheduler.job_assignment_interval"])
