"""How long pods take to come up, which do not, and for how long none is made then."""

from datetime import datetime, timedelta

import pytest
from buildgrid_operator.cluster.fleet_state import Mark, Session
from buildgrid_operator.fleets.bots import moments_of
from buildgrid_operator.fleets.starting import (
    FAIR_CHANCE,
    USUAL_START,
    StartMemory,
    accepted,
    failed_starts,
    failing,
    held,
    refused,
    remember,
    start_time,
)
from buildgrid_operator.fleets.views import PodView, StartTrouble

from tests.unit.operator.fleets.seen import (
    NEW,
    NOON,
    OLD,
    UNSCHEDULABLE,
    ago,
    bot_fleet,
    fleet_view,
    look,
    mark,
    seconds,
    seen_pod,
    session,
    waiting,
)

Part = PodView | Session | Mark
TIMEOUT = timedelta(minutes=10)
NO_IMAGE = waiting("ImagePullBackOff", "not found")
CRASHED = {"terminated": {"exitCode": 1}}


def after(memory: StartMemory, now: datetime, *parts: Part) -> StartMemory:
    """After a look."""
    fleet = bot_fleet(startup={"timeout": "10m"})
    view = fleet_view(*parts, fleet=fleet, registered=memory.registered, since=memory.since, now=now)
    return remember(memory, view, now)


def later(count: float) -> datetime:
    return NOON + seconds(count)


# --- start times


def started(memory: StartMemory, number: int, took: float) -> StartMemory:
    memory = after(memory, NOON, seen_pod(number))
    return after(memory, later(took), seen_pod(number), session(number, connected=later(took)))


def test_a_start_is_as_long_as_usual_until_one_was_measured() -> None:
    assert start_time(StartMemory()) == USUAL_START
    assert start_time(StartMemory(), before=seconds(12)) == seconds(12)


def test_it_lasts_from_the_pods_creation_until_its_session() -> None:
    assert start_time(started(StartMemory(), 1, 45), before=seconds(12)) == seconds(45)


def test_the_median_of_the_latest_ones_counts() -> None:
    memory = StartMemory()
    for number in range(30):
        memory = started(memory, number, 600)
    for number, took in enumerate([20, 30, 40, 20, 30, 40, 30, 30, 30, 500], 30):
        memory = started(memory, number, took)
    assert start_time(memory) == seconds(30)


def test_bots_that_came_up_before_the_operator_did_tell_nothing() -> None:
    """Their session may be a second one."""
    memory = after(StartMemory(), NOON, seen_pod(created=ago(3600)), session(connected=NOON))
    assert memory.starts == ()
    assert memory.registered == {"uid-1"}


def test_a_session_that_was_lost_and_opened_again_is_no_start() -> None:
    memory = started(StartMemory(), 1, 5)
    memory = after(memory, later(60), seen_pod())
    memory = after(memory, later(90), seen_pod(), session(connected=later(90)))
    assert memory.starts == (seconds(5),)


def test_pods_that_are_gone_are_forgotten() -> None:
    memory = after(started(StartMemory(), 1, 5), later(60))
    assert (memory.registered, dict(memory.since), memory.failed) == (frozenset(), {}, frozenset())


# --- what does not come up


def failures(
    *parts: Part, age: timedelta, registered: tuple[str, ...] = ()
) -> list[tuple[str, StartTrouble]]:
    """Of pods that are as they are for so long."""
    before, _ = look(*parts, registered=registered, now=NOON - age)
    bots, _ = look(*parts, registered=registered, since=moments_of(before), now=NOON)
    return [(each.bot.pod.name, each.trouble) for each in failed_starts(bots, TIMEOUT, NOON)]


def test_an_image_that_cannot_be_pulled_gets_a_fair_chance() -> None:
    pod = seen_pod(phase="Pending", container=NO_IMAGE, created=ago(3600))
    assert failures(pod, age=FAIR_CHANCE - seconds(1)) == []
    assert failures(pod, age=FAIR_CHANCE) == [("linux-1", StartTrouble.IMAGE_PULL)]


def test_a_container_that_cannot_start_likewise() -> None:
    pod = seen_pod(phase="Pending", container=waiting("CreateContainerConfigError"), created=ago(3600))
    assert failures(pod, age=FAIR_CHANCE) == [("linux-1", StartTrouble.CONTAINER)]


def test_a_pod_that_ended_without_a_session_crashed_whatever_it_said() -> None:
    failed, succeeded = seen_pod(1, phase="Failed", container=CRASHED), seen_pod(2, phase="Succeeded")
    assert failures(failed, succeeded, age=seconds(0)) == [
        ("linux-1", StartTrouble.CRASH),
        ("linux-2", StartTrouble.CRASH),
    ]


def test_one_that_had_a_session_did_not() -> None:
    assert failures(seen_pod(phase="Failed"), age=TIMEOUT * 2, registered=("uid-1",)) == []
    assert failures(seen_pod(), age=TIMEOUT * 2, registered=("uid-1",)) == []


def test_a_missing_session_counts_from_when_the_pod_has_a_node() -> None:
    waited = {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-24T11:50:01Z"}
    assert failures(seen_pod(created=ago(86400), conditions=[waited]), age=timedelta(days=1)) == []
    waited["lastTransitionTime"] = "2026-11-24T11:50:00Z"
    assert failures(seen_pod(created=ago(86400), conditions=[waited]), age=timedelta(days=1)) == [
        ("linux-1", StartTrouble.NEVER_REGISTERED)
    ]


def test_waiting_for_a_node_is_no_failure_however_long() -> None:
    pod = seen_pod(phase="Pending", node=None, conditions=[UNSCHEDULABLE], created=ago(86400))
    assert failures(pod, age=timedelta(days=1)) == []


@pytest.mark.parametrize("ending", [{"ending": True}, {"deleted": True}], ids=str)
def test_one_that_ends_has_no_chance_to_come_up(ending: dict[str, bool]) -> None:
    assert failures(seen_pod(created=ago(3600), **ending), age=TIMEOUT * 2) == []


# --- backoff


def crash(memory: StartMemory, number: int, now: datetime, template: str = NEW) -> StartMemory:
    pod = seen_pod(number, phase="Failed", container=CRASHED, created=now, template=template)
    return after(memory, now, pod)


def known() -> StartMemory:
    return after(StartMemory(), ago(60))


def test_after_a_failure_no_pod_is_made_for_ten_seconds() -> None:
    memory = crash(known(), 1, NOON)
    backoff = held(memory, NEW, later(9))
    assert backoff is not None
    assert (backoff.trouble, backoff.until) == (StartTrouble.CRASH, later(10))
    assert "exit code 1" in backoff.words
    assert held(memory, NEW, later(10)) is None
    assert failing(memory, NEW) == backoff


def test_a_failure_counts_once_while_its_pod_is_still_there() -> None:
    memory = crash(known(), 1, NOON)
    again = after(memory, later(30), seen_pod(1, phase="Failed", container=CRASHED))
    assert again.backoffs == memory.backoffs


def test_pods_that_were_made_together_fail_together() -> None:
    pods = [seen_pod(number, phase="Failed", container=CRASHED) for number in range(9)]
    memory = after(known(), later(1), *pods[:4], *(seen_pod(number) for number in range(4, 9)))
    memory = after(memory, later(5), *pods)
    assert memory.backoffs[StartTrouble.CRASH].until == later(11)


def test_it_doubles_up_to_five_minutes() -> None:
    memory, now, delays = known(), NOON, []
    for number in range(8):
        memory = crash(memory, number, now)
        backoff = memory.backoffs[StartTrouble.CRASH]
        delays.append(backoff.delay.total_seconds())
        now = backoff.until
    assert delays == [10, 20, 40, 80, 160, 300, 300, 300]


def test_a_bot_that_registers_ends_it() -> None:
    memory = crash(known(), 1, NOON)
    memory = after(memory, later(5), seen_pod(2, created=later(1)))
    assert held(memory, NEW, later(5)) is not None
    memory = after(memory, later(6), seen_pod(2, created=later(1)), session(2, connected=later(6)))
    assert held(memory, NEW, later(6)) is None
    assert failing(memory, NEW) is None


def test_another_template_is_tried_at_once() -> None:
    memory = crash(known(), 1, NOON, template=OLD)
    assert held(memory, OLD, NOON) is not None
    assert held(memory, NEW, NOON) is None


def test_pods_that_ended_before_the_operator_looked_are_no_failures_of_theirs() -> None:
    memory = after(StartMemory(), NOON, seen_pod(phase="Failed", created=ago(5)))
    assert memory.backoffs == {}


def test_each_reason_has_its_own_backoff_and_the_longest_counts() -> None:
    memory = crash(known(), 1, NOON)
    memory = crash(memory, 2, later(10))
    memory = refused(memory, NEW, "quota exceeded", later(12))
    found = held(memory, NEW, later(15))
    assert found is not None
    assert (found.trouble, found.until) == (StartTrouble.CRASH, later(30))
    assert memory.backoffs[StartTrouble.REFUSED].until == later(22)


def test_a_pod_that_is_taken_ends_the_backoff_of_those_that_were_refused() -> None:
    memory = refused(refused(known(), NEW, "quota exceeded", NOON), NEW, "quota exceeded", later(10))
    found = held(memory, NEW, later(11))
    assert found is not None
    assert (found.trouble, found.words, found.until) == (
        StartTrouble.REFUSED,
        "quota exceeded",
        later(30),
    )
    assert held(accepted(memory), NEW, later(11)) is None


def test_a_marked_pod_does_not_fail() -> None:
    assert failures(seen_pod(created=ago(3600)), mark(since=ago(3600)), age=TIMEOUT * 2) == []
