"""Two bots with one bot_id: one of them gives up, and only one."""

import pytest
from buildgrid_bot.pacing import LostSessions
from buildgrid_bot.takeover import MOST, SOON, Takeover, Takeovers


def test_what_is_wrong_is_named_with_the_other_bot_and_the_remedy() -> None:
    text = str(Takeover("pod-1", "10.0.0.7:4711"))
    assert text == "another bot uses --bot-id pod-1 (from 10.0.0.7:4711); give each bot one of its own"
    assert "from" not in str(Takeover("pod-1", ""))


def fight(*lasted: float) -> int:
    """Bots open sessions in turn until one is left; `lasted`: the first session of each, so long. Who is."""
    counts, first = [Takeovers() for _ in lasted], list(lasted)
    alive = list(range(len(lasted)))
    holder = alive[0]
    for _ in range(100):
        challenger = alive[(alive.index(holder) + 1) % len(alive)]
        if counts[holder].happened(first[holder]):
            alive.remove(holder)
        first[holder], holder = 0.5, challenger
        if len(alive) == 1:
            return alive[0]
    raise AssertionError("nobody gives up")


@pytest.mark.parametrize("bots", [2, 3, 5])
def test_of_bots_that_start_together_one_is_left(bots: int) -> None:
    assert fight(*[0.5] * bots) in range(bots)


def test_a_bot_that_was_there_before_outlasts_a_newcomer() -> None:
    assert fight(SOON + 1, 0.5) == 0
    assert fight(0.5, 0.5) == 1


def test_only_sessions_that_did_not_last_count() -> None:
    takeovers = Takeovers()
    assert not any(takeovers.happened(SOON) for _ in range(10))
    ends = [takeovers.happened(SOON - 1) for _ in range(MOST)]
    assert ends == [False] * (MOST - 1) + [True]


def test_the_rest_after_lost_sessions_grows_until_one_has_lasted() -> None:
    lost = LostSessions(rand=lambda: 1.0)
    rests = [lost.rest(0.0) for _ in range(10)]
    assert rests == sorted(rests)
    assert rests[0] == 0.2 and rests[-1] == 30.0
    assert lost.rest(100.0) == 0.2
