"""Puts work on slots: every group on fleets that serve it, cheap slots first, nothing twice."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_NOTHING = 1e-9
"""slots; less than this is a rounding error"""


@dataclass(frozen=True, slots=True)
class Group:
    """Work that the same fleets serve, in slots."""

    amount: float
    fleets: frozenset[str]


@dataclass(frozen=True, slots=True)
class Tier:
    """Slots of a fleet that are alike."""

    fleet: str
    slots: float


@dataclass(frozen=True, slots=True)
class Allocation:
    """All in the order that tiers and groups were given."""

    filled: tuple[float, ...]
    """what is put on each tier"""
    placed: tuple[Mapping[str, float], ...]
    """of each group, by fleet"""
    left: tuple[float, ...]
    """of each group"""


def allocate(groups: Sequence[Group], tiers: Iterable[Tier]) -> Allocation:
    """As much as can be, on the earliest tiers that allow it.

    Tier after tier takes all that it can, where work that is on an earlier fleet moves when that makes room.
    No tier ever loses what it took, and which groups a tier may have depends on its fleet alone: so the sum
    is the greatest there is, and each beginning of the list of tiers is used as much as possible.
    """
    flow = _Flow(groups)
    filled = [flow.add(tier) for tier in tiers]
    return Allocation(tuple(filled), tuple(flow.on), tuple(max(0.0, left) for left in flow.left))


class _Flow:
    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        self.left = [group.amount for group in groups]
        self.on: list[dict[str, float]] = [{} for _ in groups]

    def add(self, tier: Tier) -> float:
        """What the tier takes."""
        room = tier.slots
        while room > _NOTHING:
            path = self._path_to(tier.fleet)
            if path is None:
                break
            room -= self._move(path, room)
        return tier.slots - max(0.0, room)

    def _path_to(self, fleet: str) -> list[tuple[int, str]] | None:
        """The shortest chain of moves (group, to fleet) that brings more work to the fleet.

        The first move is to it; each other one fills what the move before vacates; the last one's group has
        work left.
        """
        reached: dict[str, tuple[int, str] | None] = {fleet: None}  # by which move it loses work, and to whom
        waiting = deque([fleet])
        while waiting:
            target = waiting.popleft()
            for number, group in enumerate(self._groups):
                if target not in group.fleets:
                    continue
                if self.left[number] > _NOTHING:
                    return self._chain(reached, (number, target))
                for other, amount in self.on[number].items():
                    if amount > _NOTHING and other not in reached:
                        reached[other] = (number, target)
                        waiting.append(other)
        return None

    def _chain(
        self, reached: dict[str, tuple[int, str] | None], last: tuple[int, str]
    ) -> list[tuple[int, str]]:
        chain = [last]
        move = reached[last[1]]
        while move is not None:
            chain.append(move)
            move = reached[move[1]]
        return chain[::-1]

    def _move(self, path: list[tuple[int, str]], room: float) -> float:
        """As much as fits through all moves of the chain."""
        vacated = [later[1] for later in path[1:]]
        amount = min(room, self.left[path[-1][0]])
        for (number, _), origin in zip(path[:-1], vacated, strict=True):
            amount = min(amount, self.on[number][origin])
        for (number, target), origin in zip(path[:-1], vacated, strict=True):
            self.on[number][origin] -= amount
            self._put(number, target, amount)
        number, target = path[-1]
        self.left[number] -= amount
        self._put(number, target, amount)
        return amount

    def _put(self, number: int, target: str, amount: float) -> None:
        self.on[number][target] = self.on[number].get(target, 0.0) + amount
