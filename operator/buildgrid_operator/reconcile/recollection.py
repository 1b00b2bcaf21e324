"""What was made last for each owner, with all that it was made of: a pass at rest only compares.

The key is the whole input, compared by value, and whoever makes the value gets nothing else. So what is
recalled is never older than what was read in this pass, and a restart only makes it anew. Objects of the
cache are replaced, never changed: comparing one with itself costs nothing.
"""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")
V = TypeVar("V")


def _always(value: object) -> bool:
    return True


class Recollection(Generic[T, V]):
    """The newest value of each owner. Threads may use it, each for another owner at a time."""

    def __init__(self, make: Callable[[T], V], *, worth: Callable[[V], bool] = _always) -> None:
        """`make` depends on nothing but its argument. `worth`: whether a value may be recalled."""
        self._make = make
        self._worth = worth
        self._known: dict[Hashable, tuple[T, V]] = {}

    def of(self, owner: Hashable, made_of: T) -> V:
        """The value for `made_of`, which must not change afterwards. Raises what `make` raises."""
        known = self._known.get(owner)
        if known is not None and (known[0] is made_of or known[0] == made_of):
            return known[1]
        # What is outdated goes first: also where this one cannot be made.
        self.forget(owner)
        value = self._make(made_of)
        if self._worth(value):
            self._known[owner] = made_of, value
        return value

    def forget(self, owner: Hashable) -> None:
        """The owner is gone."""
        self._known.pop(owner, None)
