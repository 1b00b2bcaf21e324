"""Which key comes next, and when. The random number is 0.5: without jitter."""

from datetime import timedelta

import pytest
from buildgrid_operator.reconcile.key_states import KeyStates, Pace

PACE = Pace()


def states(pace: Pace = PACE, random: float = 0.5) -> KeyStates[str]:
    return KeyStates(pace, lambda: random)


def taken(queue: KeyStates[str], now: float) -> list[str]:
    keys = []
    while (key := queue.take(now)) is not None:
        keys.append(key)
    return keys


def test_a_change_is_looked_at_once_it_has_settled() -> None:
    queue = states()
    queue.add("a", 10.0)
    assert queue.take(10.05) is None
    assert queue.next_due() == pytest.approx(10.1)
    assert queue.take(10.1) == "a"


def test_a_hundred_changes_at_once_are_one_pass() -> None:
    queue = states()
    for number in range(100):
        queue.add("a", number / 1000)
    assert taken(queue, 0.11) == ["a"]


def test_changes_that_never_end_do_not_put_a_pass_off() -> None:
    queue = states()
    for number in range(11):
        queue.add("a", number / 100)
    assert queue.take(0.1) == "a"


def test_a_change_during_a_pass_is_looked_at_after_it_and_not_at_the_same_time() -> None:
    queue = states()
    queue.add("a", 0.0)
    assert queue.take(1.0) == "a"
    queue.add("a", 1.5)
    queue.add("a", 1.6)
    assert queue.take(9.0) is None
    queue.succeeded("a", 9.0)
    assert taken(queue, 9.1) == ["a"]


def test_passes_of_a_key_keep_their_distance() -> None:
    queue = states()
    passes = 0
    for tenth in range(100):
        queue.add("a", tenth / 10)
        if queue.take(tenth / 10) is not None:
            passes += 1
            queue.succeeded("a", tenth / 10)
    assert passes == 10


def test_keys_come_in_the_order_in_which_they_fell_due() -> None:
    queue = states()
    for number, key in enumerate("cab"):
        queue.add(key, float(number))
    assert taken(queue, 10.0) == ["c", "a", "b"]


def test_a_failing_key_comes_again_after_1_s_doubling_to_5_min() -> None:
    queue = states()
    queue.add("a", 0.0)
    now, waits = 1.0, []
    for _ in range(11):
        assert queue.take(now) == "a"
        waits.append(queue.failed("a", now))
        assert queue.take(now + waits[-1] - 0.01) is None
        now += waits[-1]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


def test_a_success_forgets_the_failures() -> None:
    queue = states()
    queue.add("a", 0.0)
    for now in (1.0, 2.0):
        queue.take(now)
        queue.failed("a", now)
    assert queue.take(4.0) == "a"
    queue.succeeded("a", 4.0)
    queue.add("a", 10.0)
    assert queue.take(11.0) == "a"
    assert queue.failed("a", 11.0) == 1


def test_others_do_not_wait_for_a_failing_key() -> None:
    queue = states()
    queue.add("bad", 0.0)
    assert queue.take(1.0) == "bad"
    retry = 1.0 + queue.failed("bad", 1.0)
    queue.add("good", 1.0)
    assert taken(queue, retry - 0.1) == ["good"]
    assert taken(queue, retry) == ["bad"]


def test_an_edit_of_a_failing_key_is_tried_at_once_but_not_in_a_loop() -> None:
    queue = states()
    queue.add("a", 0.0)
    now = 1.0
    for _ in range(9):
        queue.take(now)
        now += queue.failed("a", now)
    assert queue.take(now) == "a"
    assert queue.failed("a", now) == 300
    queue.add("a", now + 0.2)
    assert queue.take(now + 0.9) is None
    assert queue.take(now + 1.0) == "a"


def test_the_api_servers_wish_for_a_pause_is_kept_to() -> None:
    queue = states()
    queue.add("a", 0.0)
    queue.take(1.0)
    queue.add("a", 1.0)
    assert queue.failed("a", 1.0, not_before=30.0) == 30
    assert queue.take(30.9) is None
    assert queue.take(31.0) == "a"


def test_every_key_comes_again_after_ten_minutes() -> None:
    queue = states()
    queue.add("a", 0.0)
    queue.take(1.0)
    queue.succeeded("a", 1.0)
    assert queue.take(600.9) is None
    assert queue.take(601.0) == "a"


def test_a_pass_can_ask_to_come_again_sooner_but_not_later() -> None:
    queue = states()
    queue.add("a", 0.0)
    queue.take(1.0)
    queue.succeeded("a", 1.0, again_after=10.0)
    assert queue.take(11.0) == "a"
    queue.succeeded("a", 11.0, again_after=10_000.0)
    assert queue.take(611.0) == "a"


@pytest.mark.parametrize(
    ("random", "low", "high"), [(0.0, 540, 540), (0.999999, 659.99, 660), (0.5, 600, 600)]
)
def test_resyncs_are_spread(random: float, low: float, high: float) -> None:
    assert low <= PACE.resync_after(random) <= high


def test_backoff_is_spread_and_never_overflows() -> None:
    assert PACE.backoff_after(1, 0.0) == pytest.approx(0.9)
    assert PACE.backoff_after(10**6, 0.5) == 300


def test_a_key_that_is_gone_never_comes_again_unless_it_changed_meanwhile() -> None:
    queue = states()
    for key in ("a", "b"):
        queue.add(key, 0.0)
    assert taken(queue, 1.0) == ["a", "b"]
    queue.add("b", 1.0)
    queue.gone("a", 1.0)
    queue.gone("b", 1.0)
    assert taken(queue, 10_000.0) == ["b"]
    assert queue.figures(1.0).known == 1


def test_add_after_never_puts_a_key_off() -> None:
    queue = states()
    queue.add("a", 0.0)
    queue.add_after("a", 100.0, 0.0)
    assert queue.take(1.0) == "a"


def test_figures_tell_what_waits_and_for_how_long() -> None:
    queue = states()
    for number, key in enumerate("abcd"):
        queue.add(key, float(number))
    queue.take(5.0)
    queue.failed("a", 5.0)
    queue.take(5.0)
    figures = queue.figures(7.0)
    assert (figures.waiting, figures.running, figures.failing, figures.known) == (2, 1, 1, 4)
    assert figures.oldest_seconds == 5.0


def test_a_busy_key_does_not_grow_the_memory() -> None:
    queue = states(Pace(spacing=timedelta(0), settle=timedelta(0)))
    for number in range(5000):
        queue.add("a", float(number))
        queue.take(float(number))
        queue.succeeded("a", float(number))
    assert len(queue._due) < 100
