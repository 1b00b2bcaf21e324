"""A round takes batch after batch, never more than its window."""

import pytest
from buildgrid_scheduler.timers.rounds import in_batches


class Pile:
    """Things to be handled."""

    def __init__(self, height: int) -> None:
        self.height = height
        self.asked: list[int] = []

    def take(self, number: int) -> int:
        self.asked.append(number)
        taken = min(number, self.height)
        self.height -= taken
        return taken


@pytest.mark.parametrize(
    ("height", "window", "asked", "left"),
    [
        (0, None, [10], 0),
        (25, None, [10, 10, 10], 0),
        (20, None, [10, 10, 10], 0),
        (100, 25, [10, 10, 5], 75),
        (100, 10, [10], 90),
        (100, 3, [3], 97),
        (12, 25, [10, 10], 0),
    ],
)
def test_batches_end_with_the_pile_or_with_the_window(
    height: int, window: int | None, asked: list[int], left: int
) -> None:
    pile = Pile(height)
    assert sum(in_batches(pile.take, at_once=10, window=window)) == height - left
    assert pile.asked == asked


def test_a_batch_is_taken_only_when_it_is_drawn() -> None:
    pile = Pile(100)
    batches = in_batches(pile.take, at_once=10)
    assert not pile.asked
    assert next(batches) == 10
    assert pile.asked == [10]
