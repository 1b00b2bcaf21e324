"""The ambient instance, and names on the wire."""

import asyncio
import threading

import pytest
from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.core.instance import current_instance, instance_context, qualified, split_qualified


def test_outside_a_context_there_is_no_instance() -> None:
    with pytest.raises(InvalidArgument, match="instance_context"):
        current_instance()


def test_the_innermost_context_counts_and_ends() -> None:
    with instance_context("outer/a"):
        with instance_context(""):
            assert current_instance() == ""
        assert current_instance() == "outer/a"
    with pytest.raises(InvalidArgument):
        current_instance()


def test_a_context_ends_when_the_block_fails() -> None:
    with pytest.raises(RuntimeError), instance_context("a"):
        raise RuntimeError
    with pytest.raises(InvalidArgument):
        current_instance()


def test_threads_have_contexts_of_their_own() -> None:
    seen: list[str] = []

    def act() -> None:
        try:
            current_instance()
        except InvalidArgument:
            seen.append("none")

    with instance_context("a"):
        thread = threading.Thread(target=act)
        thread.start()
        thread.join()
    assert seen == ["none"]


async def test_coroutines_have_contexts_of_their_own() -> None:
    async def act(name: str) -> str:
        with instance_context(name):
            await asyncio.sleep(0)
            return current_instance()

    assert await asyncio.gather(*(act(name) for name in "abc")) == ["a", "b", "c"]


@pytest.mark.parametrize(("instance", "wire"), [("", "n"), ("a", "a/n"), ("a/b", "a/b/n")])
def test_names_on_the_wire_hold_the_instance(instance: str, wire: str) -> None:
    assert qualified(instance, "n") == wire
    assert split_qualified(wire) == (instance, "n")
