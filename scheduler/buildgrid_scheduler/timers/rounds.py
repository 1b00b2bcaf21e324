"""Rounds made of short steps."""

from collections.abc import Callable, Iterator


def in_batches(handle: Callable[[int], int], *, at_once: int, window: int | None = None) -> Iterator[int]:
    """Handle `at_once` things a step, and `window` in all, until there are none left.

    `handle(n)` handles at most n and returns how many. Fewer than n: the rest, if there is any, is in the
    hands of other replicas just now.
    """
    left = window
    while left is None or left > 0:
        wanted = at_once if left is None else min(at_once, left)
        done = handle(wanted)
        yield done
        if done < wanted:
            return
        if left is not None:
            left -= done
