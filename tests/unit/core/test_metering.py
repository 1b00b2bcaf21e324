"""What becomes of the actions of throttled clients."""

import pytest
from buildgrid_scheduler.core.errors import ResourceExhausted
from buildgrid_scheduler.core.metering import MeteringThrottleAction, needs_question, throttled_priority

WHO = ("main", "build", "bazel", "jo")
DEPRIORITIZE, REJECT = MeteringThrottleAction.DEPRIORITIZE, MeteringThrottleAction.REJECT


@pytest.mark.parametrize(("asked", "given"), [(-5, 1), (0, 1), (1, 1), (7, 7)])
def test_a_throttled_client_is_pushed_back_behind_the_default(asked: int, given: int) -> None:
    assert throttled_priority(DEPRIORITIZE, asked, WHO) == given


def test_a_throttled_client_is_refused_by_name() -> None:
    with pytest.raises(ResourceExhausted, match=r"client 'jo' .*actor 'bazel', workflow 'build'.* 'main'"):
        throttled_priority(REJECT, 7, WHO)


def test_a_client_that_stands_back_already_is_not_asked_about_unless_it_would_be_refused() -> None:
    assert needs_question(DEPRIORITIZE, 0)
    assert not needs_question(DEPRIORITIZE, 1)
    assert needs_question(REJECT, 1)
