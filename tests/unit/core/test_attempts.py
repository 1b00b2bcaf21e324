"""How often a job is tried."""

from datetime import timedelta

import pytest
from buildgrid_scheduler.core.attempts import (
    RETRYABLE_STATUS_CODES,
    AttemptLimits,
    Tries,
    after_failed_attempt,
    after_lost_lease,
    becomes_suspect,
    pause_of_bot,
)
from google.rpc import code_pb2

LIMITS = AttemptLimits(max_job_attempts=3, max_infra_attempts=4)


@pytest.mark.parametrize("code", range(17))
def test_only_what_the_farm_may_mend_is_tried_again(code: int) -> None:
    again = after_failed_attempt(code, Tries(), LIMITS)
    if code in (code_pb2.INTERNAL, code_pb2.UNAVAILABLE):
        assert again == Tries(2, 0)
    else:
        assert again is None
    assert set(RETRYABLE_STATUS_CODES) == {code_pb2.INTERNAL, code_pb2.UNAVAILABLE}


def test_a_failing_job_is_tried_as_often_as_the_limit_says_and_no_more() -> None:
    tries, attempts = Tries(), 1
    while (again := after_failed_attempt(14, tries, LIMITS)) is not None:
        tries, attempts = again, attempts + 1
    assert attempts == tries.n_tries == 3


def test_with_a_limit_of_one_nothing_is_tried_again() -> None:
    limits = AttemptLimits(max_job_attempts=1)
    assert after_failed_attempt(14, Tries(), limits) is None
    assert after_lost_lease(started=True, announced=False, tries=Tries(), limits=limits) is None


@pytest.mark.parametrize(
    ("started", "announced", "counts"),
    [(True, False, True), (True, True, False), (False, False, False), (False, True, False)],
    ids=[
        "vanished while it ran",
        "ran, but said that it goes",
        "never started",
        "never started, and said so",
    ],
)
def test_only_a_bot_that_vanished_while_it_ran_counts_as_a_try(
    started: bool, announced: bool, counts: bool
) -> None:
    again = after_lost_lease(started=started, announced=announced, tries=Tries(1, 1), limits=LIMITS)
    assert again == (Tries(2, 1) if counts else Tries(1, 2))


def test_losses_of_either_kind_have_their_own_bound() -> None:
    tries, leases = Tries(), 1
    while (again := after_lost_lease(started=False, announced=False, tries=tries, limits=LIMITS)) is not None:
        tries, leases = again, leases + 1
    assert leases == 4
    assert tries.n_tries == 1
    assert after_lost_lease(started=True, announced=False, tries=tries, limits=LIMITS) == Tries(2, 3)
    assert after_lost_lease(started=False, announced=True, tries=Tries(3, 0), limits=LIMITS) == Tries(3, 1)


def test_an_attempt_is_counted_against_one_of_both() -> None:
    assert Tries(2, 1).counted_since(Tries(1, 1)) == "try"
    assert Tries(1, 2).counted_since(Tries(1, 1)) == "infra"


@pytest.mark.parametrize("vanished", [True, False])
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("capacity", [1, 2, 64])
def test_only_what_ran_on_a_bot_with_several_slots_that_vanished_is_suspected(
    started: bool, announced: bool, vanished: bool, capacity: int
) -> None:
    suspected = becomes_suspect(started=started, announced=announced, vanished=vanished, capacity=capacity)
    assert suspected is (started and vanished and not announced and capacity > 1)


def test_the_pause_of_a_bot_that_could_not_do_a_job_doubles_up_to_a_minute() -> None:
    pauses = [pause_of_bot(Tries(tries)) / timedelta(seconds=1) for tries in (2, 3, 4, 5, 6, 7, 8, 9, 10**6)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
