"""Many Schedulers and many edits of what they share: few calls, no more memory, and nothing at rest.

SCALE says how many Schedulers. Each test prints its figures (pytest -rP).
"""

import os
from collections.abc import Iterator
from contextlib import closing

import pytest
import yaml
from buildgrid_operator.cluster.client import Client

from tests.cluster.operator.conftest import MINIMAL, Start
from tests.cluster.operator.cost import MEBIBYTE, measured
from tests.cluster.operator.crowd import Crowd, CrowdFleet
from tests.cluster.operator.processes import Operator

SIZE = int(os.environ.get("SCALE", "20"))
SETS = max(2, SIZE // 20)
EDITS = 5 * SIZE
ROUNDS = 5
PATIENCE = 100.0 + 2 * SIZE
"""seconds that a phase may take"""
pytestmark = [pytest.mark.alone, pytest.mark.timeout(3 * PATIENCE + 200)]


@pytest.fixture(scope="module")
def fleet(client: Client, namespace: str) -> Iterator[CrowdFleet]:
    """Of all Schedulers in the namespace."""
    with closing(CrowdFleet(client, namespace)) as played:
        yield played


@pytest.fixture(scope="module")
def crowd(client: Client, namespace: str, start_operator: Start) -> Crowd:
    """Not there yet."""
    return Crowd(client, namespace, yaml.safe_load(MINIMAL.read_text()), size=SIZE, sets=SETS)


def test_the_first_apply_of_many_is_so_many_calls_for_each(crowd: Crowd, operator: Operator) -> None:
    with measured(operator) as cost:
        crowd.create()
        crowd.settles(timeout=PATIENCE)
    print(cost.show(f"first apply of {SIZE} Schedulers", SIZE))
    # 13 objects: a look whether somebody has the name, and an apply. Two pods that are told of their
    # configuration, and a status as long as they come up, with events.
    assert cost.calls.total() <= 60 * SIZE


def test_at_rest_it_calls_nobody(crowd: Crowd, operator: Operator) -> None:
    operator.comes_to_rest(SIZE, PATIENCE)
    with measured(operator) as cost:
        operator.passes_again(3 * SIZE, PATIENCE, every=10.0)
    print(cost.show(f"{3 * SIZE} passes at rest", 3 * SIZE))
    assert cost.writes == 0
    # Its watches begin anew every five minutes.
    assert cost.reads <= 100


def test_one_edit_is_few_calls_and_reaches_all(crowd: Crowd, operator: Operator) -> None:
    with measured(operator) as cost:
        crowd.settles(crowd.edit_each(), PATIENCE)
    print(cost.show(f"an edit of all {SETS} PropertySets with {SIZE} Schedulers", SIZE))
    # A ConfigMap, a pod that is told of it, its status before and after, and the events of both.
    assert cost.writes <= 8 * SIZE + 4 * SETS


def test_many_edits_are_few_passes_and_cost_no_memory(crowd: Crowd, operator: Operator) -> None:
    memory = []
    for _ in range(ROUNDS):
        with measured(operator) as cost:
            crowd.settles(crowd.edit(EDITS // ROUNDS), PATIENCE)
        memory.append(cost.memory)
        print(cost.show(f"{EDITS // ROUNDS} edits", EDITS // ROUNDS))
        # However many edits: a Scheduler is looked at once a second.
        assert cost.writes <= 8 * SIZE * (cost.seconds + 1)
    operator.comes_to_rest(SIZE, PATIENCE)
    print("MiB after each round:", *(f"{each / MEBIBYTE:.1f}" for each in memory))
    assert memory[-1] - memory[0] <= 10 * MEBIBYTE
