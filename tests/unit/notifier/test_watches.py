"""Those who follow a job hear of each change, of the end once, and of nothing after it."""

import asyncio

import pytest
from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.notifier.delivery import Delivery
from buildgrid_scheduler.notifier.watches import Watch, Watches

QUEUED, EXECUTING = JobState(Stage.QUEUED, "a/1"), JobState(Stage.EXECUTING, "a/1")
DONE, DONE_OTHERWISE = JobState(Stage.COMPLETED, "a/1", b"1"), JobState(Stage.COMPLETED, "a/1", b"2")


async def test_a_push_is_noticed_by_who_waits() -> None:
    watch = Watch("operation")
    watch.arm()
    watch.push(QUEUED)
    assert await watch.changed(10)
    assert watch.state == QUEUED


async def test_a_push_between_arming_and_waiting_is_not_missed() -> None:
    watch = Watch("operation")
    watch.arm()
    watch.push(QUEUED)
    watch.push(EXECUTING)
    assert await watch.changed(10)
    assert watch.state == EXECUTING


async def test_without_a_push_the_wait_ends_when_its_time_is_up() -> None:
    watch = Watch("operation")
    watch.arm()
    assert not await watch.changed(0.01)


async def test_who_did_not_arm_the_watch_is_told() -> None:
    with pytest.raises(RuntimeError, match="arm"):
        await Watch("operation").changed(0)


async def test_the_same_state_again_wakes_nobody() -> None:
    watch = Watch("operation")
    watch.push(EXECUTING)
    watch.arm()
    watch.push(JobState(Stage.EXECUTING, "a/1"))
    assert not await watch.changed(0.01)


@pytest.mark.parametrize("late", [QUEUED, EXECUTING, DONE_OTHERWISE, None])
async def test_completed_is_final(late: JobState | None) -> None:
    watch = Watch("operation")
    watch.push(DONE)
    watch.arm()
    watch.push(late)
    assert watch.state == DONE
    assert not watch.stale
    assert not await watch.changed(0.01)


async def test_an_untold_change_makes_the_watch_stale_whatever_is_told_next() -> None:
    watch = Watch("operation")
    watch.push(QUEUED)
    watch.arm()
    watch.push(None)
    assert await watch.changed(10)
    assert (watch.state, watch.stale) == (QUEUED, True)
    watch.push(EXECUTING)
    assert (watch.state, watch.stale) == (EXECUTING, True), "what was not told may be newer"


async def test_closing_wakes_who_waits() -> None:
    watches, watch = Watches(), Watch("operation")
    watches.add("job", watch)
    watch.arm()
    delivery = Delivery()
    watches.close_all(delivery)
    delivery.flush()
    assert await watch.changed(10)
    assert watch.closed


async def test_only_those_who_follow_a_job_hear_of_it_in_order() -> None:
    watches = Watches()
    mine, also_mine, other = Watch("a"), Watch("b"), Watch("c")
    watches.add("job", mine)
    watches.add("job", also_mine)
    watches.add("another", other)
    delivery = Delivery()
    for state in (QUEUED, EXECUTING, DONE, QUEUED):
        watches.publish("job", state, delivery)
    watches.publish("unknown", DONE, delivery)
    delivery.flush()
    await asyncio.sleep(0)
    assert mine.state == also_mine.state == DONE
    assert other.state is None


async def test_who_stopped_following_hears_nothing() -> None:
    watches, watch = Watches(), Watch("a")
    watches.add("job", watch)
    assert watches.jobs == 1
    watches.discard("job", watch)
    watches.discard("job", watch)
    assert watches.jobs == 0
    delivery = Delivery()
    watches.publish("job", DONE, delivery)
    delivery.flush()
    await asyncio.sleep(0)
    assert watch.state is None


@pytest.mark.parametrize(("jobs", "stale"), [(None, [True, True]), (["one", "unknown"], [True, False])])
async def test_that_jobs_may_have_changed_reaches_those_who_follow_them(
    jobs: list[str] | None, stale: list[bool]
) -> None:
    watches, one, two = Watches(), Watch("a"), Watch("b")
    watches.add("one", one)
    watches.add("two", two)
    delivery = Delivery()
    watches.publish_all_stale(jobs, delivery)
    delivery.flush()
    await asyncio.sleep(0)
    assert [one.stale, two.stale] == stale


async def test_the_operations_that_are_followed_are_those_not_known_to_be_done() -> None:
    watches = Watches()
    new, running, done, gone = Watch("new"), Watch("running"), Watch("done"), Watch("gone")
    for watch, state in ((new, None), (running, EXECUTING), (done, DONE), (gone, EXECUTING)):
        watches.add("job", watch)
        if state is not None:
            watch.push(state)
    also = Watch("also")
    watches.add("another", also)
    watches.drop(gone)
    assert sorted(watches.operations()) == ["also", "new", "running"]


async def test_a_thousand_watches_cost_objects_and_not_tasks() -> None:
    before = len(asyncio.all_tasks())
    watches = Watches()
    for n in range(1000):
        watches.add(f"job {n}", Watch(str(n)))
    assert len(asyncio.all_tasks()) == before
