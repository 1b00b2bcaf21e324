"""When the bot calls, and how long it lets a call be."""

from buildgrid_bot.pacing import HEARTBEAT, heartbeat_within, patience, pause_after_answer


def test_a_full_bot_that_is_not_held_asks_at_its_heartbeat() -> None:
    assert pause_after_answer(full=True, new_work=False, empty_answers=1, heartbeat=7) == 7


def test_a_full_bot_lets_itself_be_held_once_its_work_turns_out_to_be_long() -> None:
    assert 0 < pause_after_answer(full=True, new_work=True, empty_answers=0, heartbeat=7) < 1
    assert pause_after_answer(full=True, new_work=True, empty_answers=0, heartbeat=0.1) == 0.1
    assert pause_after_answer(full=True, new_work=False, empty_answers=0, heartbeat=7) == 0


def test_a_free_slot_polls_at_once() -> None:
    assert pause_after_answer(full=False, new_work=False, empty_answers=0) == 0
    assert pause_after_answer(full=False, new_work=False, empty_answers=1) == 0


def test_a_server_that_does_not_hold_calls_is_not_flooded() -> None:
    pauses = [
        pause_after_answer(full=False, new_work=False, empty_answers=count, heartbeat=5)
        for count in range(2, 12)
    ]
    assert pauses == sorted(pauses)
    assert pauses[0] == 0.1 and pauses[-1] == 5


def test_patience_grows_until_any_call_gets_through() -> None:
    assert patience(0) < 0.05
    assert patience(5) > 0.2
    assert patience(1000) == 2.0


def test_a_full_bot_calls_three_times_before_a_short_session_ends() -> None:
    assert heartbeat_within(600) == HEARTBEAT
    assert heartbeat_within(6) == 2
    assert heartbeat_within(-100) == 0.5, "clocks that disagree do not make it spin"
